"""The finished parts of a bulk embedding that is under way: a killed run leaves them to the next."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from csd_core.records.stages import Digest, Record
from csd_core.serving.bulk.files import FoundFile
from csd_core.system.atomic import atomic_file
from csd_core.system.console import echo
from csd_core.system.errors import ArtifactError, message_of
from csd_core.system.locks import Lock

_PLAN = "plan.json"
_JOINED = "joined.json"


class Plan(Record):
    """plan.json: the run to which the parts beside it belong."""

    model: Digest
    files: Digest
    """Over path, size and time of change of each."""
    batch: int
    part_rows: int

    def differences(self, other: "Plan") -> str:
        """Return in words how another plan differs from this one."""
        words = {"model": "another model", "files": "other files", "batch": "another batch size"}
        return " and ".join(
            words.get(name, "parts of another size")
            for name in type(self).model_fields
            if getattr(self, name) != getattr(other, name)
        )


class Joined(Record):
    """joined.json: the file that the parts beside it were joined to; renaming it changes none of this."""

    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, file: Path) -> "Joined":
        """Return what identifies a file."""
        facts = file.stat()
        return cls(inode=facts.st_ino, size=facts.st_size, mtime_ns=facts.st_mtime_ns)


class Parts:
    """Finished parts of a run, in a folder of their own.

    A part has a row for every file; one without a vector has a reason.

    Args:
        work: The folder.
        plan: Of this run.
        entries: All its files.
        dimension: D of a vector.

    Attributes:
        plan: Of this run.
        dimension: D of a vector.
        schema: Of what the run writes in the end.
    """

    def __init__(self, work: Path, plan: Plan, entries: Sequence[FoundFile], *, dimension: int) -> None:
        self.plan = plan
        self.dimension = dimension
        self.schema = pa.schema(
            [("path", pa.string()), ("id", pa.string()), ("vector", pa.list_(pa.float32(), dimension))]
        )
        self._work = work
        self._slices = [entries[at : at + plan.part_rows] for at in range(0, len(entries), plan.part_rows)]

    def __len__(self) -> int:
        return len(self._slices)

    def entries(self, number: int) -> Sequence[FoundFile]:
        """Return the files of a part."""
        return self._slices[number]

    def begin(self) -> None:
        """Keep the parts of an earlier run with the same plan; remove those of another."""
        home = self._work / _PLAN
        if home.is_file():
            try:
                differences = Plan.load(home).differences(self.plan)
            except ArtifactError:
                differences = "another format"
            if not differences:
                return
            echo(f"an unfinished run had {differences}; this run starts from the beginning")
        (self._work / _JOINED).unlink(missing_ok=True)
        for part in self._work.glob("part-*.parquet"):
            part.unlink()
        self.plan.save(home)

    def finished(self, number: int) -> bool:
        """Return whether a part is there, and whole."""
        try:
            return bool(pq.read_metadata(self._home(number)).num_rows == len(self.entries(number)))
        except (OSError, pa.ArrowException):
            return False

    def save(self, number: int, table: pa.Table) -> None:
        """Write a part, whole or not at all."""
        with atomic_file(self._home(number)) as partial:
            pq.write_table(table, partial, compression="zstd", use_dictionary=False)

    def table(self, number: int) -> pa.Table:
        """Read a finished part.

        Raises:
            ArtifactError: if it is damaged; it is removed, so that the next run makes it again.
        """
        home = self._home(number)
        try:
            return pq.read_table(home)
        except (OSError, pa.ArrowException) as error:
            home.unlink(missing_ok=True)
            raise ArtifactError(f"{home}: damaged ({message_of(error)}); run again, and it is made again") from None

    def joined(self, file: Path) -> None:
        """Note the file that they were joined to, before it gets its name."""
        Joined.of(file).save(self._work / _JOINED)

    def remove(self) -> None:
        """Remove the folder; the plan goes first, so that a rest of it is not taken for a run."""
        (self._work / _PLAN).unlink()
        shutil.rmtree(self._work)

    def _home(self, number: int) -> Path:
        return self._work / f"part-{number:05}.parquet"


def remove_joined(work: Path, target: Path) -> None:
    """Remove parts that a run left which was killed when `target` was whole; keep those of a run that would replace it.

    Raises:
        BusyError: if another process is writing `target`.
    """
    if not work.is_dir():
        return
    with Lock(work / "lock", what=str(target)).held(wait=0):
        if not (work / _PLAN).is_file() or _made(work, target):
            shutil.rmtree(work)


def _made(work: Path, target: Path) -> bool:
    try:
        return Joined.load(work / _JOINED) == Joined.of(target)
    except (ArtifactError, FileNotFoundError):
        return False
