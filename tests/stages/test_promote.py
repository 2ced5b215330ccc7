"""Promotion under every decision, through the real stages, on digits."""

import hashlib
import json
import shutil

import numpy as np
import pytest

from csd_core.data.pool import ItemPool
from csd_core.data.shards import load_shard
from csd_core.records.check import CheckReport
from csd_core.records.stages import Champion, Pending
from csd_core.records.verdict import Ledger, Promoted, Rejected, VerdictFile
from csd_core.retrieval.embedder import Embedder, digest_of
from csd_core.retrieval.gallery import Gallery, Provenance
from csd_core.retrieval.lineage import Lineage
from csd_core.retrieval.metrics import recall_at
from csd_core.stages import adapt, check
from csd_core.system.errors import CompatibilityError
from csd_core.upgrade.mapping.adapters import CandidateAdapters
from csd_core.workspace import Workspace

DECISIONS = ("keep", "adapt", "partial", "backfill", "reject")


@pytest.fixture
def project(checked_digits, tmp_path):
    return shutil.copytree(checked_digits, tmp_path / "project")


def pool_of(files, *tasks):
    return ItemPool(shards=[load_shard(files.shard(task)) for task in tasks])


def contents(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".csd" not in path.parts
    }


def state(files, task):
    return (
        VerdictFile.load(files.verdict(task)).verdict,
        Gallery.load(files.gallery(task)),
        Lineage.load(files.lineage(task)),
        Ledger.load(files.ledger(task)),
    )


def models(files):
    """Digests of the first champion and of the second task's candidate."""
    return digest_of(files.candidate_embedder("t1")), digest_of(files.candidate_embedder("t2"))


def test_the_first_model_is_promoted_by_the_gate_and_embeds_everything(checked_digits):
    files = Workspace(checked_digits)
    verdict, gallery, lineage, ledger = state(files, "t1")
    first, _ = models(files)
    assert isinstance(verdict, Promoted)
    assert (verdict.strategy, verdict.decision, verdict.champion) == ("none", "auto", None)
    pool = pool_of(files, "t1")
    assert gallery.ids.tolist() == pool.ids.tolist()
    assert list(gallery.groups()) == [Provenance(first, "")]
    assert (gallery.query_model, gallery.searchable_spaces) == (first, (first,))
    assert (set(lineage.models), set(lineage.adapters)) == ({first}, set())
    assert [entry.task for entry in ledger.entries] == ["t1"]
    assert Pending.load(files.pending("t1")).tasks == ()


def old_and_new(files, gallery):
    old = np.flatnonzero(gallery.tasks == "t1")
    return old, np.flatnonzero(gallery.tasks == "t2")


def test_keep_leaves_old_vectors_and_lets_the_candidate_search_their_space(project, decide):
    files = decide(project, "t2", "keep")
    verdict, gallery, lineage, ledger = state(files, "t2")
    first, second = models(files)
    old, new = old_and_new(files, gallery)
    np.testing.assert_array_equal(gallery.vectors[old], Gallery.load(files.gallery("t1")).vectors)
    assert set(gallery.embedded_by[old]) == {first}
    assert set(gallery.embedded_by[new]) == {second}
    assert (gallery.query_model, gallery.searchable_spaces) == (second, (first, second))
    assert (set(lineage.models), set(lineage.adapters)) == ({first, second}, set())
    assert verdict.reasons[0] == "an operator chose keep"
    assert ledger.entries[-1].strategy == "keep"


def test_adapt_maps_old_vectors_by_the_chosen_adapter_and_retains_what_made_them(project, decide):
    files = decide(project, "t2", "adapt")
    _, gallery, lineage, _ = state(files, "t2")
    first, second = models(files)
    old, _ = old_and_new(files, gallery)
    adapters = CandidateAdapters.load(files.candidate_adapters("t2"))
    adapter = adapters.chosen[Provenance(first, "")]
    np.testing.assert_array_equal(gallery.vectors[old], adapter(Gallery.load(files.gallery("t1")).vectors))
    assert list(gallery.groups()) == [Provenance(first, adapter.digest), Provenance(second, "")]
    assert set(gallery.spaces) == {second}
    assert gallery.searchable_spaces == (second,)
    assert (set(lineage.models), set(lineage.adapters)) == ({first, second}, {adapter.digest})


def test_partial_embeds_the_first_of_the_order_anew_and_maps_the_rest(project, decide):
    files = decide(project, "t2", "partial")
    verdict, gallery, lineage, ledger = state(files, "t2")
    first, second = models(files)
    report = CheckReport.load(files.check("t2"))
    chosen = next(each for each in report.alternatives if (each.strategy, each.share) == ("partial", verdict.share))
    old, _ = old_and_new(files, gallery)
    anew = old[gallery.embedded_by[old] == second]
    assert len(anew) == chosen.rows_embedded == round(verdict.share * len(old))
    assert (gallery.adapters[old] != "").sum() == chosen.rows_mapped == len(old) - len(anew)
    embedder = Embedder.load(files.candidate_embedder("t2"), device="cpu")
    pool = pool_of(files, "t1", "t2")
    again = pool.embed(pool.positions(gallery.ids[anew]), embedder)
    np.testing.assert_allclose(gallery.vectors[anew], again, atol=1e-6)
    assert gallery.searchable_spaces == (second,)
    assert set(lineage.models) == {first, second}
    assert ledger.entries[-1].share == verdict.share
    assert not list(project.glob(".csd/unfinished/backfill-*"))


