from pathlib import Path

import pytest

from csd_core.comparison.running.presets import METHODS
from csd_core.comparison.running.spec import load_spec
from csd_core.system.errors import ParamsError

ROOT = Path(__file__).parents[2]

WHOLE = """
profiles: {tiny: {}, digits: {}}
contenders:
  csd: {}
  softer: {overrides: {training: {later: {lr: 1}}}, profiles: [tiny], seeds: [2]}
seeds: [1, 2]
reference: csd
"""


@pytest.fixture
def written(tmp_path):
    def write(text):
        file = tmp_path / "mine.yaml"
        file.write_text(text)
        return file

    return write


def refused(file):
    with pytest.raises(ParamsError) as error:
        load_spec(file)
    return str(error.value).replace(str(file), "mine.yaml")


def test_the_shipped_comparisons_are_valid():
    shipped = sorted((ROOT / "comparisons").glob("*.yaml"))
    assert {"evidence", "example"} <= {file.stem for file in shipped}
    references = {file.stem: load_spec(file).reference for file in shipped}
    assert references.pop("heads") == "relu"
    assert {references.pop("upgrades"), references.pop("upgrades-digits")} == {"memory-0"}
    assert set(references.values()) == {"csd"}


@pytest.mark.parametrize(
    ("was", "becomes", "message"),
    [
        ("seeds: [1, 2]", "seeds: [1, 2]\nsedes: 3", "sedes: unknown key; did you mean seeds?"),
        ("seeds: [1, 2]", "", "seeds: missing; add it"),
        ("seeds: [1, 2]", "seeds: [1, 2, 1]", "seeds: has 1 twice; a cell runs once"),
        (
            "profiles: [tiny]",
            "profiles: [tiny, tiny]",
            "contenders.softer.profiles: has tiny twice; a cell runs once",
        ),
        ("seeds: [1, 2]", "seeds: []", "seeds: []: list should have at least 1 item after validation, not 0"),
        (
            "csd: {}",
            "csd: {training: {}}",
            "contenders.csd.training: unknown key; parameters go below contenders.csd.overrides",
        ),
        ("csd: {}", "csd: {profile: [tiny]}", "contenders.csd.profile: unknown key; did you mean profiles?"),
        ("[tiny]", "[tinny]", "contenders.softer.profiles: tinny: not among this comparison's; known: tiny, digits"),
        ("seeds: [2]", "seeds: [3]", "contenders.softer.seeds: 3: not among this comparison's; known: 1, 2"),
        ("reference: csd", "reference: cds", "reference: cds: there is no such contender; known: csd, softer"),
        (
            "csd: {}",
            "csd: {}\n  fintune: {}",
            "contenders.fintune: is no method and overrides nothing; did you mean finetune?",
        ),
        (
            "{lr: 1}",
            "{method: fintune}",
            (
                "contenders.softer.overrides.training.later.method: fintune: there is no such method; "
                "did you mean finetune?"
            ),
        ),
        (
            "csd: {}",
            "csd: {overrides: {training: {later: {method: lwf}}}}",
            "contenders.csd: is named for one method and overrides training.later.method with lwf; rename it",
        ),
    ],
)
def test_a_mistake_is_one_line_that_names_key_and_remedy(written, was, becomes, message):
    assert was in WHOLE
    assert refused(written(WHOLE.replace(was, becomes))) == f"mine.yaml: {message}"


def test_a_file_that_is_missing_or_empty_is_one_line(written, tmp_path):
    assert refused(tmp_path / "mine.yaml").startswith("mine.yaml: there is no such file")
    assert refused(written("")).startswith("mine.yaml: says nothing to compare")


def test_every_method_may_stand_alone_as_a_contender(written):
    contenders = "".join(f"  {method}: {{}}\n" for method in METHODS)
    spec = load_spec(written(f"profiles: {{tiny: {{}}}}\ncontenders:\n{contenders}seeds: [1]\nreference: csd\n"))
    assert [spec.method_of(name) for name in spec.contenders] == list(METHODS)


def test_a_variant_names_its_method_or_takes_the_profiles_own(written):
    spec = load_spec(written(WHOLE))
    assert spec.method_of("softer") is None
    spec = load_spec(written(WHOLE.replace("{lr: 1}", "{method: lucir}")))
    assert spec.method_of("softer") == "lucir"
