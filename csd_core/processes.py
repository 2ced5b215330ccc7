"""How csd starts other programs."""

import os
import sys
from pathlib import Path


def environment() -> dict[str, str]:
    """Of a program that runs stages: they take the Python that runs us, whether or not its environment is activated."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}
