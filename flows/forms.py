"""What a person fills in to start a flow: Prefect draws the form from these models and refuses what does not fit.

It renders their descriptions as Markdown, and joins lines that have no blank line between them. The parameters of a
retraining are those of params.yaml, from the same models; each may be left empty.
"""

import hashlib
from typing import Annotated, Any, Literal

from pydantic import Field, create_model

from csd_core.params import model as params
from csd_core.params.section import Section
from csd_core.params.upgrade import Choice

BLOCKS = ("compute", "runtime", "data", "inbox", "training", "upgrade", "gate")
"""Of params.yaml, that a run may override."""


def _open(section: type[Section], *, only: tuple[str, ...] = ()) -> Any:
    """Return the same block, titles, help and bounds, in which every key may be left empty, at any depth."""
    fields: dict[str, Any] = {}
    for name, info in section.model_fields.items():
        if name == "recipes" or (only and name not in only):  # what a run changes becomes a recipe
            continue
        kind: Any = info.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            kind = _open(kind)
        elif info.discriminator:  # a block that names its kind is given whole
            kind = Annotated[kind, Field(discriminator=info.discriminator)]
        for bound in info.metadata:
            kind = Annotated[kind, bound]
        title = name.replace("_", " ").capitalize()
        fields[name] = (kind | None, Field(default=None, title=title, description=info.description))
    return create_model(section.__name__, __base__=Section, __doc__=section.__doc__, **fields)


class Overrides(_open(params.Params, only=BLOCKS)):  # type: ignore[misc]  # a class made at run time
    """Values that replace those of params.yaml. An empty field keeps the commit's value.

    Training > Later applies to the new task alone, if the run cuts one; all others apply to every task, so upgrade and
    gate make stages of older tasks run again. What would train those again is refused at once if the run publishes.
    """

    def changes(self) -> dict[str, Any]:
        """Return the keys that were filled in, nested as in params.yaml."""
        return _filled(self.model_dump(mode="json"))


def _filled(block: dict[str, Any]) -> dict[str, Any]:
    nested = {key: _filled(value) if isinstance(value, dict) else value for key, value in block.items()}
    return {key: value for key, value in nested.items() if value is not None and value != {}}


class Retrain(Section):
    """Train on the new images, starting from the active release, and publish what the gate promotes."""

    promotion: Literal["auto", "review"] = Field(default="auto", title="Promotion")
    """- **auto**: the gate's verdict holds.

    - **review**: a person approves, chooses another strategy or rejects.
    """
    publish: bool = Field(default=True, title="Publish")
    """Activate what was promoted. Otherwise the run ends with a commit on its branch."""
    on_reject: Literal["carry_on", "stop"] = Field(default="carry_on", title="After a rejection")
    """When the gate rejects:

    - **carry_on**: the champion stays, the new images go live under it, and they train the next stage.

    - **stop**: nothing goes live, and the run fails.
    """
    review_days: float = Field(default=7.0, title="Days for a review", gt=0, le=365)
    """Undecided reviews are rejected automatically after this time."""
    cut_now: bool = Field(default=False, title="Cut a task now")
    """Make a task of all waiting batches now, whatever the policy of the inbox says, and even if the same batches were
    tried before."""
    start_from: str = Field(default="", title="Start from")
    """A commit, branch or tag. Empty: the commit of the active release, or the last commit if there is no release."""
    overrides: Overrides = Field(default=Overrides(), title="Other parameters")
    """Values that replace those of params.yaml. They are checked like params.yaml and committed with the run."""

    @property
    def digest(self) -> str:
        """sha256 of all that can change what comes of a run."""
        what = self.model_dump_json(exclude={"cut_now", "start_from", "review_days"})
        return hashlib.sha256(what.encode()).hexdigest()


class Approve(Section):
    """Decide on a retraining that waits for a review."""

    choice: Choice = Field(default="approve", title="Decision")
    """The run's page says of each decision how many images go live.

    - **approve**: do what the gate decided, also where it rejects.

    - **first-model**: accept a first model.

    - **keep**, **adapt**, **merge**, **partial**, **backfill**: promote the last task's candidate under this strategy.

    - **reject-model**: the champion stays, and the new images GO LIVE under it.

    - **reject-data**: nothing goes live; the batches are set aside with your reason.

    - **reject-classes**: nothing goes live; the classes below are set aside, and the other images wait in the inbox
      again.

    - **reject**: nothing goes live; all batches wait again.
    """
    classes: tuple[str, ...] = Field(default=(), title="Classes to set aside")
    """Only for reject-classes."""
    by: str = Field(title="Your name", min_length=1, max_length=200)
    """It is written into params.yaml, the commit and the audit log."""
    reason: str = Field(title="Reason", min_length=1, max_length=2000)
    """It is written into the same three places."""
    retraining: str = Field(default="", title="Retraining")
    """Its name, such as 2026-11-25-quiet-otter. Empty: the one that waits, if there is only one."""
    if_undecided: bool = Field(default=False, title="Only if nobody decided")
    """Do nothing if somebody has decided already. The deadline of a review uses this."""


class Publish(Section):
    """Activate a champion."""

    revision: str = Field(default="", title="Revision")
    """The commit, branch or tag whose artefacts are published, such as retrain/2026-11-25-quiet-otter. Empty: the last
    commit of the project."""
    task: str = Field(default="", title="Task")
    """Publish the champion after this task. Empty: one after the other, the champions of all tasks that come after the
    active release."""
    by: str = Field(default="", title="Your name", max_length=200)
    """The name to record in the audit log. Empty: the user who runs the worker."""
    why: str = Field(default="", title="Why", max_length=2000)
    """The reason to record in the audit log."""


class Rollback(Section):
    """Activate an earlier release again."""

    number: int | None = Field(None, title="Release", ge=1)
    """Its number. Empty: the release that was active before."""
    why: str = Field(title="Why", min_length=1, max_length=2000)
    """The reason to record in the audit log."""
    by: str = Field(default="", title="Your name", max_length=200)
    """The name to record in the audit log. Empty: the user who runs the worker."""
