"""Whose a live gallery is: one project writes to it.

The project's id lies beside its releases, for releases and gallery belong together: a checkout or a service that shares
the releases is the same project, a clone without them is another one. The gallery's catalogue names the owner, and the
line of the owner's audit log with which a release was last begun there; so a copy of a project, or an old backup of its
releases, is told from the one whose releases the gallery holds now. A copy beside its original is told from it at its
first write, for the catalogue names the original's folder too, and that has the same id in another file. Where machines
share the releases, the id lies there, and the catalogue names their address.
"""

import socket
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from csd_core.audit.log import AuditLog, Trail
from csd_core.live.storage.catalogue import Catalogue, Owner
from csd_core.objects.store import ConflictError, Objects
from csd_core.system.atomic import write_text
from csd_core.system.errors import CompatibilityError

FILE = "project"
_REMEDY = (
    "name another live.uri in params.yaml, or make the gallery this project's with `csd items take-over --why REASON`"
)


class Project:
    """A project as the owner of a live gallery.

    Args:
        releases: The folder of its releases.
        shared: Where they lie, if machines share them and the folder is a copy; then the project is there.
    """

    def __init__(self, releases: Path, *, shared: Objects | None = None) -> None:
        self._releases = releases
        self._file = releases / FILE
        self._shared = shared
        self._known: str | None = None

    def owner(self, catalogue: Catalogue, uri: str) -> Owner:
        """Whose the gallery is from this write on: this project's, or nothing is written.

        Raises:
            CompatibilityError: if it belongs to another project.
        """
        if catalogue.owner is not None:
            if not self.is_of_another(catalogue.owner, uri):
                return self._moved(catalogue.owner)
            raise CompatibilityError(
                f"live gallery {uri}: it belongs to the project at {catalogue.owner.place}, so nothing was written; "
                f"{_REMEDY}"
            )
        if catalogue.entries and not catalogue.entries.keys() & self._tables():
            raise CompatibilityError(
                f"live gallery {uri}: none of its {len(catalogue.entries)} tables is of a release of this project, so "
                f"nothing was written; {_REMEDY}"
            )
        return self.as_owner()

    def is_of_another(self, owner: Owner, uri: str) -> bool:
        """Whether an owner is another project, or the one that this one was copied from.

        A gallery that lies in the project's folder was copied with it, so that each has its own.
        """
        if owner.project != self._id():
            return True
        if self._shared is not None:
            return owner.place != self._shared.uri
        if "://" not in uri and Path(uri).resolve().is_relative_to(self._releases.parent.resolve()):
            return False
        there = self._file_at(owner)
        return self._has_my_id(there) and not there.samefile(self._file)

    def as_owner(self) -> Owner:
        """This project, with an id that it keeps from now on."""
        mine = self._id()
        if self._shared is not None:
            return Owner(mine or self._named(self._shared), self._shared.uri)
        if mine is None:
            mine = uuid4().hex
            write_text(self._file, mine + "\n")
        return Owner(mine, f"{socket.gethostname()}:{self._releases.absolute().parent}")

    def _moved(self, owner: Owner) -> Owner:
        """This project as the owner: where it is now, if this machine shows that it was moved."""
        if self._shared is not None:
            return owner
        here = self.as_owner()
        on_this_machine = owner.place.partition(":")[0] == here.place.partition(":")[0]
        return here if on_this_machine and not self._has_my_id(self._file_at(owner)) else owner

    def _file_at(self, owner: Owner) -> Path:
        return Path(owner.place.partition(":")[2]) / self._releases.name / FILE

    def _has_my_id(self, file: Path) -> bool:
        try:
            return file.read_text("utf-8", errors="replace").strip() == self._id()
        except OSError:
            return False  # it is not there, or not for this user to see

    def _named(self, shared: Objects) -> str:
        """Give the project an id, unless another machine has just done it."""
        with suppress(ConflictError):
            shared.swap(FILE, f"{uuid4().hex}\n".encode(), known=None)
        return str(self._id())

    def _id(self) -> str | None:
        if self._shared is not None:
            if self._known is None and (found := self._shared.get(FILE)):
                self._known = found.body.decode(errors="replace").strip()
            return self._known
        return self._file.read_text("utf-8", errors="replace").strip() if self._file.is_file() else None

    def _tables(self) -> set[str]:
        """Tables that the project's releases have, or would have had."""
        folders = self._releases.iterdir() if self._releases.is_dir() else ()
        begun = {entry.table for entry in AuditLog(self._releases).read().entries if entry.table}
        return begun | {f"gallery-{path.name}" for path in folders}


def refuse_other_history(catalogue: Catalogue, trail: Trail, uri: str) -> None:
    """Refuse to change releases where the gallery was changed by a run that the audit log does not know.

    Raises:
        CompatibilityError: if a copy of the project, or the project before it was restored from a backup, did.
    """
    known = {trail.last, *(entry.previous for entry in trail.entries)}
    if catalogue.line and catalogue.line not in known:
        place = catalogue.owner.place if catalogue.owner else "another place"
        raise CompatibilityError(
            f"live gallery {uri}: a copy of this project (taken from {place}), or a state of it that was lost, has put "
            f"a release there which this audit log does not know, so nothing was changed; {_REMEDY}"
        )
