"""The blocks of a backbone in the order of its modules, whatever its family.

By them it is said what stays as it is, what learns slower, and what is computed twice to save memory.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def blocks_of(backbone: nn.Module) -> list[list[nn.Module]]:
    """Return the blocks, each as the modules it has, first to last.

    A block is what a network repeats: a residual block, an encoder layer. Containers, modules of a class of their own,
    such as an encoder, and stages, which have a container of equal blocks, are opened. A layer outside such a block is
    one of its own, but for a norm: that belongs to the block before it.
    """
    classes = Counter(type(module) for module in backbone.modules() if _has_parts(module))
    blocks: list[list[nn.Module]] = []

    def collect(module: nn.Module) -> None:
        for child in module.children():
            if isinstance(child, CONTAINERS) or (_has_parts(child) and (classes[type(child)] == 1 or _is_stage(child))):
                collect(child)
            elif any(True for _ in child.parameters()):
                if blocks and all(each.ndim < 2 for each in child.parameters()):  # noqa: PLR2004 - no matrix: a norm
                    blocks[-1].append(child)
                else:
                    blocks.append([child])

    collect(backbone)
    return blocks


def _has_parts(module: nn.Module) -> bool:
    return any(True for _ in module.children())


def _is_stage(module: nn.Module) -> bool:
    """Return whether it has a container of blocks of one class."""
    for child in module.children():
        if isinstance(child, CONTAINERS):
            inner = [type(each) for each in child.children() if _has_parts(each) and not isinstance(each, CONTAINERS)]
            if len(set(inner)) < len(inner):
                return True
    return False


def first_blocks(backbone: nn.Module, share: float) -> list[nn.Module]:
    """Return the modules of the first `share` of the blocks."""
    blocks = blocks_of(backbone)
    return [module for block in blocks[: round(share * len(blocks))] for module in block]


def freeze(backbone: nn.Module, share: float) -> list[nn.Module]:
    """Take the gradients of the first `share` of the blocks, in place, and of what lies before them.

    Returns:
        Their modules, which a caller keeps in evaluation mode: so the statistics of batch norm stay too.
    """
    frozen = first_blocks(backbone, share)
    for module in frozen:
        module.requires_grad_(requires_grad=False)
    if frozen:
        in_blocks = {id(each) for block in blocks_of(backbone) for module in block for each in module.parameters()}
        for parameter in backbone.parameters():
            if id(parameter) not in in_blocks:  # tokens, position embeddings
                parameter.requires_grad = False
    return frozen


def rate_shares(backbone: nn.Module, decay: float) -> dict[nn.Parameter, float]:
    """Return what each parameter's learning rate is multiplied by: decay^(number of blocks from it to the end).

    A parameter outside all blocks, such as a position embedding, learns as the first block does (Clark et al., ICLR
    2020; Bao et al., ICLR 2022).
    """
    blocks = blocks_of(backbone)
    shares = dict.fromkeys(backbone.parameters(), decay ** len(blocks))
    for number, block in enumerate(blocks):
        for module in block:
            shares |= dict.fromkeys(module.parameters(), decay ** (len(blocks) - number))
    return shares


@contextmanager
def checkpointed(backbone: nn.Module) -> Iterator[None]:
    """Let each block of a forward pass keep its input alone, and compute it again for its gradients."""
    modules = [module for block in blocks_of(backbone) for module in block if _has_parts(module)]
    try:
        for module in modules:
            contexts = partial(_contexts, module)
            module.forward = partial(checkpoint, module.forward, use_reentrant=False, context_fn=contexts)
        yield
    finally:
        for module in modules:
            module.__dict__.pop("forward", None)


def _contexts(module: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _uncounted(module)


@contextmanager
def _uncounted(module: nn.Module) -> Iterator[None]:
    """While a block is computed again: batch norm does not count the batch a second time."""
    statistics = [each for norm in batch_norms(module) for each in norm.buffers()]
    before = [each.clone() for each in statistics]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(statistics, before, strict=True):
                buffer.copy_(value)


def batch_norms(module: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Return every batch norm of a network."""
    return [each for each in module.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]  # noqa: SLF001 - their common class
