"""How a release becomes active: built beside the active one, caught up, verified, then switched to at once.

A process may be killed anywhere. Until the rename of `current` the former release is active and all that was built
is rubbish that the next run removes; from then on the new one is, and the next run completes the audit log.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from csd_core.audit.checksums import CHECKSUMS
from csd_core.live.index.files import write_index
from csd_core.live.migration import RowMigration
from csd_core.live.storage.lance import leaving_out
from csd_core.releases.candidate import Production, ReleaseCandidate
from csd_core.releases.contents.folder import write_release
from csd_core.releases.contents.release import Release, name_of, table_of, tag_of
from csd_core.releases.recovery import mark_of, recover
from csd_core.releases.safekeeping import follow
from csd_core.releases.verify import problems_of
from csd_core.retrieval.embedder import digest_of
from csd_core.system.console import echo
from csd_core.system.errors import ArtifactError, CsdError

STEPS = (
    "begun",
    "marked",
    "built",
    "carried",
    "caught up",
    "checked",
    "tagged",
    "written",
    "logged",
    "verified",
    "locked",
    "switched",
    "unmarked",
    "published",
)
"""What `on_step` is told, in this order, when each is done. If people wrote after `caught up`, all from there to
`verified` is done again after `locked`."""

OnStep = Callable[[str], None]
LISTED = 20
"""Rows left out that are named one by one."""


def activate(
    production: Production, release_candidate: ReleaseCandidate, *, by: str, why: str, on_step: OnStep
) -> Release:
    """Make a release and switch to it; the caller holds the releases' lock.

    Args:
        production: Where.
        release_candidate: What is to become active.
        by: Who asked for it.
        why: For the audit log.
        on_step: Told each of STEPS when it is done.

    Raises:
        CsdError: if the new release is not fit; the former one is active as before.
    """
    releases = production.releases
    number = releases.next_number()
    model = release_candidate.rules.embedder.digest
    before = releases.active()
    production.live.refuse_other_history(releases.audit.read())
    releases.audit.append(
        "begun",
        by=by,
        why=why,
        release=name_of(number, model),
        from_release=before.name if before else None,
        table=table_of(number, model),
    )
    on_step("begun")
    upgrade = _Upgrade(
        production=production,
        release_candidate=release_candidate,
        number=number,
        before=before,
        by=by,
        why=why,
        on_step=on_step,
    )
    try:
        production.live.follow(releases.audit.read())
        upgrade.build()
        release = upgrade.activate()
        if before:
            production.live.untag(before.table, mark_of(number))
        on_step("unmarked")
        releases.audit.append(
            "rolled back" if release_candidate.kind == "rollback" else "published",
            by=by,
            why=why,
            release=release.name,
            from_release=before.name if before else None,
            checksums={release.name: digest_of(release.folder / CHECKSUMS)},
        )
        on_step("published")
    except BaseException as error:
        _clear_up(production, error, by=by)
        raise
    finally:
        shutil.rmtree(upgrade.workshop, ignore_errors=True)
    _tell(upgrade.left_out)
    follow(production.workspace.root, release)
    return release


def _clear_up(production: Production, error: BaseException, *, by: str) -> None:
    """Remove what a failed run left; where that fails too, such as on a full disk, the next run does it."""
    try:
        recover(production, by=by, why=str(error) or type(error).__name__)
    except (CsdError, OSError):
        echo("what the run left is removed by the next publish or rollback")


@dataclass(slots=True, kw_only=True, eq=False)
class _Upgrade:
    """One upgrade of the live gallery, from the active table to the next.

    Attributes:
        production: Where.
        release_candidate: What is to become active.
        number: Of the new release.
        before: The active release; None before the first.
        by: Who asked for it.
        why: For the record.
        on_step: Told each step.
    """

    production: Production
    release_candidate: ReleaseCandidate
    number: int
    before: Release | None
    by: str
    why: str
    on_step: OnStep
    _carrier: RowMigration | None = None
    _index: Path | None = None
    """Of the next table, as it was before people's last writes; they are searched beside it."""
    _seen: tuple[str, int] | None = None
    """State of the active table, and of the tombstones, up to which the next table has caught up."""

    @property
    def table(self) -> str:
        """The next table."""
        return table_of(self.number, self.release_candidate.rules.embedder.digest)

    @property
    def workshop(self) -> Path:
        """Where the index is made."""
        return self.production.workspace.root / ".csd" / "index"

    @property
    def left_out(self) -> dict[str, str]:
        """Id -> why its row could not be carried."""
        return self._carrier.left_out if self._carrier else {}

    def build(self) -> None:
        """Write the next table, with the rows that people wrote until now."""
        live, base = self.production.live, self.release_candidate.base
        written = pa.array([], pa.string())
        if self.before:
            self._carrier = RowMigration(
                live=live,
                source=self.before.table,
                former=self.before.rules,
                target=self.table,
                rules=self.release_candidate.rules,
            )
            live.tag(self.before.table, mark_of(self.number))
            written = self._written_live(self.before)
        self.on_step("marked")
        live.fill(
            self.table,
            leaving_out(base.batches(), written),
            dimension=self.release_candidate.rules.search.width,
            images=base.images,
        )
        self.on_step("built")
        if self._carrier:
            self._carrier.migrate(written.to_pylist())
        self.on_step("carried")
        if live.count(self.table) > self.production.params.live.exact_rows:
            self._index = self.workshop / self.table
            threads = self.production.params.runtime.threads
            write_index(self._index, live, self.table, self.release_candidate.rules.search, threads=threads)

    def activate(self) -> Release:
        """Prepare the release while people write; keep them waiting only if they did, and only to do it once more."""
        release = self._prepared()
        with self.production.live.writing():
            self.on_step("locked")
            if not self._is_quiet():
                release = self._prepared()
            self.production.releases.switch_to(release)
            self.on_step("switched")
        return release

    def _prepared(self) -> Release:
        """The release on disk, found fit."""
        live, releases = self.production.live, self.production.releases
        self._catch_up()
        self.on_step("caught up")
        live.check(self.table, self.release_candidate.rules.search)
        self.on_step("checked")
        live.tag(self.table, tag_of(self.number))
        self.on_step("tagged")
        with releases.writing_files():
            release = write_release(
                self.production,
                self.release_candidate,
                self.number,
                before=self.before,
                left_out=len(self.left_out),
                index=self._index,
                by=self.by,
                why=self.why,
            )
            releases.keep(release)
            self.on_step("written")
            checksums = digest_of(release.folder / CHECKSUMS)
            releases.audit.append("built", by=self.by, release=release.name, checksums={release.name: checksums})
        self.on_step("logged")
        problems = list(problems_of(release, live, checksums=checksums))
        if problems:
            releases.refuse_overtaken()  # then another machine removed it
            raise ArtifactError(f"release {release.name} is not fit and was given up: {problems[0]}")
        self.on_step("verified")
        return release

    def _catch_up(self) -> None:
        """Write and delete in the next table what people wrote and deleted since the last look."""
        if self.before is None or self._carrier is None:
            return
        live = self.production.live
        with live.writing():
            changes = live.changed_since(self.before.table, mark_of(self.number))
            live.tag(self.before.table, mark_of(self.number))
            self._seen = live.state(self.before.table)
        self._carrier.migrate(changes.upserted.tolist())
        self._carrier.discard_deleted()

    def _is_quiet(self) -> bool:
        """Whether nothing was written or deleted since the last look; the caller holds the write lock."""
        return self.before is None or self._seen == self.production.live.state(self.before.table)

    def _written_live(self, before: Release) -> pa.StringArray:
        """Ids of the rows that people wrote, but for those that the base holds in the same revision."""
        batches = self.production.live.batches(before.table, ("id", "origin", "revision"), version=mark_of(self.number))
        found = [each.filter(pc.equal(each["origin"], "live")) for each in batches]
        rows = pa.Table.from_batches(found).combine_chunks() if found else None
        if rows is None or not rows.num_rows:
            return pa.array([], pa.string())
        ids, revisions = (rows[name].combine_chunks() for name in ("id", "revision"))
        same = pc.equal(self.release_candidate.base.revisions(ids), revisions)
        return ids.filter(pc.invert(pc.fill_null(same, False)))


def _tell(left_out: dict[str, str]) -> None:
    """Name the rows that did not come along."""
    if not left_out:
        return
    echo(f"{len(left_out)} live rows were left out: their images cannot be had")
    for identity, reason in sorted(left_out.items())[:LISTED]:
        echo(f"  {identity}: {reason}")
    if len(left_out) > LISTED:
        echo(f"  and {len(left_out) - LISTED} more; write them again with `csd items put`")
