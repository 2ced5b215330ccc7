"""What the listing of a batch means: its images, its marker, and why it could not be taken."""

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from csd_core.data.sources.flaws import DEEPEST, OTHER, TOO_DEEP
from csd_core.data.sources.folder import IGNORED
from csd_core.records.stages import Digest
from csd_core.retraining.storage import StoredFile
from csd_core.system.names import UNPRINTABLE, UNUSABLE_NAME, class_flaw, printable

READY = "_READY"
"""The marker in a batch's folder."""

_NAME = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,64}")


class Piece(NamedTuple):
    """A file of a batch."""

    parts: list[str]
    """Of its path in the batch; none if the batch itself is no folder."""
    entry: StoredFile


class Contents(NamedTuple):
    """What a batch holds."""

    files: dict[str, StoredFile]
    """<class, in NFC>/<rest of the path> -> a file that may be an image."""
    marker: StoredFile | None
    problems: tuple[str, ...]
    """Why it cannot be taken, each a sentence without its subject's batch."""

    @property
    def sizes(self) -> dict[str, int]:
        """Path -> bytes."""
        return {path: entry.size for path, entry in self.files.items()}

    def without(self, classes: Collection[str]) -> "Contents":
        """Return the same without the files of some classes."""
        kept = {path: entry for path, entry in self.files.items() if path.split("/", 1)[0] not in classes}
        return self._replace(files=kept)


def is_usable(name: str) -> bool:
    """Return whether a batch may be called so: its name becomes that of a folder of images."""
    return _NAME.fullmatch(name) is not None and name not in IGNORED


def is_litter(name: str, pieces: Iterable[Piece]) -> bool:
    """Return what file managers and programs that copy leave beside the batches; marked as ready it is a mistake."""
    return _is_ignored(name) and name not in _ELSEWHERE and not any(piece.parts == [READY] for piece in pieces)


def digest_of(sizes: Mapping[str, int]) -> Digest:
    """sha256 over paths and sizes."""
    sha = hashlib.sha256()
    for path in sorted(sizes):
        sha.update(f"{path}\0{sizes[path]}\n".encode())
    return sha.hexdigest()


def contents_of(pieces: Iterable[Piece]) -> Contents:
    """Return what a batch's files are."""
    files: dict[str, StoredFile] = {}
    marker: StoredFile | None = None
    mistakes: defaultdict[str, list[str]] = defaultdict(list)
    for parts, entry in sorted(pieces):
        shown = "/".join(parts)
        if parts == [READY] and entry.kind == "file":
            marker = entry
        elif _ELSEWHERE.intersection(parts):
            mistakes["has a path that leads elsewhere; rename it"].append(shown)
        elif any(map(_is_ignored, parts)):
            continue
        elif mistake := _mistake(parts, entry):
            mistakes[mistake].append(shown)
        else:
            path = "/".join((unicodedata.normalize("NFC", parts[0]), *parts[1:]))
            if path in files:
                mistakes["is there twice, for two folders spell its class alike; rename one"].append(shown)
            files[path] = entry
    if not files and not mistakes:
        mistakes["holds no images"].append("")
    if marker is not None and marker.written is None:
        mistakes["has no time of writing in this storage"].append(READY)
    return Contents(files, marker, tuple(_in_lines(mistakes)))


_ELSEWHERE = frozenset({"", ".", ".."})
"""Parts of a path that an object store allows, and that lead elsewhere in a folder."""

_NO_BATCH = {
    "file": "is no folder; a batch is a folder of class folders",
    "link": "is a link, which is not followed; copy the batch here",
    "unreadable": "cannot be listed; let csd read it",
    "other": "is no folder; a batch is a folder of class folders",
}
_NO_IMAGE = {
    "link": "is a link, which is not followed; copy what it leads to",
    "unreadable": "cannot be listed; let csd read it",
    "other": OTHER,
}


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name in IGNORED


def _mistake(parts: list[str], entry: StoredFile) -> str | None:  # noqa: PLR0911 - one for each mistake
    """Return why a file makes its batch unusable."""
    if not parts:
        return _NO_BATCH[entry.kind]
    if any(map(UNPRINTABLE.search, parts)):
        return UNUSABLE_NAME
    if entry.kind != "file":
        return _NO_IMAGE[entry.kind]
    if len(parts) == 1:
        return "lies beside the class folders; move it into one"
    if parts[0] == READY:
        return f"lies in a folder {READY}, but the marker is a file; rename the class"
    flaw = class_flaw(unicodedata.normalize("NFC", parts[0]))
    if flaw:
        return f"lies in a folder that cannot be a class: {flaw}"
    return TOO_DEEP if len(parts) > DEEPEST + 1 else None


def _in_lines(mistakes: Mapping[str, list[str]]) -> Iterator[str]:
    for mistake, paths in mistakes.items():
        more = f" (and {len(paths) - 1} more)" if len(paths) > 1 else ""
        yield f"{printable(min(paths))} {mistake}{more}".lstrip()
