import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from csd_core.comparison.running.presets import METHODS
from csd_core.comparison.running.runs import Cell, cells_of, params_of
from csd_core.comparison.running.spec import Spec
from csd_core.params.file import load_params
from csd_core.system.errors import ParamsError

ROOT = Path(__file__).parents[2]


def comparison(*, profiles=None, contenders=None, seeds=(1,), reference="csd"):
    return Spec.model_validate(
        {
            "profiles": profiles or {"tiny": {}},
            "contenders": {"csd": {}, **(contenders or {})},
            "seeds": list(seeds),
            "reference": reference,
        }
    )


def of(spec, contender="csd", profile="tiny", seed=1):
    return params_of(spec, project=ROOT, where="mine.yaml")[Cell(profile, contender, seed)].params


def refused(spec):
    with pytest.raises(ParamsError) as error:
        params_of(spec, project=ROOT, where="mine.yaml")
    return str(error.value)


TWO = comparison(
    profiles={"tiny": {}, "digits": {}},
    contenders={"lwf": {}, "fd": {"profiles": ["digits"], "seeds": [2]}},
    seeds=(1, 2),
)


def test_every_profile_meets_every_contender_and_seed_but_where_a_contender_says_less():
    assert [str(cell) for cell in cells_of(TWO)] == [
        "tiny/csd/1", "tiny/lwf/1", "digits/csd/1", "digits/lwf/1",
        "tiny/csd/2", "tiny/lwf/2", "digits/csd/2", "digits/lwf/2", "digits/fd/2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("only", "chosen"),
    [
        (["tiny"], ["tiny/csd/1", "tiny/lwf/1", "tiny/csd/2", "tiny/lwf/2"]),
        (["*/l*"], ["tiny/lwf/1", "digits/lwf/1", "tiny/lwf/2", "digits/lwf/2"]),
        (["*/fd", "tiny/csd/1"], ["tiny/csd/1", "digits/fd/2"]),
    ],
)
def test_patterns_choose_cells(only, chosen):
    assert [str(cell) for cell in cells_of(TWO, only)] == chosen


@pytest.mark.parametrize("only", ["tinny", "tiny/fd", "tiny/csd/3", "tiny/csd/1/x"])
def test_a_pattern_that_fits_nothing_is_an_error(only):
    with pytest.raises(ParamsError, match=f"--only {only}: fits no cell; .* as in tiny/csd/1"):
        cells_of(TWO, [only])


@pytest.mark.parametrize("method", METHODS)
def test_every_preset_makes_valid_parameters_of_its_method(method):
    params = of(comparison(contenders={method: {}}), method)
    assert params.training.later.method == method
    special = {"lucir": "scaled-cosine", "hoc": "simplex"}
    assert params.training.network.classifier == special.get(method, "cosine")


def test_hoc_has_a_base_of_its_own_in_both_stages():
    training = of(comparison(contenders={"hoc": {}}), "hoc").training
    assert (training.first.triplet.weight, training.later.triplet.weight) == (0, 0)
    assert (training.first.ce.weight, training.later.ce.weight) == (1, 0.1)


def test_overrides_apply_in_the_order_profile_preset_contender_seed():
    spec = comparison(
        profiles={"tiny": {"training": {"seed": 9, "first": {"epochs": 7}, "later": {"method": "fd", "epochs": 7}}}},
        contenders={
            "short": {"overrides": {"training": {"later": {"epochs": 3}}}},
            "soft-hoc": {"overrides": {"training": {"later": {"method": "hoc", "ce": {"weight": 0.5}}}}},
        },
        seeds=(5,),
    )
    csd, short, soft = (of(spec, name, seed=5).training for name in ("csd", "short", "soft-hoc"))
    assert (csd.later.method, csd.first.epochs, csd.later.epochs) == ("csd", 7, 7)
    assert (short.later.method, short.later.epochs) == ("fd", 3)
    assert (soft.network.classifier, soft.later.ce.weight, soft.later.triplet.weight) == ("simplex", 0.5, 0)


def test_the_seed_is_that_of_training_and_split_and_of_nothing_else():
    params = of(comparison(seeds=(5,)), seed=5)
    assert (params.training.seed, params.split.seed, params.upgrade.seed, params.gate.seed) == (5, 5, 1, 1)


def test_the_first_stage_is_the_same_for_all_but_methods_with_a_base_of_their_own():
    contenders = {name: {} for name in METHODS}
    firsts = {name: of(comparison(contenders=contenders), name).training for name in METHODS}
    same = {
        name
        for name, each in firsts.items()
        if (each.network, each.first) == (firsts["csd"].network, firsts["csd"].first)
    }
    assert same == set(METHODS) - {"lucir", "hoc"}


