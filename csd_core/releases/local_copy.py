"""The copy of shared releases in a folder: each file is fetched by the sha256 that leads to it, and checked by it."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from csd_core.audit.checksums import CHECKSUMS, Checksums
from csd_core.audit.log import NOTHING, Trail, digest_of_line
from csd_core.objects.store import AT_ONCE, Objects, in_parallel
from csd_core.records.stages import Digest
from csd_core.releases.contents.release import LASTING, NAME
from csd_core.retrieval.embedder import digest_of
from csd_core.system.errors import ArtifactError

AUDIT = "audit/"
FEW = 8
"""Lines of the log that are fetched one after the other; more of them at the same time."""
RESTORE = "restore it from a backup or an earlier version of the object, then run `csd verify --all`"
_LINE = re.compile(rf"{AUDIT}(\d+)-([0-9a-f]+)\.json")


class LocalCopy:
    """A copy of shared releases.

    Args:
        objects: What lies at their address.
        root: Folder of the copy.
        faithful: Copy what is damaged as it is, for a verification to find; otherwise it is an error.
    """

    def __init__(self, objects: Objects, root: Path, *, faithful: bool) -> None:
        self.objects, self.root = objects, root
        self._faithful = faithful

    def files(self, name: str, trail: Trail) -> None:
        """Copy all files of a release that are not here, or not as they were recorded."""
        self.record(name, trail)
        if (self.root / name / CHECKSUMS).is_file():
            files = Checksums.load(self.root / name / CHECKSUMS).files
            wanted = LASTING & files.keys() if name in trail.retired else files.keys()
            in_parallel(partial(self._file, name, file, files[file].sha256) for file in sorted(wanted))

    def upload(self, name: str) -> None:
        """Upload the files of a release that are not in the store yet; what its content names is never replaced."""
        folder = self.root / name
        files = Checksums.load(folder / CHECKSUMS).files
        sums = {**{file: found.sha256 for file, found in files.items()}, CHECKSUMS: digest_of(folder / CHECKSUMS)}
        there = set(self.objects.listed(f"{name}/"))
        keys = {file: file_key(name, sha256, file) for file, sha256 in sums.items()}
        in_parallel(partial(self.objects.put, key, folder / file) for file, key in keys.items() if key not in there)

    def record(self, name: str, trail: Trail) -> None:
        """Copy what `Release.load` needs of a release, if the copy is of other checksums than the log's."""
        path, wanted = self.root / name / CHECKSUMS, str(trail.checksums_of(name))
        if path.is_file() and digest_of(path) == wanted and all((path.parent / file).is_file() for file in LASTING):
            return
        try:
            path.unlink(missing_ok=True)  # written last
            fetched = path.with_name(f".{CHECKSUMS}.fetched")
            self._file(name, CHECKSUMS, wanted, to=fetched)
            if fetched.is_file():
                files = Checksums.load(fetched).files
                for file in sorted(LASTING & files.keys()):
                    self._file(name, file, files[file].sha256)
                fetched.replace(path)
        except ArtifactError:
            if not self._faithful:
                raise

    def _file(self, name: str, file: str, sha256: Digest, *, to: Path | None = None) -> None:
        target = to or self.root / name / file
        if target.is_file() and not target.is_symlink() and digest_of(target) == sha256:
            return
        key = file_key(name, sha256, file)
        if not target.resolve().is_relative_to(self.root.resolve()):
            raise ArtifactError(f"{self.objects.uri}/{key}: leads out of the release's folder; {RESTORE}")
        try:
            self.objects.fetch(key, target)
        except ArtifactError:
            if self._faithful:
                return  # `verify` says that it is missing
            raise
        if not self._faithful and digest_of(target) != sha256:
            target.unlink()
            raise ArtifactError(f"{self.objects.uri}/{key}: was changed: its sha256 is not the recorded one; {RESTORE}")

    def lines(self, here: list[bytes], *, count: int, last: Digest) -> list[bytes]:
        """Return the lines of the log, the newest from the store; each is found by the sha256 in the one after it.

        Args:
            here: Lines that were copied before.
            count: How many there are now.
            last: sha256 of the last one.
        """
        fetched: list[bytes] = []
        listed = self._listed_lines(count) if count - len(here) > FEW or self._faithful else {}
        want = last
        for number in range(count, 0, -1):
            if number <= len(here) and digest_of_line(here[number - 1]) == want:
                return [*here[:number], *reversed(fetched)]
            line = listed.get((number, want[:16])) or self._line(number, want)
            if line is None and self._faithful:
                line = next((body for (each, _), body in listed.items() if each == number), b"{}")
            if line is None or (digest_of_line(line) != want and not self._faithful):
                what = "is gone" if line is None else "was changed"
                raise ArtifactError(f"{self.objects.uri}/{line_key(number, want)}: {what}; {RESTORE}")
            fetched.append(line)
            want = _previous(line)
        return list(reversed(fetched))

    def _line(self, number: int, sha256: Digest) -> bytes | None:
        found = self.objects.get(line_key(number, sha256))
        return found.body if found else None

    def _listed_lines(self, count: int) -> dict[tuple[int, str], bytes]:
        """Return (number, start of its sha256) -> line, of all that a listing shows, fetched at the same time."""
        names = [
            match for key in self.objects.listed(AUDIT) if (match := _LINE.fullmatch(key)) and int(match[1]) <= count
        ]
        with ThreadPoolExecutor(AT_ONCE, "csd-objects") as executor:
            found = executor.map(lambda match: self.objects.get(match[0]), names)
            return {(int(match[1]), match[2]): each.body for match, each in zip(names, found, strict=True) if each}


def known_releases(trail: Trail) -> tuple[str, ...]:
    """Return names of releases that are complete and were not given up, oldest first."""
    known = dict.fromkeys(name for each in trail.entries for name in each.checksums if NAME.fullmatch(name))
    given_up = abandoned(trail)
    return tuple(name for name in known if name not in given_up)


def abandoned(trail: Trail) -> frozenset[str]:
    """Return names of releases that came to nothing."""
    given_up = (str(each.release) for each in trail.entries if each.event == "abandoned")
    return frozenset(name for name in given_up if NAME.fullmatch(name))


def line_key(number: int, sha256: Digest) -> str:
    """Of a line of the audit log."""
    return f"{AUDIT}{number:08}-{sha256[:16]}.json"


def file_key(name: str, sha256: Digest, file: str) -> str:
    """Of a file of a release."""
    return f"{name}/{sha256[:16]}/{file}"


def _previous(line: bytes) -> Digest:
    try:
        return str(json.loads(line)["previous"])
    except (ValueError, KeyError, TypeError):
        return NOTHING
