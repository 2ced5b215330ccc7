"""What stores of one file share: second vectors as parts in a folder beside the file, switched by renaming.

items.index                    the file that services read
.items.index.csd-KEY/          an upgrade: part-00000.parquet …, and after a switch
    before  after              hard links to the file before and after
    active                     there while `after` is in the file's place
"""

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from csd_core.stores.protocol import Floats, Held, Rows, Strings
from csd_core.system.atomic import atomic_file
from csd_core.system.errors import ArtifactError
from csd_core.system.locks import Lock


class FileStore(ABC):
    """A file of vectors.

    Attributes:
        path: The file.
        name: For messages.
    """

    def __init__(self, path: Path, *, name: str) -> None:
        if not path.is_file():
            raise ArtifactError(f"{name}: there is no such file")
        self.path, self.name = path, name

    @abstractmethod
    def count(self) -> int:
        """Return the number of rows."""

    @abstractmethod
    def rows(self) -> Iterator[Rows]:
        """Yield the rows that have a vector."""

    @abstractmethod
    def assemble(self, target: Path, ids: Strings, vectors: Floats) -> None:
        """Write the same file with other vectors; rows without one are left out or have none.

        Args:
            target: File to write.
            ids: (n,) ascending.
            vectors: (n, D).
        """

    def alone(self) -> AbstractContextManager[None]:
        """Keep other upgrades out."""
        return Lock(self.path.with_name(f".{self.path.name}.csd.lock"), what=self.name).held(wait=0)

    def held(self) -> Held | None:
        """Return the upgrade whose folder is there."""
        prefix = f".{self.path.name}.csd-"
        found = sorted(each for each in self.path.parent.glob(f"{prefix}*") if each.is_dir())
        if not found:
            return None
        home = found[0]
        active = _same(self.path, home / "after") or (
            (home / "active").exists() and not _same(self.path, home / "before")
        )
        return Held(home.name.removeprefix(prefix), active)

    def begin(self, key: str, dimension: int) -> None:  # noqa: ARG002 - files have a dimension when they are assembled
        """Make the folder."""
        self._home(key).mkdir(exist_ok=True)

    def write(self, key: str, rows: Rows) -> None:
        """Write a part."""
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.vectors.ravel()), rows.vectors.shape[1])
        with atomic_file(self._home(key) / f"part-{len(self._parts(key)):05}.parquet") as partial:
            pq.write_table(pa.table({"id": pa.array(rows.ids.tolist(), pa.string()), "vector": vectors}), partial)

    def beside(self, key: str) -> Iterator[Rows]:
        """Yield the parts."""
        for part in self._parts(key):
            table = pq.read_table(part)
            if table.num_rows:  # all rows of a part may have been discarded
                flat = table["vector"].combine_chunks().flatten().to_numpy()
                yield Rows(np.array(table["id"].to_pylist(), np.str_), flat.reshape(table.num_rows, -1))

    def discard(self, key: str, ids: Strings) -> None:
        """Write the parts that have such rows again, without these."""
        gone = pa.array(ids.tolist(), pa.string())
        for part in self._parts(key):
            table = pq.read_table(part)
            stays = table.filter(pc.invert(pc.is_in(table["id"], gone)))
            if stays.num_rows < table.num_rows:
                with atomic_file(part) as partial:
                    pq.write_table(stays, partial)

    def switch(self, key: str) -> None:
        """Assemble the new file, keep the old one, rename."""
        home = self._home(key)
        parts = list(self.beside(key))
        ids, vectors = np.concatenate([each.ids for each in parts]), np.concatenate([each.vectors for each in parts])
        order = np.argsort(ids)
        with atomic_file(home / "after") as partial:
            self.assemble(partial, ids[order], vectors[order])
        _link(self.path, home / "before")
        _link(home / "after", self.path)
        (home / "active").touch()

    def undo(self, key: str) -> None:
        """Put the file before the upgrade back."""
        home = self._home(key)
        _link(home / "before", self.path)
        (home / "active").unlink(missing_ok=True)

    def clean(self, key: str) -> None:
        """Remove the folder."""
        home = self._home(key)
        doomed = home.with_name(f"{home.name.replace('.csd-', '.doomed-')}")
        home.rename(doomed)
        shutil.rmtree(doomed)

    def close(self) -> None:  # noqa: B027 - nothing is open
        """Do nothing."""

    def _home(self, key: str) -> Path:
        return self.path.with_name(f".{self.path.name}.csd-{key}")

    def _parts(self, key: str) -> list[Path]:
        return sorted(self._home(key).glob("part-*.parquet"))


def _link(source: Path, target: Path) -> None:
    """Make `target` another name of `source`, in place of what is there."""
    if _same(source, target):
        return
    partial = target.with_name(f".{target.name}.link")
    partial.unlink(missing_ok=True)
    os.link(source, partial)
    partial.replace(target)


def _same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)
