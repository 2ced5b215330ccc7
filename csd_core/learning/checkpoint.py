"""The state of an unfinished stage: one safetensors file, replaced whole after every epoch."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from csd_core.learning.distributed.group import ProcessGroup
from csd_core.learning.networks.weights import plain
from csd_core.system.atomic import atomic_file
from csd_core.system.console import echo
from csd_core.system.errors import TrainingError

FILE = "checkpoint.safetensors"

Epoch = dict[str, float]
"""The scalars of one epoch, by curve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingState:
    """How far a stage is.

    Attributes:
        history: One entry per finished epoch.
        best_epoch: Counted from 1; 0 before the first.
        best_recall: Its Recall@1; None where no select query can hit.
    """

    history: tuple[Epoch, ...] = ()
    best_epoch: int = 0
    best_recall: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """All that the next epoch depends on (random numbers depend on the epoch alone).

    Attributes:
        student: Weights and batch-norm statistics.
        optimizer: The optimiser's state, as `optimizer_state` names it.
        best: The weights of the best epoch.
    """

    progress: TrainingState
    student: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    best: dict[str, Tensor]

    def save(self, folder: Path) -> None:
        """Replace the checkpoint in `folder`, whole or not at all."""
        tensors = {
            f"{part}/{name}": tensor
            for part, group in (("student", self.student), ("optimizer", self.optimizer), ("best", self.best))
            for name, tensor in plain(group).items()
        }
        with atomic_file(folder / FILE) as partial:
            safetensors.torch.save_file(tensors, partial, metadata={"progress": json.dumps(asdict(self.progress))})

    @classmethod
    def load(cls, folder: Path) -> "Checkpoint | None":
        """Read the checkpoint in `folder`; None, with a line, where it is unreadable, and None where there is none."""
        file = folder / FILE
        if not file.is_file():
            return None
        parts: dict[str, dict[str, Tensor]] = {"student": {}, "optimizer": {}, "best": {}}
        try:
            with safetensors.safe_open(file, framework="pt") as opened:
                values = json.loads(opened.metadata()["progress"])
                for key in opened.keys():  # noqa: SIM118 - no mapping
                    part, _, name = key.partition("/")
                    parts[part][name] = opened.get_tensor(key)
            progress = TrainingState(
                history=tuple(values["history"]), best_epoch=values["best_epoch"], best_recall=values["best_recall"]
            )
        except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
            echo(f"{file}: damaged checkpoint discarded ({error}); training starts again")
            discard(folder)
            return None
        return cls(progress=progress, student=parts["student"], optimizer=parts["optimizer"], best=parts["best"])


def load_by_all(folder: Path, ranks: ProcessGroup) -> Checkpoint | None:
    """Return the checkpoint that all processes of a training find in `folder`; None where there is none.

    Raises:
        TrainingError: if they do not find the same.
    """
    found = Checkpoint.load(folder) if ranks.first else None
    ranks.wait()  # the first one discards what is damaged
    if not ranks.first:
        found = Checkpoint.load(folder)
    done = len(found.progress.history) if found else 0
    first_done = ranks.from_first(done)
    ranks.wait()  # the first one may have nothing left to train, and remove it
    if done != first_done:
        raise TrainingError(
            f"{folder}: training process {ranks.rank} finds {done} epochs there, the first one {first_done:.0f}; give "
            "all of them the same project folder"
        )
    return found


def discard(folder: Path) -> None:
    """Remove the scratch folder of a stage."""
    shutil.rmtree(folder, ignore_errors=True)


def optimizer_state(optimizer: torch.optim.Optimizer, names: list[str]) -> dict[str, Tensor]:
    """Return the optimiser's state as tensors named `parameter:key`; `names` are its parameters', in their order."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return {
        f"{name}:{key}": value
        for name, parameter in zip(names, parameters, strict=True)
        for key, value in optimizer.state[parameter].items()
        if value is not None
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, names: list[str], state: dict[str, Tensor]) -> None:
    """Put back what `optimizer_state` returned, in place."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    by_name = dict(zip(names, parameters, strict=True))
    for key, value in state.items():
        name, _, slot = key.rpartition(":")
        parameter = by_name[name]
        # Moments lie in memory as their parameter does: a fused optimiser walks both by address.
        moment = value.shape == parameter.shape
        empty = torch.empty_like(parameter) if moment else torch.empty_like(value, device=parameter.device)
        optimizer.state[parameter][slot] = empty.detach().copy_(value)
