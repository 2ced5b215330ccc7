"""One training, several processes: starting them through torchrun's launcher, joining them, and ending them as one."""

import logging
import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.distributed.rendezvous import rendezvous

from csd_core.learning.distributed.group import ALONE, ProcessGroup
from csd_core.system.console import echo
from csd_core.system.errors import CsdError

STARTER = "CSD_TRAINING_STARTER"
"""Environment variable: the process that started this one."""

SIGNALLED = 128
"""A shell adds the signal's number to it for an exit code."""


def launched() -> bool:
    """Return whether torchrun, or `launch`, started this process."""
    return distributed.is_torchelastic_launched()


def launch(count: int, module: str, *arguments: str) -> None:
    """Run `python -m module` in `count` processes, which `joined` brings together; return when all have succeeded.

    If one fails, the others are ended, and this process exits as it did. That none outlives this process is theirs to
    see to (`csd_core.stages.entry`).
    """
    # They load slowly, and one process needs none of them.
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException  # noqa: PLC0415
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError  # noqa: PLC0415
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch  # noqa: PLC0415

    logging.disable(logging.CRITICAL)  # the launcher's log of a failure is thirty lines; the process said what it was
    os.environ[STARTER] = str(os.getpid())
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=os.devnull),
    )
    try:
        elastic_launch(config, sys.executable)("-m", module, *arguments)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode >= 0:
            sys.exit(failure.exitcode)
        print(  # noqa: T201 - one line for a person
            f"training process {rank} of {count} was killed by signal {-failure.exitcode}, as when memory runs out; "
            "run again to resume",
            file=sys.stderr,
        )
        sys.exit(SIGNALLED - failure.exitcode)
    except SignalException as error:
        sys.exit(SIGNALLED + error.sigval)


@contextmanager
def joined() -> Iterator[ProcessGroup]:
    """Bring the processes together that torchrun started; alone where it did not.

    Inside, all but the first print nothing. Of errors, those of the process that fails first are raised; the others end
    quietly with its exit code, for most fail because it did, or in the same way.
    """
    if not launched() or os.environ["WORLD_SIZE"] == "1":
        yield ALONE
        return
    starter = os.environ.get(STARTER)
    if starter and os.getppid() != int(starter):
        sys.exit(1)  # it died while this process started
    store, rank, count = next(rendezvous("env://"))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=count)
    ranks = ProcessGroup(
        rank=rank,
        count=count,
        local_rank=int(os.environ["LOCAL_RANK"]),
        local_count=int(os.environ["LOCAL_WORLD_SIZE"]),
    )
    try:
        with _voice(ranks):
            yield ranks
    except KeyboardInterrupt:
        if not ranks.first:
            sys.exit(130)
        raise
    except CsdError as error:
        _leave_to_the_first(store, ranks, error.exit_code)
        raise
    except Exception:
        _leave_to_the_first(store, ranks, 1)
        raise
    finally:
        distributed.destroy_process_group()


@contextmanager
def _voice(ranks: ProcessGroup) -> Iterator[None]:
    if ranks.first:
        echo(f"{ranks.count} processes train together")
        yield
        return
    with Path(os.devnull).open("w", encoding="utf-8") as nothing, redirect_stdout(nothing):
        yield


def _leave_to_the_first(store: Any, ranks: ProcessGroup, exit_code: int) -> None:
    """Return in the process that fails first; exit as it did in the others."""
    mine = f"{ranks.rank}:{exit_code}"
    first = store.compare_set("csd/failed", "", mine).decode()
    if first != mine:
        sys.exit(int(first.partition(":")[2]))
