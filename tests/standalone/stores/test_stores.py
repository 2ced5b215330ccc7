"""One contract for every kind of store."""

import sys
from urllib.parse import quote

import numpy as np
import pytest
from shops import Made, drawn

from csd_core.stores.address import is_address, open_store
from csd_core.stores.protocol import Held, Rows
from csd_core.system.errors import ArtifactError, ParamsError

ROWS, KEY = 300, "0123abcd"
IDS = np.arange(10, 10 + ROWS).astype(str)


def all_of(batches):
    """Id -> vector."""
    return {name: vector for batch in batches for name, vector in zip(batch.ids.tolist(), batch.vectors, strict=True)}


def same(found, ids, vectors):
    return set(found) == set(ids) and np.allclose([found[each] for each in ids], vectors, atol=1e-6)


def test_second_vectors_are_written_beside_the_first_switched_undone_and_removed(made, opened):
    old, new = drawn(ROWS, 8), drawn(ROWS, 5, seed=1)
    shop = made(IDS, old)
    titles, store = shop.titles(), opened(shop.address)
    assert (store.count(), store.held()) == (ROWS, None)
    assert same(all_of(store.rows()), IDS, old)

    store.begin(KEY, 5)
    for start in (0, 100, 200):
        store.write(KEY, Rows(IDS[start : start + 100], new[start : start + 100]))
    store.begin(KEY, 5)  # as a second run does
    assert store.held() == Held(KEY, False)
    assert same(all_of(store.rows()), IDS, old)
    assert same(all_of(store.beside(KEY)), IDS, new)

    store.switch(KEY)
    assert store.held() == Held(KEY, True)
    assert same(all_of(store.rows()), IDS, new)
    store.undo(KEY)
    assert store.held() == Held(KEY, False)
    assert same(all_of(store.rows()), IDS, old)
    store.switch(KEY)
    store.clean(KEY)
    assert store.held() is None
    assert same(all_of(store.rows()), IDS, new)
    store.begin("89abcdef", 4)  # the next one
    assert store.held() == Held("89abcdef", False)
    store.clean("89abcdef")
    assert (store.held(), store.count()) == (None, ROWS)
    store.close()
    assert shop.titles() == titles


def test_rows_that_are_not_written_are_not_touched_and_rows_that_are_gone_do_not_come_back(made, opened):
    old, new = drawn(ROWS, 8), drawn(ROWS, 8, seed=1)
    shop = made(IDS, old)
    store = opened(shop.address)
    store.begin(KEY, 8)
    store.write(KEY, Rows(np.append(IDS[:200], "5"), np.append(new[:200], new[:1], axis=0)))
    store.switch(KEY)
    assert same(all_of(store.rows()), IDS[:200], new[:200])
    store.undo(KEY)
    assert same(all_of(store.rows()), IDS, old)
    assert store.count() == ROWS


def test_second_vectors_of_some_rows_are_removed_again(made, opened):
    old, new = drawn(ROWS, 8), drawn(ROWS, 5, seed=1)
    store = opened(made(IDS, old).address)
    store.begin(KEY, 5)
    for part in (slice(0, 100), slice(100, 200)):
        store.write(KEY, Rows(IDS[part], new[part]))
    store.discard(KEY, np.append(IDS[50:120], "5"))
    assert same(all_of(store.beside(KEY)), np.append(IDS[:50], IDS[120:200]), np.append(new[:50], new[120:200], axis=0))
    store.discard(KEY, IDS[120:200])  # all that is left of a part
    store.switch(KEY)
    assert same(all_of(store.rows()), IDS[:50], new[:50])
    store.undo(KEY)
    assert same(all_of(store.rows()), IDS, old)


def test_a_point_of_qdrant_that_is_deleted_during_an_upgrade_does_not_come_back(tmp_path, opened):
    store = opened(Made("qdrant", tmp_path, None, IDS[:3], drawn(3, 4)).address)
    store.begin(KEY, 2)
    store.write(KEY, Rows(IDS[:3], drawn(3, 2)))
    store._client.delete("items", [int(IDS[1])])
    store.switch(KEY)
    assert set(all_of(store.rows())) == {IDS[0], IDS[2]}


def test_a_table_that_is_not_there_is_named(made, opened, tmp_path):
    shop = made(IDS[:3], drawn(3, 4))
    for address in (
        shop.address.replace("items", "others"),
        f"{shop.address}{'&' if '?' in shop.address else '?'}vector=no",
    ):
        if shop.kind == "faiss" and "vector=" in address:
            with pytest.raises(ParamsError, match="vector is no option"):
                opened(address)
        else:
            with pytest.raises(ArtifactError, match="others|no"):
                opened(address)


