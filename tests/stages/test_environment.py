"""What a stage computes with does not depend on the shell that started it."""

import json
import os
import subprocess
import sys

import pytest

from csd_core.stages.environment import SET, for_stages

HOSTILE = {
    "ATEN_CPU_CAPABILITY": "default",
    "CUBLASLT_WORKSPACE_SIZE": "1",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA",
    "LC_ALL": "tr_TR.UTF-8",
    "LC_NUMERIC": "de_DE.UTF-8",
    "MKL_CBWR": "COMPATIBLE",
    "MKL_NUM_THREADS": "7",
    "NVIDIA_TF32_OVERRIDE": "1",
    "OMP_DYNAMIC": "true",
    "OMP_NUM_THREADS": "7",
    "OMP_THREAD_LIMIT": "1",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OPENBLAS_CORETYPE": "Nehalem",
    "PYTHONHASHSEED": "77",
    "PYTHONIOENCODING": "ascii",
    "PYTHONOPTIMIZE": "2",
    "PYTHONUTF8": "0",
    "PYTHONWARNINGS": "error",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1",
    "TZ": "Pacific/Kiritimati",
}
HARMLESS = {
    "AWS_PROFILE": "mine",
    "CUDA_VISIBLE_DEVICES": "1",
    "GOMP_SPINCOUNT": "9",
    "HOME": "/home/a",
    "OMP_WAIT_POLICY": "passive",
    "RANK": "0",
    "TORCHELASTIC_RUN_ID": "x",
    "TORCH_HOME": "/models",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_may_change_bytes_is_the_same_in_every_stage(name):
    assert for_stages({**HARMLESS, name: HOSTILE[name]}) == for_stages(HARMLESS)


def test_what_cannot_stays():
    assert for_stages(HARMLESS) == HARMLESS | SET
    assert for_stages({"HOME": "/a"}) == {"HOME": "/a", "GOMP_SPINCOUNT": "1000"} | SET


def test_the_environment_of_a_stage_is_that_of_the_stages_it_starts():
    once = for_stages(HOSTILE | HARMLESS)
    assert for_stages(once) == once


def test_a_stage_starts_again_in_place_and_once(tmp_path):
    (tmp_path / "program.py").write_text(
        "import json, os, sys\n"
        "from csd_core.stages.environment import enter\n"
        "print(os.getpid(), flush=True)\n"
        "enter()\n"
        "print(json.dumps([dict(os.environ), sys.argv, sys.flags.utf8_mode, sys.flags.hash_randomization]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "program", "a b", "-c"],
        env=os.environ | HOSTILE | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        check=True,
    )
    first, second, told = done.stdout.splitlines()
    environment, arguments, utf8, random = json.loads(told)
    assert first == second
    assert for_stages(environment) == environment
    assert arguments[1:] == ["a b", "-c"]
    assert (utf8, random) == (1, 0)
