"""The file that says what is compared: profiles, contenders, seeds, and who is the reference."""

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field, ValidationError

from csd_core.comparison.running.presets import METHODS, Overrides
from csd_core.params.file import explain
from csd_core.params.methods import MethodName
from csd_core.params.model import Params
from csd_core.params.section import Name, Section
from csd_core.system.errors import ParamsError
from csd_core.system.yaml_file import read_yaml

T = TypeVar("T")


def _each_once(values: list[T]) -> list[T]:
    twice = next((value for place, value in enumerate(values) if value in values[:place]), None)
    if twice is not None:
        raise ValueError(f"has {twice} twice; a cell runs once")
    return values


Seeds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1), AfterValidator(_each_once)]


class Contender(Section):
    """One method, or one variant of it. A method's name with nothing else means that method with its preset."""

    overrides: Overrides = Field(default_factory=dict)
    """Of params.yaml, merged key by key."""
    profiles: Annotated[list[Name], AfterValidator(_each_once)] | None = None
    """Where it runs; null: everywhere."""
    seeds: Seeds | None = None
    """With which seeds; null: with all."""

    @property
    def named_method(self) -> str | None:
        """training.later.method of its overrides."""
        values: Any = self.overrides
        for key in ("training", "later", "method"):
            values = values.get(key) if isinstance(values, dict) else None
        return None if values is None else str(values)


class Spec(Section):
    """A comparison. Every profile is run with every contender and seed, but where a contender says less."""

    profiles: Annotated[dict[Name, Overrides], Field(min_length=1)]
    """Profile -> overrides of its params.yaml, merged key by key."""
    contenders: Annotated[dict[Name, Contender], Field(min_length=1)]
    seeds: Seeds
    """Each is the seed of the training and of the split."""
    reference: Name
    """The contender that the others are compared with."""

    def method_of(self, contender: str) -> MethodName | None:
        """Return the method whose preset a contender starts from; None: the profile's own method as it stands."""
        wanted = self.contenders[contender].named_method or contender
        return next((method for method in METHODS if method == wanted), None)


def load_spec(path: Path) -> Spec:
    """Read and check a comparison.

    Raises:
        ParamsError: one line for each mistake, naming file, key and remedy.
    """
    if not path.is_file():
        raise ParamsError(f"{path}: there is no such file; comparisons/*.yaml are the project's")
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise ParamsError(f"{path}: says nothing to compare; give it profiles, contenders, seeds and a reference")
    try:
        spec = Spec.model_validate(values)
    except ValidationError as error:
        raise ParamsError("\n".join(f"{path}: {_explain(mistake)}" for mistake in error.errors())) from None
    problem = next(_contradictions(spec), None)
    if problem:
        raise ParamsError(f"{path}: {problem}")
    return spec


def _explain(mistake: Any) -> str:
    """One pydantic error as `key: what to do`."""
    keys = [str(key) for key in mistake["loc"]]
    where = ".".join(keys).removesuffix(".[key]")
    if mistake["type"] == "missing":
        return f"{where}: missing; add it"
    if mistake["type"] != "extra_forbidden":
        return explain(mistake)
    if keys[-1] in Params.model_fields:
        return f"{where}: unknown key; parameters go below {'.'.join([*keys[:-1], 'overrides'])}"
    known = Spec.model_fields if len(keys) == 1 else Contender.model_fields
    near = difflib.get_close_matches(keys[-1], known, n=1)
    return f"{where}: unknown key; " + (f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}")


def _contradictions(spec: Spec) -> Iterator[str]:
    """Yield what does not hold across keys, each as `key: value: what to do`."""
    if spec.reference not in spec.contenders:
        yield f"reference: {spec.reference}: there is no such contender; known: {', '.join(spec.contenders)}"
    for name, contender in spec.contenders.items():
        at = f"contenders.{name}"
        for profile in contender.profiles or ():
            if profile not in spec.profiles:
                yield f"{at}.profiles: {profile}: not among this comparison's; known: {', '.join(spec.profiles)}"
        for seed in contender.seeds or ():
            if seed not in spec.seeds:
                yield f"{at}.seeds: {seed}: not among this comparison's; known: {', '.join(map(str, spec.seeds))}"
        method = contender.named_method
        if name in METHODS and method not in (None, name):
            yield f"{at}: is named for one method and overrides training.later.method with {method}; rename it"
        if method is not None and method not in METHODS:
            yield f"{at}.overrides.training.later.method: {method}: there is no such method; {_near(method)}"
        if name not in METHODS and not contender.overrides:
            yield f"{at}: is no method and overrides nothing; {_near(name)}"


def _near(method: str) -> str:
    near = difflib.get_close_matches(method, METHODS, n=1)
    return f"did you mean {near[0]}?" if near else f"methods: {', '.join(METHODS)}"
