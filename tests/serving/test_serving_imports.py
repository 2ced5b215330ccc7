import os
import subprocess
import sys

from services import published

from csd_core.serving.app import SETTINGS, Settings


def test_what_is_deployed_loads_neither_torch_nor_dvc_nor_prefect():
    modules = ("serving.server", *(f"commands.production.{each}" for each in ("serve", "keys", "query")))
    heavy = ["torch", "torchvision", "dvc", "prefect", "sklearn"]
    imports = ", ".join(f"csd_core.{each}" for each in modules)
    code = f"import sys, {imports}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_a_process_starts_with_is_not_walked_through_again_and_again(tmp_path):
    project = published(tmp_path)
    settings = Settings(root=project.root, workers=1, loopback=True, keys=None)
    code = "import gc; from csd_core.serving.server import worker; worker(); print(gc.get_freeze_count())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, SETTINGS: settings.model_dump_json()},
    )
    assert int(done.stdout) > 50_000
