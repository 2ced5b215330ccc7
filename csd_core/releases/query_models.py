"""The models that embed the queries of a release to be, each with the variants it has, and where their files lie now.

The release's own model may have an int8 variant beside it. An older model, whose rows stay in its space, comes from the
lineage; its int8 variant from where it was the champion, or from the active release.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from csd_core.live.rules import SearchRules
from csd_core.records.verdict import LedgerEntry
from csd_core.releases.contents.release import EMBEDDER, INT8, LINEAGE, QUERIES, QueryModel, Release
from csd_core.retrieval.embedder import Embedder
from csd_core.retrieval.lineage import Lineage
from csd_core.system.errors import ArtifactError, CompatibilityError
from csd_core.workspace import Workspace


def own_models(folder: Path, embedder: Embedder, searchable_spaces: tuple[str, ...]) -> tuple[QueryModel, ...]:
    """The champion, and its int8 variant if there is one: its queries lie in the same space.

    Raises:
        ArtifactError: if the variant is damaged or belongs to another model.
    """
    model = QueryModel(variant="fp32", digest=embedder.digest, file=EMBEDDER, searchable_spaces=searchable_spaces)
    if not (folder / INT8).is_file():
        return (model,)
    variant = Embedder.load(folder / INT8, device="cpu", threads=1)
    if variant.metadata != embedder.metadata:
        raise ArtifactError(
            f"{folder / INT8}: not a variant of the {EMBEDDER} beside it; run `csd run`, then publish again"
        )
    return (model, QueryModel(variant="int8", digest=variant.digest, file=INT8, searchable_spaces=searchable_spaces))


def files_of(folder: Path, query_models: Sequence[QueryModel]) -> dict[str, Path]:
    """Name -> file of each variant of the champion, but the model itself."""
    return {each.file: folder / each.file for each in query_models if each.file != EMBEDDER}


def older_models(
    rules: SearchRules, embedder: Embedder, lineage: Lineage, variants: dict[str, list[Path]]
) -> tuple[tuple[QueryModel, ...], dict[str, Path]]:
    """The older models that still embed queries, and name -> file of what the lineage does not hold.

    Args:
        rules: Which models' queries search which rows.
        embedder: The release's own model.
        lineage: Has the older models' files.
        variants: Older model -> where its int8 variant may lie, the best place first.

    Raises:
        ArtifactError: if the lineage lacks a model.
        CompatibilityError: if one takes other images, or gives vectors of another dimension than its rows have.
    """
    found: list[QueryModel] = []
    copies: dict[str, Path] = {}
    for digest, dimension in rules.dimensions.items():
        if digest == rules.query_model:
            continue
        path = lineage.model(digest)
        if path is None:
            raise ArtifactError(
                f"model {digest[:12]} still searches rows of the gallery, and its file is not retained; run `csd run`, "
                "then publish again"
            )
        older = Embedder.load(path, device="cpu", threads=1)
        if (older.metadata.form, older.metadata.dimension) != (embedder.metadata.form, dimension):
            raise CompatibilityError(
                f"{path}: takes images of another form than the model of new rows, or has not {dimension} dimensions; "
                "backfill the rows that it searches"
            )
        spaces = rules.spaces[digest]
        file = f"{LINEAGE}/{digest}.onnx"
        found.append(QueryModel(variant="fp32", digest=digest, file=file, searchable_spaces=spaces, older=digest))
        for int8 in variants.get(digest, ()):
            if not int8.is_file():
                continue
            variant = Embedder.load(int8, device="cpu", threads=1)
            if variant.metadata == older.metadata:
                file = f"{QUERIES}/{digest}.int8.onnx"
                found.append(
                    QueryModel(variant="int8", digest=variant.digest, file=file, searchable_spaces=spaces, older=digest)
                )
                copies[file] = int8
                break
    return tuple(found), copies


def variants_of(
    rules: SearchRules, workspace: Workspace, entries: Sequence[LedgerEntry], before: Release | None
) -> dict[str, list[Path]]:
    """Older model -> where its int8 variant may lie: beside the champion that it was, or in the active release."""

    def places(digest: str) -> Iterator[Path]:
        for entry in reversed(entries):
            if entry.champion == digest:
                yield workspace.champion_embedder(entry.task) / INT8
        if before and (variant := before.queries_of(digest).get("int8")):
            yield before.folder / variant.file

    return {digest: list(places(digest)) for digest in rules.dimensions if digest != rules.query_model}
