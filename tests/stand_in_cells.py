"""Cells of a comparison whose `dvc` is a shell script, also in a worker on another machine."""

import os
from dataclasses import dataclass
from pathlib import Path

from csd_core.comparison.running import child, scheduler
from csd_core.comparison.running.cluster import CellWork
from csd_core.comparison.running.run_folder import Code
from csd_core.comparison.running.runs import params_of
from csd_core.comparison.running.spec import Spec

ROOT = Path(__file__).parents[1]
RECORDED = ROOT / "tests" / "comparison" / "recorded"
CODE = Code(files={"dvc.yaml": b"stages: {}\n", "csd_core/__init__.py": b""})
SPEC = Spec.model_validate(
    {
        "profiles": {"tiny": {}},
        "contenders": {name: {} for name in ("finetune", "csd")},
        "seeds": [1, 2],
        "reference": "csd",
    }
)


def cells():
    return params_of(SPEC, project=ROOT, where="mine.yaml")


@dataclass(frozen=True, kw_only=True)
class StandInCells(CellWork):
    """The first cell pauses when it is first run, until it is killed or released."""

    programs: Path

    def __call__(self, task, pace):
        child.environment = lambda: {**os.environ, "PATH": f"{self.programs}:{os.environ['PATH']}"}
        scheduler.ask_test_queries = lambda *_: ()  # what it makes has no images
        return super().__call__(task, pace)


def stand_in_cells(folder, **options):
    """Return the work, in a comparison's folder that a mark is in."""
    programs = folder.with_name("programs")
    programs.mkdir(exist_ok=True)
    paused, released = programs / "paused", programs / "released"
    (programs / "dvc").write_text(f"""#!/bin/sh
grep -q 'engine: local' params.yaml || exit 1
if [ "${{PWD#*/finetune/seed-1}}" != "$PWD" ] && [ ! -e {released} ]; then
    echo $$ > {paused}.part; mv {paused}.part {paused}
    while [ ! -e {released} ]; do sleep 0.05; done
fi
echo "Running stage 'train@t2':"
cp -r {RECORDED}/. .
""")
    (programs / "dvc").chmod(0o755)
    folder.mkdir(parents=True)
    (folder / ".mark").write_text("this one")
    return StandInCells(folder=folder, code=CODE, programs=programs, threads=1, takes_gpu=False, **options)


def figures(measures):
    """What does not depend on the clock."""
    return [each for each in measures.values if each.measure != "train_seconds"]
