"""Batch norm over the shares of all processes: each normalises by the statistics of the whole batch.

torch's own runs on GPUs alone; this one is the same formulas on any device, so that tests can hold them against one
process. N images of a share, C channels, H x W pixels; all sums are over N, H and W.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

from csd_core.learning.distributed.group import ProcessGroup
from csd_core.system.errors import TrainingError

PIXELS = (0, 2, 3)

AFTER = ("drop", "act")
"""Parts of timm's BatchNormAct2d."""


class RankedBatchNorm(nn.BatchNorm2d):
    """Batch norm whose training mode sees the images of all processes."""

    def __init__(self, channels: int, *, eps: float, momentum: float, ranks: ProcessGroup) -> None:
        super().__init__(channels, eps=eps, momentum=momentum)
        self._momentum, self._ranks = momentum, ranks

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same; N may be 0 here as long as it is not everywhere."""
        if not self.training:
            return self.after(super().forward(x))
        y: Tensor
        y, mean, variance = _Normalise.apply(x, self.weight, self.bias, self.eps, self._ranks)
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self._momentum)
            self.running_var.lerp_(variance.to(self.running_var.dtype), self._momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        return self.after(y)

    def after(self, y: Tensor) -> Tensor:
        """Apply what timm's batch norms do in the same module: dropout and activation."""
        for name in AFTER:
            y = getattr(self, name)(y) if hasattr(self, name) else y
        return y


class _Normalise(torch.autograd.Function):
    """y = (x - mean) / sqrt(variance + eps) * weight + bias; also the mean and the unbiased variance, both (C,)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, ranks: ProcessGroup
    ) -> tuple[Tensor, Tensor, Tensor]:
        values = x.to(torch.promote_types(x.dtype, torch.float32))
        count = x.numel() // x.shape[1]
        mean = values.mean(PIXELS) if count else values.new_zeros(x.shape[1])
        squares = (values - mean[:, None, None]).square().sum(PIXELS)
        # Means and squared deviations from them combine without the cancellation that sums of squares suffer.
        each = ranks.stack(torch.cat([mean, squares, mean.new_tensor([float(count)])]))
        means, squares, counts = torch.split(each, [x.shape[1], x.shape[1], 1], dim=1)
        total = counts.sum()
        mean = (counts * means).sum(0) / total
        squares = (squares + counts * (means - mean).square()).sum(0)
        scale = (squares / total + eps).rsqrt()
        y = (values - mean[:, None, None]) * (scale * weight)[:, None, None] + bias[:, None, None]
        ctx.save_for_backward(x, weight, mean, scale, total)
        ctx.ranks = ranks
        variance = squares / (total - 1)
        ctx.mark_non_differentiable(mean, variance)
        return y.to(x.dtype), mean, variance

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        x, weight, mean, scale, total = ctx.saved_tensors
        gradient = gradient.to(mean.dtype)
        normal = (x.to(mean.dtype) - mean[:, None, None]) * scale[:, None, None]
        own = torch.stack([gradient.sum(PIXELS), (gradient * normal).sum(PIXELS)])
        # Weight and bias get the share's gradient, as every parameter does; x moves the statistics of all shares.
        along, across = (ctx.ranks.sum(own.clone()) / total)[:, :, None, None]
        moved = (gradient - along - normal * across) * (scale * weight)[:, None, None]
        return moved.to(x.dtype), own[1], own[0], None, None


def share_statistics(network: nn.Module, ranks: ProcessGroup) -> None:
    """Let every batch norm of a network see all processes, in place; nothing where there is but one."""
    if ranks.count == 1:
        return
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm3d):
            raise TrainingError(
                f"compute.processes: {ranks.count}: {name} is a batch norm of vectors, which processes cannot share; "
                "write 1, or choose another architecture"
            )
        if isinstance(module, nn.BatchNorm2d):
            parent, _, attribute = name.rpartition(".")
            setattr(network.get_submodule(parent), attribute, _shared(module, ranks))


def _shared(old: nn.BatchNorm2d, ranks: ProcessGroup) -> RankedBatchNorm:
    """`old` with its own parameters and statistics, no copies of them."""
    momentum = cast("float", old.momentum)  # None would be a running mean of all batches; no network here has it
    new = RankedBatchNorm(old.num_features, eps=old.eps, momentum=momentum, ranks=ranks)
    new.weight, new.bias = old.weight, old.bias
    new.running_mean, new.running_var = old.running_mean, old.running_var
    new.num_batches_tracked = old.num_batches_tracked
    new.track_running_stats = old.track_running_stats
    for name in AFTER:
        if isinstance(part := getattr(old, name, None), nn.Module):
            setattr(new, name, part)
    return new.train(old.training)
