"""Maps from cosine to score: strictly increasing, and back again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from csd_core.records.ranking import Identity, Logistic, Offset, Quantile, ScoreMap

QUANTILE = Quantile(known=(-1.01, 0.2, 0.7, 0.95, 1.01), shares=(0.0, 0.1, 0.5, 0.9, 1.0))
MAPS = [Identity(), Offset(offset=-0.3), Logistic(slope=4.0, offset=-7.5), QUANTILE]
cosines = st.floats(-1, 1, width=32)


@pytest.mark.parametrize("score", MAPS, ids=lambda score: score.kind)
@given(first=cosines, second=cosines)
def test_a_larger_cosine_has_a_larger_score(score, first, second):
    if abs(first - second) > 1e-6:
        assert (score(first) < score(second)) == (first < second)


@pytest.mark.parametrize("score", MAPS, ids=lambda score: score.kind)
@given(cosine=cosines)
def test_the_cosine_of_a_score_is_the_one_that_has_it(score, cosine):
    assert score.cosines(score(cosine)) == pytest.approx(cosine, abs=1e-9)


@pytest.mark.parametrize("score", MAPS, ids=lambda score: score.kind)
def test_no_row_has_no_score_and_vectors_a_little_too_long_have_one(score):
    assert score(-np.inf) == -np.inf
    assert score.cosines(-np.inf) == -np.inf
    lengthy = score([1.0, 1.000001, 1.001])
    assert np.isfinite(lengthy).all()
    assert (np.diff(lengthy) > 0).all()


def test_a_logistic_score_is_the_log_odds_of_an_inverse_hyperbolic_tangent():
    assert Logistic(slope=2.0, offset=1.0)(0.5) == pytest.approx(2 * np.arctanh(0.5) + 1)


@pytest.mark.parametrize("score", MAPS, ids=lambda score: score.kind)
def test_a_map_is_read_again_as_its_kind(score):
    again = TypeAdapter(ScoreMap).validate_json(score.model_dump_json())
    assert again == score
    assert type(again) is type(score)


def test_a_falling_map_is_refused():
    with pytest.raises(ValidationError):
        Logistic(slope=-1.0, offset=0.0)
