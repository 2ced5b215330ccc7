import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module",
    [
        "csd_core.serving.server",
        "csd_core.commands.serve",
        "csd_core.commands.keys",
        "csd_core.commands.query",
    ],
)
def test_what_is_deployed_loads_neither_torch_nor_dvc_nor_prefect(module):
    heavy = ["torch", "torchvision", "dvc", "prefect", "sklearn"]
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
