"""What a person fills in to start a flow: Prefect draws the form from these models and refuses what does not fit.

The parameters of a retraining are those of params.yaml, from the same models; each may be left empty.
"""

import hashlib
from typing import Annotated, Any, Literal

from pydantic import Field, create_model

from csd_core import params
from csd_core.params import Choice
from csd_core.params_section import Section

BLOCKS = ("compute", "runtime", "data", "inbox", "training", "upgrade", "gate")
"""Of params.yaml, that a run may override."""


def _open(section: type[Section], *, only: tuple[str, ...] = ()) -> Any:
    """The same block, titles, help and bounds, in which every key may be left empty, at any depth."""
    fields: dict[str, Any] = {}
    for name, info in section.model_fields.items():
        if only and name not in only:
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
    """Values that differ from params.yaml. What is left empty holds as the commit has it.

    Training, upgrade and gate hold for every task: where they differ, stages of older tasks run again too, and a
    champion that does not descend from the release in force is not published.
    """

    def changes(self) -> dict[str, Any]:
        """The keys that were filled in, nested as in params.yaml."""
        return _filled(self.model_dump(mode="json"))


def _filled(block: dict[str, Any]) -> dict[str, Any]:
    nested = {key: _filled(value) if isinstance(value, dict) else value for key, value in block.items()}
    return {key: value for key, value in nested.items() if value is not None and value != {}}


class Retrain(Section):
    """Take what is new, bring the pipeline up to date from the release in force, and publish what the gate promotes."""

    promotion: Literal["auto", "review"] = Field(default="auto", title="Promotion")
    """auto: the gate's verdict holds. review: a person approves, chooses another strategy or rejects."""
    publish: bool = Field(default=True, title="Publish")
    """Put in force what was promoted. Without it the run ends with a commit on its branch."""
    on_reject: Literal["carry_on", "stop"] = Field(default="carry_on", title="After a rejection")
    """carry_on: the images wait for the next stage, and are searchable under the champion that stays. stop: nothing
    comes into force, and the run fails."""
    review_days: float = Field(default=7.0, title="Days for a review", gt=0, le=365)
    """Who does not decide by then has rejected."""
    cut_now: bool = Field(default=False, title="Cut a task now")
    """From all batches that wait, whatever the policy of the inbox says, and even if the same gave nothing before."""
    start_from: str = Field(default="", title="Start from")
    """A commit, branch or tag. Empty: the commit of the release in force, or the last one where there is no release."""
    overrides: Overrides = Field(default=Overrides(), title="Other parameters")
    """Values that differ from params.yaml; they are checked like it, and committed with the run."""

    @property
    def digest(self) -> str:
        """sha256 of all that can change what comes of a run."""
        what = self.model_dump_json(exclude={"cut_now", "start_from", "review_days"})
        return hashlib.sha256(what.encode()).hexdigest()


class Approve(Section):
    """Decide on a retraining that waits for a review."""

    choice: Choice = Field(default="approve", title="Decision")
    """approve: as the gate decided. A strategy: promote the last task under it. reject: the champion stays; of several
    tasks nothing is published."""
    by: str = Field(title="Your name", min_length=1, max_length=200)
    """For params.yaml, the commit and the audit log."""
    reason: str = Field(title="Reason", min_length=1, max_length=2000)
    """For these three too."""
    retraining: str = Field(default="", title="Retraining")
    """Its name, such as 2026-11-25-quiet-otter. Empty: the only one that waits."""
    if_undecided: bool = Field(default=False, title="Only if nobody decided")
    """Ends without a word where a decision was made; the time-out of a review sets it."""


class Publish(Section):
    """Put a champion in force."""

    revision: str = Field(default="", title="Revision")
    """A commit, branch or tag whose artefacts are taken, such as retrain/2026-11-25-quiet-otter. Empty: the last commit
    of the project."""
    task: str = Field(default="", title="Task")
    """After which to take the champion. Empty: each one that comes after the release in force, in their order."""
    by: str = Field(default="", title="Your name", max_length=200)
    """For the audit log. Empty: the user of the worker."""
    why: str = Field(default="", title="Why", max_length=2000)
    """For the audit log."""


class Rollback(Section):
    """Put an earlier release in force once more."""

    number: int | None = Field(None, title="Release", ge=1)
    """Its number. Empty: the one that was in force before."""
    why: str = Field(title="Why", min_length=1, max_length=2000)
    """For the audit log."""
    by: str = Field(default="", title="Your name", max_length=200)
    """For the audit log. Empty: the user of the worker."""
