"""What production serves now: the active release, its model, and the snapshot that its queries search."""

from csd_core.live.index.files import SearchIndex
from csd_core.live.search import Snapshot
from csd_core.releases.candidate import Production
from csd_core.releases.contents.release import INDEX, Release
from csd_core.retrieval.embedder import Embedder
from csd_core.system.errors import ArtifactError


def active_release(production: Production) -> Release:
    """Return the release that production serves.

    Raises:
        ArtifactError: if nothing was published yet.
    """
    release = production.releases.active()
    if release is None:
        raise ArtifactError("no release is active, so there is no gallery to search; run `csd publish`")
    return release


def embedder_of(production: Production, release: Release) -> Embedder:
    """Return the model of a release."""
    runtime = production.params.runtime
    return Embedder.load(release.embedder, device=runtime.device, threads=runtime.threads)


def query_embedders(production: Production, release: Release) -> dict[str, Embedder]:
    """Return the models whose queries search a release's rows, each by its digest."""
    runtime = production.params.runtime
    return {
        model: Embedder.load(
            release.folder / release.queries_of(model)["fp32"].file, device=runtime.device, threads=runtime.threads
        )
        for model in (release.record.model, *release.older_models)
    }


def snapshot_of(production: Production, release: Release) -> Snapshot:
    """Return the rows of a release as they are now, for its models to search."""
    return Snapshot.load(
        production.live,
        release.table,
        release.rules,
        index=SearchIndex.of(release.folder / INDEX),
        probes=production.params.live.index_probes,
    )
