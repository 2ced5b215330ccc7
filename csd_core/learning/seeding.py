"""Random numbers that depend on what they are for, and on nothing that ran before."""

import hashlib

import torch


def keyed_generator(*key: int | str) -> torch.Generator:
    """Return a CPU generator seeded by `key`, such as (seed, task, epoch).

    Every epoch draws from a generator of its own, so that a resumed run draws what an uninterrupted one would have.
    """
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
