import numpy as np
import pytest
from worlds import UPGRADE, situation_of, synthetic_evidence, upgrade_with

from csd_core.system.errors import CompatibilityError
from csd_core.upgrade.strategies import (
    NO_ORDER,
    Adapt,
    Backfill,
    Keep,
    NoGallery,
    PartialBackfill,
    offered,
    strategy_named,
)

ORDERS = ("random", "class", "class-mean", "residual")


def plans_agree(one, other):
    assert one.searchable_spaces == other.searchable_spaces
    np.testing.assert_array_equal(one.embed, other.embed)


def test_strategies_are_offered_by_their_cost():
    names = [(way.name, way.share) for way in offered(UPGRADE.partial, "class")]
    assert names == [
        ("keep", None),
        ("adapt", None),
        ("merge", None),
        ("partial", 0.25),
        ("partial", 0.5),
        ("backfill", None),
    ]
    assert [way.order for way in offered(UPGRADE.partial, "class") if way.name == "partial"] == ["class", "class"]
    assert [way.name for way in offered(upgrade_with(shares=[]).partial, "class")] == [
        "keep",
        "adapt",
        "merge",
        "backfill",
    ]


def test_a_strategy_of_a_verdict_is_found_again():
    for name in ("none", "keep", "adapt", "merge", "backfill"):
        assert strategy_named(name, share=None, order=None, rest=None).name == name
    partial = strategy_named("partial", share=0.3, order="class", rest="keep")
    assert partial == PartialBackfill(share=0.3, order="class", rest="keep")
    for missing in ({"share": None}, {"order": None}, {"rest": None}):
        with pytest.raises(CompatibilityError, match="names no share, order or rest; check the candidate again"):
            strategy_named("partial", **({"share": 0.3, "order": "class", "rest": "keep"} | missing))


def test_a_first_model_takes_no_gallery_over():
    assert NoGallery().why_not(situation_of(synthetic_evidence())) == "the gallery has 48 rows"
    assert NoGallery().why_not(situation_of(synthetic_evidence(champion=False))) is None


def test_a_partial_backfill_whose_order_could_not_be_chosen_is_impossible_and_says_so():
    situation = situation_of(synthetic_evidence())
    for way in offered(upgrade_with(rest="keep").partial, None):
        if way.name == "partial":
            assert way.why_not(situation) == NO_ORDER
            with pytest.raises(CompatibilityError, match="no select rows .* choose another strategy"):
                way.plan(situation)


@pytest.mark.parametrize("order", ORDERS)
def test_a_share_of_nothing_is_adapt_or_keep_and_of_everything_backfill(mixed, to_the_fourth, order):
    situation = mixed.situation(mixed.model(4), to_the_fourth)

    def partial(share, rest):
        return PartialBackfill(share=share, order=order, rest=rest).plan(situation)

    for rest, way in (("adapt", Adapt()), ("keep", Keep())):
        plans_agree(partial(0.0, rest), way.plan(situation))
        assert partial(0.0, rest).adapters == way.plan(situation).adapters
    plans_agree(partial(1.0, "adapt"), Backfill().plan(situation))
    assert partial(1.0, "keep").embed.all()
    assert not partial(1.0, "adapt").mapped(mixed.gallery).any()


@pytest.mark.parametrize("order", ORDERS)
def test_a_larger_share_embeds_the_rows_of_a_smaller_one_and_more(mixed, to_the_fourth, order):
    situation = mixed.situation(mixed.model(4), to_the_fourth)
    before = np.zeros(len(mixed.gallery), np.bool_)
    for share in (0.1, 0.25, 0.5, 1.0):
        embed = PartialBackfill(share=share, order=order, rest="adapt").plan(situation).embed
        assert embed.sum() == round(share * len(mixed.gallery))
        assert (embed | before == embed).all()
        before = embed


def test_rows_without_an_adapter_come_on_top_of_the_share_unless_the_order_puts_them_first(mixed):
    lost = next(iter(mixed.gallery.groups()))
    mixed.lineage = type(mixed.lineage)(models=mixed.lineage.models, adapters={})
    candidate = mixed.model(4)
    situation = mixed.situation(candidate, mixed.adapters("t4", candidate))
    rows = mixed.gallery.groups()[lost]
    assert situation.without_adapter().sum() == len(rows) == 48
    assert set(situation.order("residual")[: len(rows)].tolist()) == set(rows.tolist())
    first = PartialBackfill(share=0.5, order="residual", rest="adapt").plan(situation)
    assert first.embed.sum() == 72
    drawn = PartialBackfill(share=0.5, order="random", rest="adapt").plan(situation)
    assert drawn.embed.sum() > 72
    assert drawn.embed[rows].all()
    kept = PartialBackfill(share=0.5, order="random", rest="keep").plan(situation)
    assert kept.embed.sum() == 72


def test_an_order_is_made_once(mixed):
    situation = mixed.situation(mixed.model(4))
    assert situation.order("random") is situation.order("random")
