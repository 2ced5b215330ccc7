"""Print how fast stages train and embed here; no stage of the pipeline, but what `csd inspect` asks."""

if __name__ == "__main__":
    from csd_core.stages.entry import run_stage

    run_stage("speed")

import json
import sys

from csd_core.learning.speed import measure
from csd_core.params.model import Params


def main(classes: str, old: str = "") -> None:
    """Read parameters as JSON from standard input, and print what was measured as JSON.

    Args:
        classes: How many the classifier has.
        old: How many of them the champion of a later stage knows; empty where there is none.
    """
    params = Params.model_validate_json(sys.stdin.read())
    found = measure(params, classes=int(classes), old=int(old) if old else None)
    print(json.dumps(found._asdict()))  # noqa: T201 - a program reads it