def test_the_new_column_of_postgres_has_the_index_of_the_old(tmp_path, server, opened):
    shop = Made("postgresql", tmp_path, server, IDS, drawn(ROWS, 8))
    store = opened(shop.address)
    store.begin(KEY, 5)
    store.write(KEY, Rows(IDS, drawn(ROWS, 5)))
    store.switch(KEY)
    definitions = [row[0] for row in shop.query("SELECT indexdef FROM pg_indexes WHERE tablename = '{t}'")]
    assert [each for each in definitions if "hnsw (embedding vector_cosine_ops)" in each]
    shop.insert(["9999"], drawn(1, 5))  # the column before no longer asks for a vector


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("mysql://host/items", "is no store; an address begins with postgresql"),
        ("lancedb:///folder", "lacks table=…"),
        ("parquet://items.parquet", "three slashes"),
    ],
)
def test_an_address_that_says_too_little_is_refused(address, words):
    with pytest.raises(ParamsError, match=words):
        open_store(address)


@pytest.mark.parametrize("place", ["geheim@127.0.0.1:1", "geheim%ZZ@127.0.0.1:1", "x/geheim@127.0.0.1:1",
                                   "#geheim@127.0.0.1:1", "?geheim@127.0.0.1:1", "x@geheim@127.0.0.1:1",
                                   "geheim@127.0.0.1:no", "geheim@[::1"])  # fmt: skip
@pytest.mark.parametrize("scheme", ["postgresql:", "postgres:", "qdrant:"])
def test_a_password_is_never_shown(scheme, place):
    options = "?collection=items" if scheme == "qdrant:" else "?table=items&password=geheim"
    for slashes in ("//", "/"):
        assert is_address(f"{scheme}{slashes}shop:{place}/shop{options}")
        with pytest.raises((ArtifactError, ParamsError)) as caught:
            open_store(f"{scheme}{slashes}shop:{place}/shop{options}")
        assert "geheim" not in str(caught.value)
        assert str(caught.value).startswith(f"{scheme}//") or ": is no address (" in str(caught.value)


def test_names_of_tables_are_taken_as_they_are_and_what_cannot_be_upgraded_is_refused(tmp_path, server, opened):
    shop = Made("postgresql", tmp_path, server, IDS, drawn(ROWS, 8))
    renamed = 'Items of "x"; --'
    shop.query('ALTER TABLE {t} RENAME TO "Items of ""x""; --"')
    shop.query('CREATE VIEW seen AS SELECT * FROM "Items of ""x""; --"')
    shop.query('CREATE SCHEMA IF NOT EXISTS "Shop"')
    shop.query('CREATE TABLE "Shop"."Half" AS SELECT id, embedding::halfvec(8) FROM seen')
    for name in (renamed, "Shop.Half"):
        store = opened(f"{server.address}?table={quote(name)}")
        store.begin(KEY, 5)
        store.write(KEY, Rows(IDS, drawn(ROWS, 5)))
        store.switch(KEY)
        assert np.allclose([all_of(store.rows())[each] for each in IDS], drawn(ROWS, 5), atol=1e-3)
    with pytest.raises(ArtifactError, match="seen is a view or the like"):
        opened(f"{server.address}?table=seen").begin("89abcdef", 5)


def test_a_folder_that_is_not_there_is_not_made(tmp_path):
    for address in (f"qdrant+file://{tmp_path}/none?collection=x", f"lancedb://{tmp_path}/none?table=x"):
        with pytest.raises(ArtifactError, match="there is no such folder"):
            open_store(address)
    assert not (tmp_path / "none").exists()


def test_a_column_that_holds_no_vectors_is_named(tmp_path):
    for kind in ("parquet", "lancedb"):
        shop = Made(kind, tmp_path, None, IDS, drawn(ROWS, 4))
        with pytest.raises(ArtifactError, match="column title is string, not lists of numbers"):
            open_store(f"{shop.address}{'&' if '?' in shop.address else '?'}vector=title")


def test_a_library_that_is_not_installed_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ParamsError, match=r"psycopg is not installed; pip install 'csd\[pgvector\]'"):
        open_store("postgresql://shop@127.0.0.1:1/shop?table=items")
