"""What choosing a method means, beyond its name: the parameters without which it is not the published method."""

from typing import Any, get_args

from csd_core.params.methods import MethodName

METHODS: tuple[MethodName, ...] = get_args(MethodName)

Overrides = dict[str, Any]
"""Nested values that replace those of params.yaml, key by key."""


def preset(method: MethodName) -> Overrides:
    """Overrides that make a stage one of `method`.

    LUCIR is defined with a scaled cosine classifier, HOC on a fixed simplex with a tenth of the cross-entropy and
    without the triplet loss, in its first stage too; all others stand on the base of the profile.
    """
    later: Overrides = {"method": method}
    match method:
        case "lucir":
            return {"training": {"network": {"classifier": "scaled-cosine"}, "later": later}}
        case "hoc":
            no_triplet: Overrides = {"weight": 0.0}
            return {
                "training": {
                    "network": {"classifier": "simplex"},
                    "first": {"triplet": no_triplet},
                    "later": {**later, "ce": {"weight": 0.1}, "triplet": no_triplet},
                }
            }
        case _:
            return {"training": {"later": later}}
