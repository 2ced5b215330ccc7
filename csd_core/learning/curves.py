"""The scalars of every epoch, written by DVCLive for `dvc plots` and editors that watch a run."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from csd_core.learning.checkpoint import Epoch
from csd_core.system.atomic import atomic_folder, copy_tree
from csd_core.system.errors import TrainingError


class Curves:
    """Curves of a running stage."""

    def __init__(self, live: Any) -> None:
        self._live = live

    def add(self, epoch: Epoch) -> None:
        """Write one epoch."""
        for name, value in epoch.items():
            self._live.log_metric(name, value)
        self._live.next_step()


@contextmanager
def live_curves(folder: Path, history: Iterable[Epoch]) -> Iterator[Curves]:
    """Write curves into `folder` from now on, after those of `history`, as if the run had never been interrupted."""
    from dvclive.live import Live  # noqa: PLC0415 - loads DVC, which only a training stage needs
    from scmrepo.exceptions import SCMError  # noqa: PLC0415 - comes with DVC

    shutil.rmtree(folder, ignore_errors=True)
    try:
        live: Any = Live(
            dir=str(folder), resume=False, report=None, save_dvc_exp=False, dvcyaml=None, monitor_system=False
        )
    except SCMError as error:
        reason = f"DVCLive cannot read the git repository ({error})"
        raise TrainingError(f"{reason}; commit the project and run again") from None
    curves = Curves(live)
    for epoch in history:
        curves.add(epoch)
    try:
        yield curves
    finally:
        live.end()


def save_curves(folder: Path, target: Path) -> None:
    """Copy the plot files alone (train/ce.tsv, ...), whole or not at all: a plots folder of DVC holds nothing else."""
    with atomic_folder(target) as partial:
        if (folder / "plots" / "metrics").is_dir():  # a stage of no epochs may have none
            copy_tree(folder / "plots" / "metrics", partial)
