"""Cells of several machines as one table."""

import pytest
from synthetic import DIGEST, PLANNED, measures_of, written

from csd_core import cli
from csd_core.comparison.results.measures import CellMeasures
from csd_core.comparison.results.table import FILE, OF_A_CLOCK, merge_results, recorded, write_results

HERE, THERE, TWICE = PLANNED[:5], PLANNED[4:9], PLANNED[4]


def changed(cell, measure):
    """What a cell measured, one figure of it raised; None: no figure."""
    values = (
        each.model_copy(update={"value": each.value + 1}) if each.measure == measure else each
        for each in measures_of(cell)
    )
    return CellMeasures(params=DIGEST, values=tuple(values))


def of_two_machines(tmp_path, *, measure):
    """Two folders that share a cell, in which the second has another value of a measure."""
    write_results(
        tmp_path / "there" / FILE,
        {cell: changed(cell, measure if cell == TWICE else None) for cell in THERE},
    )
    written(tmp_path / "here", cells=HERE)
    return tmp_path / "here", tmp_path / "there"


def merged(*folders, output):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["compare", "merge", *map(str, folders), "-o", str(output)])
    return stopped.value.code


def test_the_merged_table_is_that_of_one_machine_that_ran_all(tmp_path, capsys):
    written(tmp_path / "here", cells=HERE)
    written(tmp_path / "there", cells=THERE)
    assert merged(tmp_path / "here", tmp_path / "there", output=tmp_path / "all") == 0
    alone = written(tmp_path / "alone", cells=PLANNED[:9])
    assert (tmp_path / "all" / FILE).read_bytes() == alone.read_bytes()
    assert capsys.readouterr().out == (
        f"{tmp_path / 'all' / FILE}: 9 cells\n1 in several with equal parameters and figures, seconds aside\n"
    )


def test_more_than_two_and_one_of_them_the_place_of_all(tmp_path):
    parts = [written(tmp_path / str(number), cells=PLANNED[number::3]).parent for number in range(3)]
    assert merged(*parts, output=parts[0]) == 0
    assert set(recorded(parts[0] / FILE)) == set(PLANNED)


def test_of_a_cell_with_other_figures_the_first_folder_counts_and_it_is_named(tmp_path, capsys):
    here, there = of_two_machines(tmp_path, measure="average")
    assert merged(there, here, output=tmp_path / "all") == 0
    assert recorded(tmp_path / "all" / FILE)[TWICE] == recorded(there / FILE)[TWICE]
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"1 in several and not equal, so the first folder's count: {TWICE}"
    ]


def test_seconds_make_no_difference(tmp_path):
    here, there = of_two_machines(tmp_path, measure=OF_A_CLOCK)
    assert recorded(here / FILE)[TWICE] != recorded(there / FILE)[TWICE]
    found = merge_results([here / FILE, there / FILE], tmp_path / FILE)
    assert (found.equal, found.differing) == ((TWICE,), ())


def test_a_figure_that_one_of_them_lacks_is_a_difference(tmp_path):
    written(tmp_path / "here", cells=HERE)
    lacking = tuple(each for each in measures_of(TWICE) if each.measure != "bc")
    write_results(tmp_path / "there" / FILE, {TWICE: CellMeasures(params=DIGEST, values=lacking)})
    assert merge_results([tmp_path / "here" / FILE, tmp_path / "there" / FILE], tmp_path / FILE).differing == (TWICE,)


def test_other_parameters_are_a_difference_whatever_the_figures(tmp_path):
    written(tmp_path / "here", cells=HERE)
    written(tmp_path / "there", cells=THERE, params="other")
    found = merge_results([tmp_path / "here" / FILE, tmp_path / "there" / FILE], tmp_path / FILE)
    assert found.differing == (TWICE,)
    assert {cell: each.params for cell, each in recorded(tmp_path / FILE).items() if cell in THERE} == {
        cell: DIGEST if cell in HERE else "other" for cell in THERE
    }


def test_where_cells_run_nothing_is_merged(tmp_path, capsys):
    here, there = of_two_machines(tmp_path, measure="average")
    (here / "cells").mkdir()
    before = (here / FILE).read_bytes()
    assert merged(here, there, output=here) == 2
    assert capsys.readouterr().err == f"{here}: `csd compare run` writes its results there; give -o another folder\n"
    assert (here / FILE).read_bytes() == before


def test_a_table_that_is_none_of_those_merged_is_not_overwritten(tmp_path, capsys):
    here, there = of_two_machines(tmp_path, measure="average")
    other = written(tmp_path / "other", cells=PLANNED[9:])
    before = other.read_bytes()
    assert merged(here, there, output=other.parent) == 2
    assert capsys.readouterr().err.startswith(
        f"{other}: exists and would be lost; name {other.parent} among the folders"
    )
    assert other.read_bytes() == before


def test_a_table_that_is_no_table_holds_no_recorded_cell(tmp_path):
    assert recorded(tmp_path / FILE) == {}
    (tmp_path / FILE).write_bytes(b"PAR1")
    assert recorded(tmp_path / FILE) == {}
    assert set(recorded(written(tmp_path, cells=HERE))) == set(HERE)


def test_a_missing_table_is_named_and_nothing_written(tmp_path, capsys):
    written(tmp_path / "here", cells=HERE)
    assert merged(tmp_path / "here", tmp_path / "nowhere", output=tmp_path / "all") == 4
    assert capsys.readouterr().err.startswith(f"{tmp_path / 'nowhere' / FILE}: missing")
    assert not (tmp_path / "all").exists()
