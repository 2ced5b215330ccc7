"""Carry out a plan: a new gallery beside the old one."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from csd_core.data.tables import Strings, read_table
from csd_core.engine.work import Engine
from csd_core.retrieval.embedder import Embedder
from csd_core.retrieval.gallery import UNIT_TOLERANCE, Gallery
from csd_core.retrieval.metrics import Floats
from csd_core.standalone.folder_images import FolderImages
from csd_core.standalone.own_gallery import OwnGallery, refuse_existing
from csd_core.standalone.plan_folder import PlanFolder
from csd_core.standalone.vectors.cache import VectorCache
from csd_core.system.errors import ArtifactError, DataError
from csd_core.upgrade.backfill.engine import backfill


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What became of the rows.

    Attributes:
        embedded: Old rows re-embedded from their images.
        mapped: Old rows that an adapter mapped.
        kept: Old rows as they were.
        added: Rows of images that the old gallery lacked.
        failed: Id -> reason, of rows that are left out.
    """

    embedded: int
    mapped: int
    kept: int
    added: int
    failed: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReEmbedded:
    """Vectors that were re-embedded.

    Attributes:
        ids: (n,) ascending.
        vectors: (n, D) of these.
        failed: Id -> reason, of the others.
    """

    ids: Strings
    vectors: Floats
    failed: Mapping[str, str]

    def of(self, ids: Strings) -> Floats:
        """Return (n, D) vectors of some of the ids."""
        return self.vectors[np.searchsorted(self.ids, ids)]


def apply_plan(
    plan: PlanFolder,
    *,
    images: Path,
    gallery: Path,
    out: Path,
    cache: Path | None,
    add: bool,
    engine: Engine,
    max_rows_per_second: float | None,
    max_failed: int,
) -> Applied:
    """Write the upgraded gallery; an interrupted run continues where it stopped.

    Args:
        plan: What to do.
        images: The folder it was planned with.
        gallery: The gallery it was planned for; it is only read.
        out: Folder of the new gallery; there is none yet.
        cache: Folder of vectors that are known; None for none.
        add: Also embed what the folder has and the gallery lacks.
        engine: Who embeds.
        max_rows_per_second: Over all workers; None for full speed.
        max_failed: More rows without an image than this stop it; finished work is kept.

    Raises:
        ArtifactError: if `out` exists, or a file of the plan or the gallery is missing or damaged.
        CompatibilityError: if the gallery is not the one planned for.
        DataError: if too many images cannot be read.
    """
    refuse_existing(out)
    if not gallery.is_dir():
        raise ArtifactError(f"{gallery}: there is no such gallery; name the one that was planned for")
    if not images.is_dir():
        raise DataError(f"{images}: there is no such folder; name the one that was planned with")
    old = Gallery.load(gallery)
    upgrade = plan.upgrade(old)
    items = read_table(plan.items, ("id", "label", "split", "task"))
    new = np.flatnonzero(~np.isin(items["id"], old.ids)) if add else np.empty(0, np.intp)
    work = out.with_name(f".{out.name}.work")
    re_embedded = embed_items(
        np.concatenate([old.ids[upgrade.embed], items["id"][new]]),
        plan,
        images,
        work,
        engine=engine,
        cache=cache,
        max_rows_per_second=max_rows_per_second,
    )
    if len(re_embedded.failed) > max_failed:
        identity, reason = next(iter(re_embedded.failed.items()))
        raise DataError(
            f"{images}: {len(re_embedded.failed)} rows cannot be embedded, --max-failed allows {max_failed}, such as "
            f"{identity[:12]}: {reason}; restore the images and run again, finished work is kept in {work}"
        )
    lost = np.array(list(re_embedded.failed), np.str_)
    stays = np.flatnonzero(~np.isin(old.ids, lost))
    here, mine = (old, upgrade) if len(stays) == len(old) else (old.take(stays), upgrade.of(stays))
    after = mine.apply(here, re_embedded.of)
    new = new[~np.isin(items["id"][new], lost)]
    if len(new):
        added = Gallery.embedded(
            ids=items["id"][new],
            labels=items["label"][new],
            tasks=items["task"][new],
            splits=items["split"][new],
            vectors=re_embedded.of(items["id"][new]),
            model=plan.record.new,
        )
        after = after.joined(added, query_model=plan.record.new, searchable_spaces=after.searchable_spaces)
    OwnGallery(gallery=after, items=plan.record.items, lineage=plan.lineage).save(out, failed=re_embedded.failed)
    shutil.rmtree(work)
    embedded, mapped = int(mine.embed.sum()), int(mine.mapped(here).sum())
    return Applied(
        embedded=embedded,
        mapped=mapped,
        kept=len(here) - embedded - mapped,
        added=len(new),
        failed=re_embedded.failed,
    )


def embed_items(
    ids: Strings,
    plan: PlanFolder,
    images: Path,
    work: Path,
    *,
    engine: Engine,
    cache: Path | None = None,
    max_rows_per_second: float | None,
) -> ReEmbedded:
    """Embed rows by the candidate, but those whose vectors are cached; one that cannot be searched counts as failed."""
    ids = np.sort(ids)
    table = read_table(plan.items, ("id", "pixels"))
    keys = dict(zip(table["id"].tolist(), table["pixels"].tolist(), strict=True))
    known = VectorCache(folder=cache, form=plan.record.items.form)
    key_of = np.array([keys.get(identity, "") for identity in ids.tolist()], np.str_)
    at_hand = known.knows(plan.record.new, key_of)
    source = FolderImages(
        root=images,
        items=plan.items,
        ids_in=plan.record.items.form,
        form=Embedder.load(plan.model).metadata.form,
    )
    done = backfill(
        ids[~at_hand],
        model=plan.model,
        source=source,
        folder=work,
        engine=engine,
        max_rows_per_second=max_rows_per_second,
    )
    failed = {each.id: each.reason for each in done.failed}
    squares = np.einsum("nd,nd->n", done.vectors, done.vectors)
    usable = np.abs(squares - 1) <= 2 * UNIT_TOLERANCE
    failed |= dict.fromkeys(done.ids[~usable].tolist(), "gets a vector of length 0 or one that is not finite")
    found, vectors = (done.ids, done.vectors) if usable.all() else (done.ids[usable], done.vectors[usable])
    if at_hand.any():
        cached = known.vectors(plan.record.new, key_of[at_hand])
        found, vectors = (
            np.concatenate([ids[at_hand], found]),
            np.concatenate([cached, vectors.reshape(-1, cached.shape[1])]),
        )
        order = np.argsort(found)
        found, vectors = found[order], vectors[order]
    return ReEmbedded(ids=found, vectors=vectors, failed=failed)
