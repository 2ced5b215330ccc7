"""What the home page of `csd ui` shows: collected from records, without opening an image.

A part that cannot be had does not hide the others: it says why.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

from csd_core.client import Client
from csd_core.params.model import Params
from csd_core.records.verdict import VerdictFile, outcome_in_words
from csd_core.releases.contents.release import VERDICT, Release
from csd_core.report.advice.next_steps import APPROVAL
from csd_core.retraining.history import Retraining, retrainings
from csd_core.retraining.overview import InboxOverview, inbox_overview
from csd_core.retraining.unusable import UnusableBatch, note_on
from csd_core.system.errors import CsdError, StorageError
from csd_core.workspace import Workspace
from flows.ui.flow_server import FlowRun, FlowServer

SERVICE = "CSD_URL"
"""Environment variable with the address of `csd serve`."""
RUNS = 20
"""Runs on the page."""

Shown = TypeVar("Shown")


@dataclass(frozen=True, slots=True)
class Part(Generic[Shown]):
    """A part of the page.

    Attributes:
        shown: What there is; None where there is nothing yet, or it cannot be had.
        trouble: Why it cannot be had; empty where it can.
    """

    shown: Shown | None
    trouble: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GalleryKind:
    """Rows of the live gallery that came to be alike.

    Attributes:
        embedded_by: Digest of the model that made their vectors.
        mapped: How many adapters mapped them since.
        searched_by: Digest of the model in whose space they are.
        rows: How many.
    """

    embedded_by: str
    mapped: int
    searched_by: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveRelease:
    """The active release.

    Attributes:
        release: It.
        verdict: What the gate decided about its model, in a few words.
        report: Name of the retraining whose report tells of it; None where no retraining made it.
    """

    release: Release
    verdict: str
    report: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run of a flow, or a retraining whose run the server does not know any more.

    Attributes:
        name: Of the retraining, or else of the run.
        flow: Name of the flow.
        outcome: How it ended, or its state.
        why: One sentence.
        began: UTC, ISO 8601.
        page: Address of the run's page; None where the server does not know it.
        report: Name of the retraining that has a report; None for none.
    """

    name: str
    flow: str
    outcome: str
    why: str
    began: str
    page: str | None
    report: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """All that the page shows.

    Attributes:
        project: Name of the project's folder.
        collected: When, UTC.
        release: The active one.
        gallery: Rows of the live gallery, the most first.
        inbox: How it stands.
        unusable: The notes on batches of the inbox that cannot be used.
        reviews: Retrainings that wait for a person, the most urgent first.
        runs: The newest runs, the newest first; from records alone where the server has trouble.
        pages: Address of Prefect's pages.
        form: Address of the form in which a review is decided; None where it is not deployed.
        service_url: Address of the service; None where it is not told.
        service: What the service says of itself.
    """

    project: str
    collected: datetime
    release: Part[ActiveRelease]
    gallery: Part[tuple[GalleryKind, ...]]
    inbox: Part[InboxOverview]
    unusable: tuple[UnusableBatch, ...]
    reviews: tuple[Retraining, ...]
    runs: Part[tuple[Run, ...]]
    pages: str
    form: str | None
    service_url: str | None
    service: Part[Mapping[str, object]]


