"""The processes that train together: each has a share of every batch, and all see the whole of it where losses do.

Every process computes the loss of the whole batch from features gathered from all; what flows back into a process are
the gradients of its own rows. Their sum over the processes is therefore the gradient that one process alone would have,
without any averaging that would have to know how large the shares are.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed

from csd_core.system.errors import TrainingError

PATIENCE = 10.0
"""Seconds in which the starter of a process that lost another ends it; the other one has said why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessGroup:
    """This process among those that train together. Alone it does nothing at all, not even a copy.

    Attributes:
        rank: This process, from 0.
        count: How many there are.
        local_rank: This process among those of its machine, from 0.
        local_count: How many of them its machine has.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def share(self, total: int) -> slice:
        """Return which of `total` rows are this process's: equal shares in order, the first ones larger by one."""
        return slice(*_bounds(total, rank=self.rank, count=self.count))

    def gather(self, rows: Tensor, *, total: int) -> Tensor:
        """The rows of all processes, (total, ...), of which these are this one's share; gradients flow back into it."""
        if self.count == 1:
            return rows
        gathered: Tensor = _Gather.apply(rows, total, self)
        return gathered

    def stack(self, values: Tensor) -> Tensor:
        """Return a tensor of each process, all of one shape, as (count, ...); without gradient."""
        values = values.contiguous()
        each = [torch.empty_like(values) for _ in range(self.count)]
        with _together():
            distributed.all_gather(each, values)
        return torch.stack(each)

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over the processes, in place; without gradient."""
        with _together():
            distributed.all_reduce(values)
        return values

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace each gradient by its sum over the processes, all of them in one message."""
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        summed = self.sum(torch.cat([gradient.reshape(-1) for gradient in gradients]))
        for gradient, part in zip(gradients, torch.split(summed, [each.numel() for each in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def from_first(self, number: float | None) -> float | None:
        """Return the first process's number; what the others give is ignored."""
        if self.count == 1:
            return number
        shared = torch.tensor(float("nan") if number is None else number, dtype=torch.float64)
        with _together():
            distributed.broadcast(shared, src=0)
        return None if shared.isnan() else shared.item()

    def wait(self) -> None:
        """Go on when all processes are here."""
        if self.count > 1:
            self.stack(torch.zeros(1))


ALONE = ProcessGroup()
"""One process."""


def _bounds(total: int, *, rank: int, count: int) -> tuple[int, int]:
    size, larger = divmod(total, count)
    start = rank * size + min(rank, larger)
    return start, start + size + (rank < larger)


@contextmanager
def _together() -> Iterator[None]:
    """A step that all processes take.

    Raises:
        TrainingError: if another process ended or cannot be reached.
    """
    try:
        yield
    except RuntimeError as error:
        time.sleep(PATIENCE)
        reason = " ".join(str(error).split())
        raise TrainingError(
            f"another training process cannot be reached any more ({reason}); see what became of it, and run again to "
            "resume"
        ) from None


class _Gather(torch.autograd.Function):
    """Shares of rows to all rows, and the gradient of all rows to that of the share.

    Every process has the whole loss, so that each has the gradient of its own rows already: nothing is sent back.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, total: int, ranks: ProcessGroup) -> Tensor:
        ctx.share = ranks.share(total)
        bounds = [_bounds(total, rank=rank, count=ranks.count) for rank in range(ranks.count)]
        largest = bounds[0][1]
        padded = rows.new_zeros((largest, *rows.shape[1:]))  # a message has one size
        padded[: len(rows)] = rows
        return torch.cat([each[: end - start] for each, (start, end) in zip(ranks.stack(padded), bounds, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient[ctx.share], None, None