def test_backfill_embeds_every_row_anew_and_retains_the_candidate_alone(project, decide):
    files = decide(project, "t2", "backfill")
    _, gallery, lineage, _ = state(files, "t2")
    _, second = models(files)
    assert list(gallery.groups()) == [Provenance(second, "")]
    embedder = Embedder.load(files.candidate_embedder("t2"), device="cpu")
    pool = pool_of(files, "t1", "t2")
    again = pool.embed(pool.positions(gallery.ids), embedder)
    assert np.einsum("gd,gd->g", gallery.vectors, again).min() > 1 - 1e-5
    assert (set(lineage.models), set(lineage.adapters)) == ({second}, set())


def test_a_rejection_carries_the_champion_over_and_it_embeds_the_new_items(project, decide):
    files = decide(project, "t2", "reject")
    verdict, gallery, lineage, ledger = state(files, "t2")
    first, second = models(files)
    old, new = old_and_new(files, gallery)
    assert isinstance(verdict, Rejected)
    assert verdict.candidate == second
    np.testing.assert_array_equal(gallery.vectors[old], Gallery.load(files.gallery("t1")).vectors)
    assert list(gallery.groups()) == [Provenance(first, "")]
    assert len(new) == len(pool_of(files, "t2").ids)
    assert (set(lineage.models), set(lineage.adapters)) == ({first}, set())
    assert Pending.load(files.pending("t2")).tasks == ("t2",)
    assert contents(files.champion_embedder("t2")) == contents(files.champion_embedder("t1"))
    assert contents(files.champion_model("t2")) == contents(files.champion_model("t1"))
    assert (ledger.entries[-1].champion, ledger.entries[-1].champion_task) == (first, "t1")
    assert ledger.entries[-1].served == CheckReport.load(files.check("t2")).status_quo.own_gallery


@pytest.mark.parametrize("decision", [each for each in DECISIONS if each != "reject"])
def test_what_is_written_down_is_what_was_decided(project, decide, decision):
    files = decide(project, "t2", decision)
    verdict, gallery, lineage, ledger = state(files, "t2")
    first, second = models(files)
    entry = ledger.entries[-1]
    assert (verdict.outcome, verdict.strategy, verdict.decision) == ("promoted", decision, decision)
    assert (entry.task, entry.strategy, entry.champion, entry.champion_task) == ("t2", decision, second, "t2")
    assert entry.gallery == gallery.digest
    assert entry.check == digest_of(files.check("t2"))
    report = CheckReport.load(files.check("t2"))
    served = next(
        each for each in report.alternatives if (each.strategy, each.share) == (verdict.strategy, verdict.share)
    )
    assert entry.served == served.measured.own_gallery
    champion = Champion.load(files.champion_embedder("t2") / "champion.json")
    assert (champion.digest, champion.parent, champion.classes) == (second, first, ("0", "1", "2", "3", "4"))
    assert digest_of(files.champion_embedder("t2") / "embedder.onnx") == second
    assert Pending.load(files.pending("t2")).tasks == ()
    assert gallery.ids.tolist() == pool_of(files, "t1", "t2").ids.tolist()
    assert all(lineage.knows(provenance) for provenance in gallery.groups())
    assert all(digest_of(path) == digest for digest, path in (lineage.models | lineage.adapters).items())


@pytest.mark.parametrize(("decision", "whose"), [("keep", b"of t2"), ("reject", b"of t1")])
def test_the_champions_int8_variant_comes_and_stays_with_it(project, decide, decision, whose):
    files = Workspace(project)
    (files.candidate_quantized("t2") / "embedder.int8.onnx").write_bytes(b"of t2")
    (files.champion_embedder("t1") / "embedder.int8.onnx").write_bytes(b"of t1")
    decide(project, "t2", decision)
    assert (files.champion_embedder("t2") / "embedder.int8.onnx").read_bytes() == whose


def test_a_candidate_without_an_int8_variant_does_not_inherit_one(project, decide):
    files = Workspace(project)
    (files.champion_embedder("t1") / "embedder.int8.onnx").write_bytes(b"of t1")
    decide(project, "t2", "keep")
    names = sorted(path.name for path in files.champion_embedder("t2").iterdir())
    assert names == ["champion.json", "embedder.onnx"]


