# Two images of one project. `serve` answers queries and has neither torch, DVC nor Prefect; `flows` is the server and the
# worker of scheduled retraining. Neither holds a project: its folder is mounted at /project.
#
#     docker build --target serve --tag csd-serve:0.1.0 .
#     docker build --target flows --tag csd-flows:0.1.0 .
#
# Packages come from wherever pip is told to look; where that is written in a file, give it to the build:
#     docker build --secret id=pip,src=$HOME/.config/pip/pip.conf ...

ARG PYTHON=3.11.14-slim-trixie

# --- What both are installed with -------------------------------------------------------------------------------------------

FROM python:${PYTHON} AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /source
RUN python -m venv /opt/csd
ENV PATH=/opt/csd/bin:$PATH
# Without the code these describe an empty package, whose dependencies make a layer that a change of code leaves alone.
COPY pyproject.toml constraints.txt README.md LICENSE ./

FROM builder AS serve-builder
RUN --mount=type=secret,id=pip,target=/etc/pip.conf pip install --constraint constraints.txt '.[serve,store]'
COPY csd_core csd_core
COPY flows flows
RUN --mount=type=secret,id=pip,target=/etc/pip.conf pip install --no-deps --force-reinstall .

FROM builder AS flows-builder
RUN --mount=type=secret,id=pip,target=/etc/pip.conf pip install --constraint constraints.txt '.[flows]'
COPY csd_core csd_core
COPY flows flows
RUN --mount=type=secret,id=pip,target=/etc/pip.conf pip install --no-deps --force-reinstall .

# --- What both run in -------------------------------------------------------------------------------------------------------

FROM python:${PYTHON} AS runtime
# The root file system may be read-only: what is not the project's goes to /tmp. The user has no entry in /etc/passwd, and
# any other number does as well, such as that of the folder's owner; so its name, which the audit log asks for, is set here.
ENV PATH=/opt/csd/bin:$PATH \
    HOME=/tmp \
    USER=csd \
    LOGNAME=csd \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /project
STOPSIGNAL SIGTERM
LABEL org.opencontainers.image.title="csd" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"

# --- Scheduled retraining ---------------------------------------------------------------------------------------------------

FROM runtime AS flows
# hadolint ignore=DL3008 # Debian keeps one version of a package, so a pinned one fails with its next security update
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -m 1777 /prefect /work
COPY --from=flows-builder /opt/csd /opt/csd
COPY deploy/worker.py /opt/csd/worker.py
ENV PREFECT_HOME=/tmp/prefect \
    DVC_SITE_CACHE_DIR=/tmp/dvc \
    DVC_NO_ANALYTICS=1
LABEL org.opencontainers.image.description="csd: server and worker of scheduled retraining"
USER 10001:10001
EXPOSE 4200 4201
CMD ["python", "/opt/csd/worker.py"]

# --- The service; last, so that a build without --target makes it -----------------------------------------------------------

FROM runtime AS serve
COPY --from=serve-builder /opt/csd /opt/csd
LABEL org.opencontainers.image.description="csd serve: embeddings and search over HTTP"
VOLUME /project
USER 10001:10001
EXPOSE 8000
# Without a proxy, which the environment may name for other addresses.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "from urllib.request import ProxyHandler, build_opener; build_opener(ProxyHandler({})).open('http://127.0.0.1:8000/readyz', timeout=4)"]
CMD ["csd", "serve", "--host", "0.0.0.0", "--port", "8000"]
