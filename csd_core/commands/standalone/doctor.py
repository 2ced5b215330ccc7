"""`csd doctor`: what is wrong with an index."""

import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import numpy as np

from csd_core.retrieval.gallery import Gallery
from csd_core.stores.address import is_address, open_store, shown
from csd_core.stores.doctor import Finding, examine
from csd_core.stores.protocol import Rows
from csd_core.system.console import echo
from csd_core.system.errors import ParamsError

FOUND = 9
"""Exit code where something is wrong; errors have others."""
KINDS = {".parquet": "parquet", ".index": "faiss", ".faiss": "faiss"}


def doctor(index: str, /) -> None:
    """Say what is wrong with the vectors of an index, and what to do; exit with 9 if anything is.

    Parameters
    ----------
    index
        Address of a store (docs/stores.md), a Parquet file, a FAISS index or the folder of a gallery.
    """
    name, rows, findings = _examined(index)
    for each in findings:
        echo(f"{name}: {each}")
    if not findings:
        echo(f"{name}: {rows:,} rows, nothing is wrong with their vectors")
        return
    sys.stdout.flush()
    sys.exit(FOUND)


def _examined(index: str) -> tuple[str, int, tuple[Finding, ...]]:
    """Return the index's name, its number of rows and what is wrong."""
    path = Path(index)
    if not is_address(index) and path.is_dir():
        gallery = Gallery.load(path)
        rows = [Rows(gallery.ids, np.asarray(gallery.vectors))]
        made_by = np.unique(gallery.embedded_by)
        mixed = (
            (Finding(f"rows of {len(made_by)} models, searched as one", "backfill, or merge: `csd upgrade plan`"),)
            if len(made_by) > 1 and not gallery.scoring
            else ()
        )
        return index, len(gallery), (*mixed, *examine(rows, count=len(gallery)))
    if not is_address(index):
        if path.suffix not in KINDS:
            raise ParamsError(
                f"{shown(index)}: is neither a store's address, nor a folder, nor one of *{', *'.join(KINDS)}"
            )
        index = f"{KINDS[path.suffix]}://{quote(str(path.absolute()))}"
    with closing(open_store(index)) as store:
        count = store.count()
        return store.name, count, examine(store.rows(), count=count)
