"""A release: a model, the gallery it searches and the evidence for both, as production serves them.

NNNN-<digest12>/
    release.json          ReleaseRecord
    embedder.onnx         the model
    embedder.int8.onnx    its variant for queries, if it ships
    lineage/              the models and adapters that made the gallery's rows, and older models that embed queries
    queries/              the int8 variants of those older models that have one
    adapters/             the model's own adapters: adapters.json and the chosen ONNX files
    verdict.json check.json params.yaml
    known/                queries whose answers are known
    index/                what searches a gallery of more than `live.exact_rows` rows (csd_core/live/index/files.py)
    checksums.json        size and sha256 of all these
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from csd_core.live.rules import SearchRules
from csd_core.params.upgrade import Strategy
from csd_core.records.ranking import GroupScoring
from csd_core.records.stages import Digest, Record
from csd_core.system.errors import ArtifactError, CompatibilityError

NAME = re.compile(r"(\d{4,})-[0-9a-f]{12}")
"""Of a release's folder."""

RECORD, EMBEDDER, LINEAGE, ADAPTERS = "release.json", "embedder.onnx", "lineage", "adapters"
INT8 = "embedder.int8.onnx"
"""The model's variant in whole numbers; only its queries differ, rows are always the model's own."""
VERDICT, CHECK, PARAMS = "verdict.json", "check.json", "params.yaml"
INDEX = "index"
QUERIES = "queries"
"""The folder of older models' variants: <digest of the model>.int8.onnx."""
LASTING = frozenset({RECORD, VERDICT, CHECK, PARAMS})
"""What a retired release keeps, beside its checksums."""

Kind = Literal["publish", "refresh", "backfill", "rollback"]


class QueryModel(Record):
    """A model whose queries may search the gallery."""

    variant: Literal["fp32", "int8"]
    digest: Digest
    file: str
    """In the release's folder."""
    searchable_spaces: tuple[Digest, ...]
    """Spaces of rows that its queries may search; a row in any other is refused, never searched."""
    older: Digest | None = None
    """The older model whose queries these are; None for those of the release's own model."""


class ReleaseRecord(Record):
    """release.json."""

    number: int
    kind: Kind
    """A new model, the same model with a newer gallery, the same with rows that it re-embedded, or an earlier release
    once more."""
    model: Digest
    parent_model: Digest | None
    """The champion it was trained from."""
    dimension: int
    """D of its vectors."""
    parent: int | None
    """The release that was active before."""
    rolled_back_to: int | None
    """The release whose model and gallery this is once more."""
    task: str
    """Whose candidate the model was."""
    after: str
    """The task after which the gallery was taken."""
    strategy: Strategy
    """How the model took over the rows of its predecessor: as the gate let it, or by a backfill since."""
    commit: str | None
    """Of the git repository; the next retraining starts there."""
    uncommitted: bool
    """Files of that repository differed from the commit."""
    table: str
    """Of the live gallery."""
    tag: str
    """Version of the table with which the release came into force."""
    rows: int
    """At the tag."""
    gallery: Digest
    """Of the rows at the tag, with the revisions and times of writing."""
    artefact: Digest
    """Of the pipeline's gallery that it was made from."""
    query_models: tuple[QueryModel, ...]
    adapters: tuple[Digest, ...]
    """The model's own adapters, which mapped rows of its predecessors."""
    scoring: tuple[GroupScoring, ...] = ()
    """How rows of some provenances are searched: by which model's queries, and with which score."""
    left_out: int
    """Rows whose image could not be had and whose vector the model cannot search."""
    audit: Digest
    """sha256 of the audit log's last line when this was begun."""
    created: str
    """UTC, ISO 8601."""
    by: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A release on disk.

    Attributes:
        record: What it is.
        folder: Where its files lie.
    """

    record: ReleaseRecord
    folder: Path

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Open a release's folder.

        Raises:
            ArtifactError: if it is missing or its record is damaged.
        """
        if not (folder / RECORD).is_file():
            raise ArtifactError(f"{folder}: there is no such release; `csd releases` lists them")
        try:
            return cls(record=ReleaseRecord.load(folder / RECORD), folder=folder)
        except ArtifactError as error:
            raise ArtifactError(
                f"{str(error).removesuffix('; make it again')}; restore the folder from a backup"
            ) from None

    @property
    def name(self) -> str:
        """Of its folder: number and start of the model's digest."""
        return name_of(self.number, self.record.model)

    @property
    def number(self) -> int:
        """Counted from 1 in order of publishing; some may be missing, of runs that were given up."""
        return self.record.number

    @property
    def embedder(self) -> Path:
        """The model's ONNX file."""
        return self.folder / EMBEDDER

    @property
    def table(self) -> str:
        """Its table in the live gallery."""
        return self.record.table

    @property
    def tag(self) -> str:
        """The version of the table with which it came into force."""
        return self.record.tag

    @property
    def searchable_spaces(self) -> tuple[str, ...]:
        """Spaces that its models may search."""
        return self.rules.searchable_spaces

    @property
    def rules(self) -> SearchRules:
        """Which models' queries search which rows."""
        record = self.record
        return SearchRules(
            query_model=record.model,
            dimension=record.dimension,
            spaces={record.model: self.spaces_for(record.model)}
            | {each.older: each.searchable_spaces for each in record.query_models if each.older},
            scoring=record.scoring,
        )

    @property
    def older_models(self) -> tuple[str, ...]:
        """Digests of older models whose queries still search rows."""
        models = dict.fromkeys(each.query_model for each in self.record.scoring)
        return tuple(model for model in models if model != self.record.model)

    def queries_of(self, model: str) -> dict[Literal["fp32", "int8"], QueryModel]:
        """The variants of a model that may embed queries: the release's own, or an older one."""
        return {each.variant: each for each in self.record.query_models if (each.older or self.record.model) == model}

    def spaces_for(self, model: str) -> tuple[str, ...]:
        """Spaces that the queries of a model may search.

        Args:
            model: Its digest.

        Raises:
            CompatibilityError: if the release has no such query model.
        """
        for query_model in self.record.query_models:
            if query_model.digest == model:
                return query_model.searchable_spaces
        known = ", ".join(f"{each.digest[:12]} ({each.variant})" for each in self.record.query_models)
        raise CompatibilityError(
            f"release {self.name}: model {model[:12]} may not search its gallery; embed queries with {known}"
        )


def name_of(number: int, model: str) -> str:
    """Of a release's folder."""
    return f"{number:04}-{model[:12]}"


def number_of(name: str) -> int:
    """Of a release by its folder's name."""
    return int(name.split("-", maxsplit=1)[0])


def table_of(number: int, model: str) -> str:
    """Of a release's table in the live gallery."""
    return f"gallery-{name_of(number, model)}"


def tag_of(number: int) -> str:
    """Of the version with which a release came into force."""
    return f"release-{number:04}"
