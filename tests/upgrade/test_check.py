"""The check's report on real small models: what it offers, and why not."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from worlds import DIMENSION, SPLITS, UPGRADE, upgrade_with

from csd_core.params.file import load_params
from csd_core.params.upgrade import AdapterMethod
from csd_core.records.check import CheckReport
from csd_core.records.verdict import Promoted
from csd_core.retrieval.lineage import Lineage
from csd_core.retrieval.metrics import recall_at
from csd_core.upgrade.check import check
from csd_core.upgrade.compatibility import recalls_under
from csd_core.upgrade.gate import judge
from csd_core.upgrade.mapping.adapters import CandidateAdapters
from csd_core.upgrade.strategies import NO_ORDER, Adapt


@pytest.fixture
def policy(request):
    """Of params.yaml, but lenient: these models are toys."""
    gate = load_params(request.config.rootpath / "params.yaml").gate
    return gate.model_copy(
        update={
            "resamples": 200,
            "max_regression": 0.5,
            "max_task_regression": 0.9,
            "min_gain": -0.5,
            "max_excess_flips": 0.9,
            "max_map_regression": 0.9,
        }
    )


def report_of(world, candidate, adapters, *, settings=UPGRADE, best=None, splits=SPLITS):
    champion = world.model(3)
    return check(
        "t4",
        gate=world.evaluation("t4", candidate, splits=splits),
        select=world.evaluation("t4", candidate, split="select", splits=splits),
        situation=world.situation(candidate, adapters, settings=settings),
        champion=champion.digest,
        pending=(),
        best_own_gallery=best or {},
    )


def test_the_adapted_cross_test_is_of_old_items_on_their_mapped_rows(mixed, to_the_fourth):
    candidate, champion = mixed.model(4), mixed.model(3)
    seen = mixed.evaluation("t4", candidate)
    asked = seen.asked[seen.old[seen.asked]]
    place = (np.cumsum(seen.old) - 1)[asked]
    by_champion = mixed.pool("t4").embed(asked, champion)
    served = mixed.gallery.take(seen.positions)
    mapped = np.empty_like(served.vectors)
    for provenance, rows in served.groups().items():
        mapped[rows] = to_the_fourth.chosen[provenance](served.vectors[rows])
    found = [
        recall_at(
            queries,
            rows,
            query_labels=seen.labels[asked],
            gallery_labels=served.labels,
            own=place,
        ).at(1)
        for queries, rows in ((by_champion, served.vectors), (seen.candidate[asked], mapped))
    ]
    test = report_of(mixed, candidate, to_the_fourth).cross_test
    assert test.self_test == found[0]
    assert test.self_test + test.adapted.difference == pytest.approx(found[1])
    assert found[1] != test.cross_test
    assert report_of(mixed, candidate, CandidateAdapters.none("none")).cross_test.adapted is None


def test_every_way_to_serve_a_mixed_gallery_is_measured(mixed, to_the_fourth):
    candidate = mixed.model(4)
    report = report_of(mixed, candidate, to_the_fourth)
    assert [each.name for each in report.alternatives] == [
        "keep",
        "adapt",
        "merge",
        "partial 25 %",
        "partial 50 %",
        "backfill",
    ]
    assert all(each.possible for each in report.alternatives)
    rows = len(mixed.gallery)
    cost = {each.name: (each.rows_embedded, each.rows_mapped) for each in report.alternatives}
    assert cost["keep"] == (0, 0)
    assert cost["adapt"] == (0, rows)
    assert cost["partial 25 %"] == (rows // 4, rows - rows // 4)
    assert cost["backfill"] == (rows, 0)
    assert set(report.status_quo.own_gallery) == {"t1", "t2", "t3", "t4"}
    assert set(report.alternatives[0].against_status_quo) == {"overall", "old", "task:t1", "task:t2", "task:t3"}
    assert [each.name for each in report.rehearsal.alternatives] == [each.name for each in report.alternatives]
    served = {each.name: (each.query_models, each.searches, each.row_bytes) for each in report.alternatives}
    assert served["merge"] == (2, 2, 4 * DIMENSION)
    assert served["backfill"] == (1, 1, 4 * DIMENSION)
    assert report.rehearsal.status_quo != report.status_quo
    assert report.cross_test is not None
    assert [point.share for point in report.during_backfill][::10] == [0.0, 1.0]
    keep, *_, backfill = report.alternatives
    assert report.during_backfill[0].naive == pytest.approx(keep.measured.overall.at[1])
    assert report.during_backfill[-1].naive == pytest.approx(backfill.measured.overall.at[1])


def test_the_order_of_a_partial_backfill_is_that_with_the_largest_area_on_select(mixed, to_the_fourth):
    partial = report_of(mixed, mixed.model(4), to_the_fourth).partial
    areas = {curve.order: curve.area for curve in partial.curves}
    assert list(areas) == list(UPGRADE.partial.orders)
    assert partial.order == max(areas, key=areas.get)
    assert partial.rest == "adapt"


def test_every_kind_of_adapter_is_measured_on_the_gate(mixed, to_the_fourth):
    candidate = mixed.model(4)
    report = report_of(mixed, candidate, to_the_fourth)
    seen = mixed.evaluation("t4", candidate)
    situation = mixed.situation(candidate, to_the_fourth)
    assert report.adapter_methods == {
        method: recalls_under(seen, [replace(Adapt().plan(situation), adapters=to_the_fourth.by_method(method))])[0]
        for method in get_args(AdapterMethod)
    }
    assert report_of(mixed, candidate, CandidateAdapters.none()).adapter_methods == {}


def test_what_is_not_retained_shows_in_the_cost_of_adapt(mixed):
    mixed.lineage = Lineage(models=mixed.lineage.models, adapters={})
    candidate = mixed.model(4)
    alternatives = report_of(mixed, candidate, mixed.adapters("t4", candidate, folder="lost")).alternatives
    adapt = next(each for each in alternatives if each.strategy == "adapt")
    assert (adapt.rows_embedded, adapt.rows_mapped) == (48, 96)


def test_rows_are_mapped_into_another_dimension_and_measured_there(mixed):
    wider = mixed.model(4, dimension=DIMENSION + 3)
    adapters = mixed.adapters("t4", wider, folder="wider")
    report = report_of(mixed, wider, adapters)
    keep, adapt, *partial, backfill = report.alternatives
    assert not keep.possible
    assert all(each.possible for each in (adapt, *partial, backfill))
    assert (adapt.rows_embedded, adapt.rows_mapped) == (0, 144)
    assert set(report.adapter_methods) == {*get_args(AdapterMethod)} - {"drift"}
    assert report.cross_test is None


def test_without_select_rows_no_share_is_chosen_and_the_report_says_why(mixed, to_the_fourth, policy):
    mixed.gallery = mixed.gallery.take(np.flatnonzero(mixed.gallery.splits != "select"))
    report = report_of(mixed, mixed.model(4), to_the_fourth, splits=("train", "gate", "test"))
    assert (report.partial, report.rehearsal) == (None, None)
    merge = next(each for each in report.alternatives if each.strategy == "merge")
    assert {group.score.kind for group in merge.scoring} == {"identity"}
    assert merge.query_models == 2
    partial = [each for each in report.alternatives if each.strategy == "partial"]
    assert [each.why_not for each in partial] == [NO_ORDER, NO_ORDER]
    verdict = judge(report, policy.model_copy(update={"allowed": ["partial"]}))
    assert f"partial 25 %, partial 50 %: {NO_ORDER}" in verdict.reasons


def test_another_dimension_without_adapters_leaves_backfill_and_every_other_way_says_why(mixed, policy):
    wider = mixed.model(4, dimension=DIMENSION + 3)
    report = report_of(mixed, wider, CandidateAdapters.none(), settings=upgrade_with(rest="keep"))
    keep, adapt, merge, *partial, backfill = report.alternatives
    reason = f"the gallery has {DIMENSION} dimensions, the candidate {DIMENSION + 3}"
    assert [each.why_not for each in (keep, *partial)] == [reason] * 3
    assert adapt.why_not == "no model of the gallery's rows is retained"
    assert (merge.rows_embedded, merge.rows_mapped, merge.query_models) == (0, 0, 2)
    assert sorted({group.dimension for group in merge.scoring}) == [DIMENSION, DIMENSION + 3]
    assert backfill.possible
    assert report.cross_test is None
    assert all(point.naive is None for point in report.during_backfill)
    verdict = judge(report, policy)
    assert isinstance(verdict, Promoted)
    assert verdict.strategy == "merge"


def test_without_shares_there_is_no_partial_backfill(mixed, to_the_fourth):
    report = report_of(mixed, mixed.model(4), to_the_fourth, settings=upgrade_with(shares=[]))
    assert [each.name for each in report.alternatives] == ["keep", "adapt", "merge", "backfill"]
    assert report.partial is None
    assert [each.name for each in report.rehearsal.alternatives] == ["keep", "adapt", "merge", "backfill"]


def test_a_share_chosen_on_select_is_judged_on_the_gate(mixed, to_the_fourth, policy):
    report = report_of(mixed, mixed.model(4), to_the_fourth)
    verdict = judge(report, policy.model_copy(update={"allowed": ["partial"]}))
    assert isinstance(verdict, Promoted)
    assert (verdict.strategy, verdict.share) == ("partial", 0.25)


def test_a_report_is_saved_and_read_again_and_judged_alike(mixed, to_the_fourth, policy, tmp_path):
    report = report_of(mixed, mixed.model(4), to_the_fourth, best={"t1": 0.9})
    report.save(tmp_path / "check.json")
    again = CheckReport.load(tmp_path / "check.json")
    assert again == report
    assert judge(again, policy) == judge(report, policy)
    assert (
        report_of(mixed, mixed.model(4), to_the_fourth, best={"t1": 0.9}).model_dump_json() == report.model_dump_json()
    )


def test_rows_are_mapped_once_for_all_queries_and_again_for_another_gallery(mixed, to_the_fourth):
    seen = mixed.evaluation("t4", mixed.model(4))
    way = seen.way_after(Adapt().plan(mixed.situation(mixed.model(4), to_the_fourth)))
    source = next(piece.source for piece in way.pieces if piece.source.adapter)
    mapped, _ = seen.vectors(source)
    assert seen.asked_by("select").vectors(source)[0] is mapped
    turned = replace(seen, stored=replace(seen.stored, vectors=-seen.stored.vectors))
    rows = seen.stored.groups()[source.stored]
    np.testing.assert_array_equal(turned.vectors(source)[0], source.adapter(-seen.stored.vectors[rows]))
