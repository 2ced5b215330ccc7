"""What every block of params.yaml is, and the kinds of values that several of them hold."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from csd_core.system.names import class_flaw, path_flaw, printable

Split = Literal["train", "select", "gate", "test"]
"""What an image of a task is for."""

UNSEEN = frozenset({"size", "nfiles"})
"""Keys that DVC leaves out when it looks whether a stage has run before (`dvc.stage.cache`), in parameters too: a
change of one would be answered with the outcome of its previous value."""


BY_HASH = "hash"
"""The rule by which near-duplicates share one role."""


def _seen(name: str) -> str:
    if name in UNSEEN:
        raise ValueError("DVC overlooks changes under a key of this name; choose another name")
    return name


def _label(label: str) -> str:
    flaw = class_flaw(label)
    if flaw:
        raise ValueError(f'"{printable(label)}": {flaw}')
    return label


def _here(path: str) -> str:
    flaw = path_flaw(path)
    if flaw is None and "://" in path:
        flaw = "is an address; name a file or folder of this machine"
    if flaw:
        raise ValueError(f"{printable(path)}: {flaw}")
    return path


def _anywhere(uri: str) -> str:
    return uri if "://" in uri else _here(uri)


def _groups(rule: str) -> str:
    if rule == BY_HASH:
        return rule
    try:
        groups = re.compile(rule).groups
    except re.error as error:
        raise ValueError(
            f"is not a regular expression ({error}); write null, hash, or one such as '([^/]+)/[^/]*$'"
        ) from None
    if not groups:
        raise ValueError(f"{rule} has no group in parentheses; put the part of a path that names the group in (...)")
    return rule


Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=64), AfterValidator(_seen)]
"""Of a task or a source; it becomes a key of params.yaml, and part of a stage's name and of paths."""
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
ClassName = Annotated[str, AfterValidator(_label)]
GroupRule = Annotated[str, AfterValidator(_groups)]
"""Which images share one role: BY_HASH, or a regular expression on a path."""
LocalPath = Annotated[str, AfterValidator(_here)]
"""A file or folder, relative to params.yaml or absolute; csd and DVC take it as it is written."""
Location = Annotated[str, AfterValidator(_anywhere)]
"""The same, or the address of an object store."""


class Section(BaseModel):
    """A block of params.yaml; an unknown key is a typo, so it is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse fields whose changes DVC would overlook."""
        super().__pydantic_init_subclass__(**kwargs)
        for name, field in cls.model_fields.items():
            if not UNSEEN.isdisjoint({name, field.alias, field.validation_alias}):
                raise TypeError(
                    f"{cls.__name__}.{name}: DVC leaves keys of this name out of its run cache's key, so that a change "
                    "would be ignored; name it otherwise"
                )