def test_a_source_is_changed_key_by_key():
    spec = comparison(profiles={"glyphs-2": {"sources": {"published": {"glyphs": {"images_per_family": 2}}}}})
    glyphs = of(spec, profile="glyphs-2").sources.published["glyphs"]
    assert (glyphs.kind, glyphs.images_per_family, glyphs.rotation) == ("glyphs", 2, 12)


def test_every_candidate_is_promoted_whatever_the_gate_says():
    strict = {"gate": {"allowed": [], "min_recall": 1.0, "max_regression": 0.0}}
    params = of(comparison(profiles={"tiny": strict}))
    assert params.decisions == {"t1": "none", "t2": "backfill", "t3": "backfill"}
    assert (params.gate.min_recall, params.gate.max_regression) == (1, 0)


def test_what_is_not_measured_is_not_computed_unless_it_is_asked_for():
    assert of(comparison()).upgrade.partial.shares == []
    asked = comparison(contenders={"lwf": {"overrides": {"upgrade": {"partial": {"shares": [0.5]}}}}})
    assert of(asked, "lwf").upgrade.partial.shares == [0.5]


def test_relative_paths_are_the_projects():
    spec = comparison(profiles={"cub200-2": {}, "imagefolder": {}})
    assert of(spec, profile="cub200-2").sources.published["cub200"].path == str(ROOT / "data/raw/CUB_200_2011.tgz")
    assert of(spec, profile="imagefolder").sources.folders["photos"].path == str(ROOT / "data/raw/photos")


@pytest.mark.parametrize(
    ("profiles", "contenders", "message"),
    [
        ({"tinny": {}}, {}, "profiles: profile tinny: there is no such profile; known: cifar10-2, "),
        ({"tiny": {"trainin": {}}}, {}, "profiles.tiny.trainin: unknown key; did you mean training?"),
        (
            {},
            {"a": {"overrides": {"training": {"later": {"epoch": 1}}}}},
            "contenders.a.overrides.training.later.epoch: unknown key; did you mean epochs?",
        ),
        (
            {"tiny": {"sources": {"published": {"digits": {"limit": 1}}}}},
            {},
            "profiles.tiny.sources.published.digits.limit: unknown key; ",
        ),
        ({"tiny": {"tasks": None}}, {}, "profiles.tiny.tasks: None: input should be a valid dictionary"),
        (
            {},
            {"a": {"overrides": {"training": {"later": {"method": "lucir"}, "network": {"classifier": "cosine"}}}}},
            "tiny with a: training.network.classifier: cosine: method lucir needs scaled-cosine; write that",
        ),
    ],
)
def test_wrong_parameters_are_one_line_that_names_their_place(profiles, contenders, message):
    told = refused(comparison(profiles=profiles, contenders=contenders))
    assert told.startswith(f"mine.yaml: {message}")
    assert "\n" not in told


def test_the_digest_tells_parameters_apart_but_for_those_on_which_no_artefact_depends(tmp_path):
    spec = comparison(contenders={"lwf": {}, "again": {"overrides": {"training": {"later": {"method": "csd"}}}}})
    csd, lwf, again = params_of(spec, project=ROOT, where="mine.yaml").values()
    assert csd.digest == again.digest != lwf.digest
    elsewhere = comparison(profiles={"tiny": {"runtime": {"threads": 7}}})
    (other,) = params_of(elsewhere, project=ROOT, where="mine.yaml").values()
    assert other.digest == csd.digest


def test_the_digest_does_not_depend_on_where_the_project_lies(tmp_path):
    published = {"fashion-mnist": {"path": "images/of/mine"}}
    spec = comparison(profiles={"fashion-mnist-2": {"sources": {"published": published}}})
    shutil.copytree(ROOT / "csd_core/project/profiles", tmp_path / "profiles")
    (here,) = params_of(spec, project=ROOT, where="mine.yaml").values()
    (there,) = params_of(spec, project=tmp_path, where="mine.yaml").values()
    assert here.params != there.params
    assert here.digest == there.digest


def test_the_text_of_a_cell_is_a_valid_params_yaml(tmp_path):
    (csd,) = params_of(comparison(), project=ROOT, where="mine.yaml").values()
    file = tmp_path / "params.yaml"
    file.write_text(csd.text())
    read = load_params(file)
    assert read == csd.params
    assert YAML(typ="safe").load(file)["decisions"]["t3"] == "backfill"