@pytest.mark.parametrize("decision", DECISIONS)
def test_promoting_twice_gives_equal_bytes(project, decide, decision):
    files = decide(project, "t2", decision)
    once = contents(files.gallery("t2").parent)
    decide(project, "t2", decision)
    assert contents(files.gallery("t2").parent) == once


def test_a_decision_that_is_not_possible_leaves_what_was_there(project, decide):
    files = decide(project, "t2", "keep")
    before = contents(project / "artifacts")
    with pytest.raises(
        CompatibilityError, match="decisions.t2: none: the check offers keep, adapt, merge, partial, backfill"
    ):
        decide(project, "t2", "none")
    assert contents(project / "artifacts") == before
    assert files.verdict("t2").is_file()


# --- a third task -----------------------------------------------------------------------------------------------------


@pytest.fixture
def third(checked_after_adapt, tmp_path):
    return shutil.copytree(checked_after_adapt, tmp_path / "project")


def test_a_third_task_adapts_rows_that_were_adapted_before_and_the_chain_reproduces_them(third, decide):
    files = decide(third, "t3", "adapt")
    _, gallery, lineage, _ = state(files, "t3")
    _, middle = models(files)
    last = digest_of(files.candidate_embedder("t3"))
    twice, once, fresh = gallery.groups()
    assert (len(twice.chain), len(once.chain), len(fresh.chain)) == (2, 1, 0)
    assert (once.embedded_by, fresh.embedded_by) == (middle, last)
    assert set(gallery.spaces) == {last}
    assert len(lineage.models) == 3
    assert set(lineage.adapters) == {*twice.chain, *once.chain}
    pool = pool_of(files, "t1", "t2", "t3")
    for provenance, rows in gallery.groups().items():
        images = pool.images(pool.positions(gallery.ids[rows]))
        again = lineage.embed_as(provenance, device="cpu", threads=1)(images)
        assert np.einsum("nd,nd->n", again, gallery.vectors[rows]).min() > 1 - 1e-5


def test_a_third_task_may_keep_a_mixed_gallery_or_embed_all_of_it_anew(third, decide):
    files = decide(third, "t3", "keep")
    _, gallery, lineage, _ = state(files, "t3")
    _, middle = models(files)
    last = digest_of(files.candidate_embedder("t3"))
    before = Gallery.load(files.gallery("t2"))
    assert list(gallery.groups())[:-1] == list(before.groups())
    assert gallery.searchable_spaces == (middle, last)
    np.testing.assert_array_equal(gallery.vectors[: len(before)], before.vectors)
    assert len(lineage.models) == 3
    files = decide(third, "t3", "backfill")
    _, gallery, lineage, _ = state(files, "t3")
    assert list(gallery.groups()) == [Provenance(last, "")]
    assert (set(lineage.models), set(lineage.adapters)) == ({last}, set())


def test_what_the_third_check_measured_is_what_is_served(third, decide):
    """Gate queries on the served gallery give the figures of the report."""
    files = decide(third, "t3", "adapt")
    _, gallery, _, ledger = state(files, "t3")
    asked = np.flatnonzero(gallery.splits == "gate")
    pool = pool_of(files, "t1", "t2", "t3")
    embedder = Embedder.load(files.candidate_embedder("t3"), device="cpu", threads=1)
    queries = pool.embed(pool.positions(gallery.ids[asked]), embedder)
    for task, served in ledger.entries[-1].served.items():
        rows, mine = np.flatnonzero(gallery.tasks == task), gallery.tasks[asked] == task
        recall = recall_at(
            queries[mine],
            gallery.vectors[rows],
            query_labels=gallery.labels[asked[mine]],
            gallery_labels=gallery.labels[rows],
            own=np.searchsorted(rows, asked[mine]),
        )
        assert served == recall.at(1)
    assert set(ledger.best_own_gallery) == {"t1", "t2", "t3"}


def test_a_generation_that_is_no_longer_retained_is_embedded_anew_under_adapt(third, decide, monkeypatch):
    files = Workspace(third)
    lineage = Lineage.load(files.lineage("t2"))
    first, middle = models(files)
    for name in (first, *lineage.adapters):
        (files.lineage("t2") / f"{name}.onnx").unlink()
    record = {"models": [middle], "adapters": []}
    (files.lineage("t2") / "lineage.json").write_text(json.dumps(record), encoding="utf-8")
    monkeypatch.chdir(third)
    adapt.main("t3")
    check.main("t3")
    report = CheckReport.load(files.check("t3"))
    count = len(load_shard(files.shard("t1")).ids)
    assert next(each for each in report.alternatives if each.strategy == "adapt").rows_embedded == count
    decide(third, "t3", "adapt")
    gallery = Gallery.load(files.gallery("t3"))
    assert set(gallery.embedded_by[gallery.tasks == "t1"]) == {digest_of(files.candidate_embedder("t3"))}
    assert [len(each.chain) for each in gallery.groups()] == [0, 1]
