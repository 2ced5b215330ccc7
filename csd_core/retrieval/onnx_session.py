"""Open ONNX files that say what they are."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import onnxruntime as ort

from csd_core.system.errors import ArtifactError, message_of

Metadata = TypeVar("Metadata")


def has_cuda() -> bool:
    """Return whether this onnxruntime computes on a GPU."""
    return "CUDAExecutionProvider" in ort.get_available_providers()


def open_session(
    model: str | Path | bytes,
    read: Callable[[Mapping[str, str]], Metadata],
    *,
    what: str,
    threads: int,
    providers: Sequence[Any],
) -> tuple[ort.InferenceSession, Metadata]:
    """Return a session on a file, and what the file says about itself.

    Args:
        model: The ONNX file, or its bytes.
        read: Reads its metadata properties; a KeyError means that it is something else.
        what: What it should be, for messages.
        threads: CPU threads; 0 leaves the choice to onnxruntime.
        providers: Of onnxruntime, the preferred first.

    Raises:
        ArtifactError: if the file is missing, is something else, or onnxruntime cannot load it.
    """
    file = Path("bytes in memory") if isinstance(model, bytes) else Path(model)
    if not isinstance(model, bytes) and not file.is_file():
        raise ArtifactError(f"{file}: there is no such {what}; run `csd run` to make it")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # it takes the cores from other work
    try:
        session = ort.InferenceSession(
            model if isinstance(model, bytes) else str(file), options, providers=list(providers)
        )
        return session, read(session.get_modelmeta().custom_metadata_map)
    except KeyError as error:
        raise ArtifactError(f"{file}: no {what} of csd: metadata {error} is missing; make it with csd") from None
    except Exception as error:  # onnxruntime's errors share no better base class  # noqa: BLE001
        raise ArtifactError(f"{file}: onnxruntime cannot load it ({message_of(error)}); make it again") from None
