"""A trained model on disk: model.json and weights.safetensors, never a pickle."""

from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from csd_core.learning.networks.network import EmbeddingNetwork
from csd_core.records.stages import ModelRecord
from csd_core.system.atomic import atomic_folder
from csd_core.system.errors import ArtifactError

RECORD, WEIGHTS = "model.json", "weights.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainedModel:
    """A network and what it is."""

    record: ModelRecord
    network: EmbeddingNetwork


def plain(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU, each laid out row by row, as files hold them."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}


def save_model(model: TrainedModel, folder: Path) -> None:
    """Write the model's folder, whole or not at all; equal weights give equal bytes."""
    with atomic_folder(folder) as partial:
        model.record.save(partial / RECORD)
        safetensors.torch.save_file(plain(model.network.state_dict()), partial / WEIGHTS)


def load_model(folder: Path) -> TrainedModel | None:
    """Read a model's folder; None at genesis, where there is no model.

    Raises:
        ArtifactError: if a file is missing, damaged or does not fit the other.
    """
    record = ModelRecord.load(folder / RECORD)
    if record.task is None:
        return None
    file = folder / WEIGHTS
    if record.network is None or record.images is None:
        raise ArtifactError(f"{folder / RECORD}: a trained model needs network and images; make it again")
    form = record.images
    network = EmbeddingNetwork(record.network, channels=form.channels, pixels=form.size, classes=len(record.classes))
    try:
        network.load_state_dict(safetensors.torch.load_file(file))
    except FileNotFoundError:
        raise ArtifactError(f"{file}: missing; run `csd run` to make it") from None
    except safetensors.SafetensorError as error:
        raise ArtifactError(f"{file}: damaged ({error}); make it again") from None
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ArtifactError(f"{file}: does not fit model.json beside it ({reason}); make both again") from None
    return TrainedModel(record=record, network=network)
