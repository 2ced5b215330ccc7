"""How OpenMP's threads wait changes when a training ends, not what it learns."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from patience import PATIENCE

from csd_core.system.processes import SPINS, WAITING

SCRIPT = """
import sys, safetensors.torch, team, torch
torch.set_num_threads(2)
torch.use_deterministic_algorithms(mode=True)
safetensors.torch.save_file(team.trained("float32"), sys.argv[1])
"""
POLICIES = {
    "default": {},
    "as stages do": {"GOMP_SPINCOUNT": SPINS},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "spinning": {"OMP_WAIT_POLICY": "active"},
}


@pytest.mark.slow
def test_gradients_and_weights_are_the_same_to_the_byte_however_threads_wait(tmp_path):
    clean = {name: value for name, value in os.environ.items() if name not in WAITING}
    places = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])
    started = {
        name: subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(tmp_path / name)], env=clean | chosen | {"PYTHONPATH": places}
        )
        for name, chosen in POLICIES.items()
    }
    assert [process.wait(PATIENCE) for process in started.values()] == [0] * len(POLICIES)
    first, *others = ((tmp_path / name).read_bytes() for name in POLICIES)
    assert all(other == first for other in others)
