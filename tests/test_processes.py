import sys
from pathlib import Path

from csd_core.processes import environment


def test_the_stages_see_our_python_first(monkeypatch):
    monkeypatch.setenv("PATH", "/elsewhere")
    first, *rest = environment()["PATH"].split(":")
    assert Path(first) == Path(sys.executable).parent
    assert rest == ["/elsewhere"]
