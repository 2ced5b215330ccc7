"""The blocks of docs/stores.md do what the library does."""

import re
from pathlib import Path

import numpy as np
import psycopg
import pytest
from shops import Made, drawn

from csd_core.records.ranking import Identity, Logistic, Offset, Quantile

PAGE = (Path(__file__).parents[3] / "docs" / "stores.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"```(python|sql)\n(.*?)```", PAGE, flags=re.DOTALL))
COSINES = np.linspace(-0.99, 0.99, 50)
SCORES = (
    Identity(),
    Offset(offset=0.25),
    Logistic(slope=8.1, offset=-4.2),
    Quantile(known=(-1.01, 0.2, 0.4, 1.01), shares=(0.0, 0.3, 0.6, 1.0)),
)


@pytest.mark.parametrize("score", SCORES, ids=lambda score: score.kind)
def test_the_pages_scores_are_those_of_the_gate(score):
    names = {}
    exec(BLOCKS["python"], names)  # noqa: S102 - our own page
    assert np.allclose(names["scored"](COSINES, score.model_dump()), score(COSINES))


def test_the_pages_query_ranks_rows_of_two_models_by_score(tmp_path, server):
    old, new = drawn(30, 4), drawn(30, 6, seed=1)
    halves = [Made("postgresql", tmp_path / name, server, np.arange(30) + first, vectors)
              for name, first, vectors in (("old", 0, old), ("new", 100, new))]  # fmt: skip
    query = BLOCKS["sql"].replace("items_of_new_model", halves[1].table).replace(" items ", f" {halves[0].table} ")
    for name, vector in (("old", old[3]), ("new", new[7])):
        query = query.replace(f":{name}_query", f"'{vector.tolist()}'::vector")
    with psycopg.connect(server.address) as connection:
        found = connection.execute(query).fetchall()
    expected = {3: old @ old[3], 107: new @ new[7]}
    assert {found[0][0], found[1][0]} == set(expected)
    scores = {each[0]: each[1] for each in found}
    half = Logistic(slope=8.1, offset=-4.2)((old @ old[3])[np.argsort(-(old @ old[3]))[1]])
    assert scores.get(int(np.argsort(-(old @ old[3]))[1]), half) == pytest.approx(float(half), abs=1e-3)
