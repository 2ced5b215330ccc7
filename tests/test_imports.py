"""The inference side runs without torch, DVC and Prefect; looked at in a fresh process."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "torchvision", "dvc", "prefect", "onnx", "sklearn", "matplotlib")


@pytest.mark.parametrize(
    "module",
    ["csd_core.retrieval.embedder", "csd_core.retrieval.metrics", "csd_core.upgrade.gate", "csd_core.data.decode"],
)
def test_the_inference_side_loads_nothing_heavy(module):
    script = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert not set(HEAVY) & set(done.stdout.split())


@pytest.mark.parametrize("stage", ["init", "ingest", "split", "check", "promote", "report"])
def test_only_the_stages_that_learn_load_torch(stage):
    script = f"import sys, csd_core.stages.{stage}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert not {"torch", "dvc", "prefect"} & set(done.stdout.split())


def test_the_command_line_loads_no_torch():
    script = "import sys, csd_core.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert "torch" not in done.stdout.split()


@pytest.mark.parametrize("module", ["csd_core.stages.check", "csd_core.retraining.review"])
def test_what_fits_scores_is_loaded_when_scores_are_fitted(module):
    script = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert not {"sklearn", "scipy.stats"} & set(done.stdout.split())


def test_the_live_gallery_loads_lancedbs_client_of_rest_catalogues_only_on_demand():
    script = (
        "import sys, csd_core.live.gallery; print(*sys.modules); import lance_namespace_urllib3_client as client; "
        "print(client.ApiClient.__name__, 'lance_namespace_urllib3_client.api_client' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    loaded, client = done.stdout.splitlines()
    assert "lancedb" in loaded.split()
    assert "lance_namespace_urllib3_client.api_client" not in loaded.split()
    assert client == "ApiClient True"