class Collector:
    """Collects what the page shows, for one project.

    Args:
        workspace: The project.
        server: Of flows.
    """

    def __init__(self, workspace: Workspace, server: FlowServer) -> None:
        self._workspace = workspace
        self._server = server
        self._gallery: tuple[object, tuple[GalleryKind, ...]] | None = None

    def __call__(self) -> Home:
        """Return what there is now."""
        workspace, now = self._workspace, datetime.now(UTC)
        params = _part(workspace.params)
        recorded = _part(lambda: retrainings(workspace))
        records = recorded.shown or ()
        release = _part(lambda: _active(workspace, params.shown, records))
        active = release.shown.release if release.shown else None
        inbox = _part(lambda: inbox_overview(workspace, now=now))
        notes = [note_on(workspace, each.inbox_batch) for each in inbox.shown.statuses] if inbox.shown else []
        asked = _part(lambda: self._server.runs(RUNS))
        address = os.environ.get(SERVICE)
        return Home(
            project=workspace.root.resolve().name,
            collected=now,
            release=release if params.shown else Part(None, params.trouble),
            gallery=_part(lambda: self._kinds(params.shown, active)),
            inbox=inbox,
            unusable=tuple(note for note in notes if note),
            reviews=tuple(
                sorted((each for each in records if each.outcome == "in review"), key=lambda each: each.deadline or "")
            ),
            runs=Part(self._runs(asked.shown or (), records), recorded.trouble or asked.trouble),
            pages=self._server.pages,
            form=_part(lambda: self._server.deployment(APPROVAL)).shown,
            service_url=address,
            service=_part(lambda: _service(address)),
        )

    def _kinds(self, params: Params | None, release: Release | None) -> tuple[GalleryKind, ...] | None:
        """Return the rows of the active release's table; they are counted again when the table has changed."""
        if params is None or release is None:
            return None
        from csd_core.live.gallery import LiveGallery  # noqa: PLC0415 - loads LanceDB: a second
        from csd_core.live.reader import kinds_of  # noqa: PLC0415

        gallery = LiveGallery.of(self._workspace, params)
        version = release.name, gallery.version(release.table)
        if self._gallery is None or self._gallery[0] != version:
            found = gallery.read(release.table, None, kinds_of)
            kinds = [
                GalleryKind(
                    embedded_by=provenance.embedded_by, mapped=len(provenance.chain), searched_by=space, rows=rows
                )
                for (provenance, space), rows in found.items()
            ]
            self._gallery = version, tuple(sorted(kinds, key=lambda each: (-each.rows, each.embedded_by, each.mapped)))
        return self._gallery[1]

    def _runs(self, asked: tuple[FlowRun, ...], records: tuple[Retraining, ...]) -> tuple[Run, ...]:
        by_run = {each.flow_run: each for each in records if each.flow_run}
        runs = [self._run(each, by_run.get(each.id)) for each in asked]
        known = {each.id for each in asked}
        runs += [
            Run(
                name=each.name,
                flow="retrain",
                outcome=each.outcome,
                why=each.why,
                began=each.began,
                page=self._server.page_of(each.flow_run) if each.flow_run else None,
                report=self._report(each),
            )
            for each in records
            if each.flow_run not in known
        ]
        return tuple(sorted(runs, key=lambda each: each.began[:19], reverse=True)[:RUNS])

    def _run(self, found: FlowRun, record: Retraining | None) -> Run:
        ended = record is not None and found.type == "COMPLETED"
        return Run(
            name=record.name if record else found.name,
            flow=found.flow,
            outcome=record.outcome if record and ended else found.state,
            why=record.why if record and ended else found.message,
            began=found.began,
            page=self._server.page_of(found.id),
            report=self._report(record) if record else None,
        )

    def _report(self, record: Retraining) -> str | None:
        page = self._workspace.retraining(record.name).with_suffix(".html")
        return record.name if page.is_file() else None


def _part(collect: Callable[[], Shown | None]) -> Part[Shown]:
    try:
        return Part(collect())
    except CsdError as error:
        return Part(None, str(error))
    except OSError as error:
        return Part(None, str(StorageError.of(error)))


def _active(workspace: Workspace, params: Params | None, records: tuple[Retraining, ...]) -> ActiveRelease | None:
    if params is None:
        return None
    from csd_core.releases.store import Releases  # noqa: PLC0415 - loads LanceDB: a second

    release = Releases.of(workspace, params.live.releases).active()
    if release is None:
        return None
    made_by = [each.name for each in records if each.commit == release.record.commit]
    page = workspace.retraining(made_by[-1]).with_suffix(".html") if made_by else None
    return ActiveRelease(
        release=release,
        verdict=outcome_in_words(VerdictFile.load(release.folder / VERDICT).verdict),
        report=made_by[-1] if page and page.is_file() else None,
    )


def _service(address: str | None) -> Mapping[str, object] | None:
    if not address:
        return None
    with Client(address, timeout=2.0, attempts=1) as client:
        return client.ready()
