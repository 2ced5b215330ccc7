"""The method that docs/comparing.md writes as an example is one."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from csd_core.learning.methods.protocol import Batch, Classes
from csd_core.learning.seeding import keyed_generator
from csd_core.learning.teacher import Outputs

TEXT = (Path(__file__).parents[3] / "docs" / "comparing.md").read_text(encoding="utf-8")


def test_the_example_pulls_features_to_the_teachers_mean_of_their_class():
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    written = {}
    exec(compile(code, "anchors.py", "exec"), written)  # noqa: S102 - our own document
    knobs = SimpleNamespace(anchors=SimpleNamespace(weight=2.0))
    method = written["Anchors"](knobs, Classes(old=2, new=2))
    draw = keyed_generator("documented")
    student, teacher = torch.randn(12, 6, generator=draw), torch.randn(12, 6, generator=draw)
    labels = torch.randint(4, (12,), generator=draw)
    unit = torch.nn.functional.normalize(teacher.double(), dim=1)
    terms = []
    for feature, label in zip(student.double(), labels, strict=True):
        mean = torch.stack([row for row, other in zip(unit, labels, strict=True) if other == label]).mean(dim=0)
        terms.append(1 - float(feature @ mean / (feature.norm() * mean.norm())))
    logits = torch.zeros(12, 4)
    outputs = Outputs(student, logits, student, student), Outputs(teacher, logits[:, :2], teacher, teacher)
    found = method.losses(Batch(labels, 2), *outputs)
    assert list(found) == list(method.weights) == ["anchors"]
    assert found["anchors"].item() == pytest.approx(sum(terms) / len(terms), abs=1e-6)
