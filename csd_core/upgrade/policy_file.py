"""A policy in a file of its own: the blocks `gate` and `upgrade`, alone or as part of a whole params.yaml."""

from pathlib import Path

from pydantic import ValidationError

from csd_core.params.file import explain, load_params
from csd_core.params.model import Params
from csd_core.params.section import Section
from csd_core.params.upgrade import Policy, Upgrade
from csd_core.system.errors import ParamsError
from csd_core.system.yaml_file import read_yaml

DEFAULT = Path(__file__).with_name("default_policy.yaml")
"""What holds where no file is named and there is no params.yaml."""


class PolicyFile(Section):
    """What an upgrade must satisfy, and the ways to serve it that are measured."""

    gate: Policy
    upgrade: Upgrade | None = None
    """What the default says, unless given: a policy is mostly about limits."""


def load_policy(path: Path | None) -> tuple[Policy, Upgrade]:
    """Read a policy.

    Args:
        path: The file; None takes ./params.yaml if it is there, else the default that csd brings.

    Raises:
        ParamsError: one line for each mistake, naming file, key, value and remedy.
    """
    file = path or active_policy()
    values = read_yaml(file)
    if not isinstance(values, dict):
        raise ParamsError(
            f"{file}: holds no policy; write the blocks gate and upgrade (`csd upgrade policy` prints them)"
        )
    if values.keys() - PolicyFile.model_fields.keys() and values.keys() & (
        Params.model_fields.keys() - PolicyFile.model_fields.keys()
    ):
        params = load_params(file)  # it has other blocks of params.yaml, so it has to be a whole one
        return params.gate, params.upgrade
    try:
        policy = PolicyFile.model_validate(values)
    except ValidationError as error:
        raise ParamsError("\n".join(f"{file}: {explain(mistake)}" for mistake in error.errors())) from None
    return policy.gate, policy.upgrade or load_policy(DEFAULT)[1]


def active_policy() -> Path:
    """Return the policy file that applies where none is named."""
    here = Path("params.yaml")
    return here if here.is_file() else DEFAULT
