"""What `pip install csd` brings: the wheel and the sdist are built, and a project of one's own runs on the wheel."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SOURCES = ("csd_core", "flows", "tests", "deploy", "pyproject.toml", "README.md", "LICENSE")
BUILD = "import sys, setuptools.build_meta as b; print(getattr(b, 'build_' + sys.argv[1])(sys.argv[2]))"


def built(what, source, target):
    """The file that the build backend makes of a folder of sources."""
    done = subprocess.run(
        [sys.executable, "-c", BUILD, what, str(target)], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return target / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        path = ROOT / name
        (shutil.copytree if path.is_dir() else shutil.copy)(path, source / name)
    return built("sdist", source, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """The wheel that the sdist builds."""
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked := tmp_path_factory.mktemp("unpacked"), filter="data")
    return built("wheel", unpacked / sdist.name.removesuffix(".tar.gz"), tmp_path_factory.mktemp("wheel"))


class Installed:
    """An environment that holds the wheel, and sees all other packages of the one that runs the tests."""

    def __init__(self, folder, wheel):
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        self.python = folder / "bin" / "python"
        self.packages = next(folder.glob("lib/python*/site-packages"))
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(self.packages)  # noqa: S202 - a wheel of our own
        program = folder / "bin" / "dvc"  # as pip would write it
        program.write_text(f"#!{self.python}\nimport sys\nfrom dvc.cli import main\nsys.exit(main())\n")
        program.chmod(0o755)
        # .pth files in a folder that is named by one are not read, so the csd under test there stays unseen
        (self.packages / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n")

    def run(self, folder, *arguments, check=True):
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        start = "import sys; from csd_core.cli import main; main()"
        done = subprocess.run(
            [self.python, "-P", "-c", start, *arguments],
            cwd=folder,
            env=environment | {"PATH": os.defpath, "COLUMNS": "160"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    return Installed(tmp_path_factory.mktemp("environment") / "venv", wheel)


def test_a_wheel_has_all_that_the_packages_hold_and_no_tests(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        theirs = {name: archive.read(name) for name in names if ".dist-info/" not in name}
    ours = {
        path.relative_to(ROOT).as_posix(): path.read_bytes()
        for package in ("csd_core", "flows")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert theirs == ours
    assert {"csd_core/project/template/stages.yaml", "csd_core/serving/page/index.html"} <= names


def test_sources_and_sdist_build_the_same_wheel(wheel, tmp_path):
    for name in SOURCES:
        path = ROOT / name
        (shutil.copytree if path.is_dir() else shutil.copy)(path, tmp_path / "source" / name)
    (tmp_path / "out").mkdir()
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(built("wheel", tmp_path / "source", tmp_path / "out")) as two:
        assert {name: one.read(name) for name in one.namelist()} == {name: two.read(name) for name in two.namelist()}


def test_a_project_of_ones_own_runs_and_an_upgrade_runs_again_what_it_changes(installed, tmp_path):
    assert installed.run(tmp_path, "--version") == "csd 0.1.0\n"
    assert "glyphs-2 " in installed.run(tmp_path, "profile", "list")
    assert "Next: cd shop && csd run" in installed.run(tmp_path, "init", "shop", "--profile", "tiny")
    project = tmp_path / "shop"
    first = installed.run(project, "status")
    assert "train@t3       has not run" in first
    assert "Report: report/index.html" in installed.run(project, "run")
    nothing = "Nothing to do: data, code and parameters are as they were when the artefacts were made.\n"
    assert installed.run(project, "status") == nothing
    assert installed.run(project, "run").startswith(nothing)

    installed_losses = installed.packages / "csd_core" / "learning" / "losses.py"
    text = installed_losses.read_text(encoding="utf-8")
    installed_losses.write_text(f"# another version\n{text}", encoding="utf-8")
    assert installed.run(project, "status") == nothing
    changed = text.replace("\n\n\ndef ", "\n\n\nMORE = 1\n\n\ndef ", 1)
    assert changed != text
    installed_losses.write_text(changed, encoding="utf-8")
    told = installed.run(project, "status").splitlines()
    assert [line.split() for line in told[1:-1]] == [[f"train@{task}", "code"] for task in ("t1", "t2", "t3")]
    again = installed.run(project, "run").splitlines()
    ran = [line.split("'")[1] for line in again if line.startswith("Running stage")]
    assert ran == ["code", "train@t1", "train@t2", "train@t3"]  # to the same weights, so nothing after them runs


def test_without_prefect_the_command_for_schedules_says_what_to_install(installed, tmp_path):
    (installed.packages / "others.pth").rename(tmp_path / "others.pth")
    try:
        (installed.packages / "few.pth").write_text(f"{tmp_path / 'few'}\n")
        (tmp_path / "few").mkdir()
        for path in Path(sysconfig.get_path("purelib")).iterdir():
            if not path.name.startswith(("prefect", "csd")):
                (tmp_path / "few" / path.name).symlink_to(path)
        environment = {"PATH": os.defpath}
        done = subprocess.run(
            [installed.python, "-m", "csd_core.cli", "ui"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (
            1,
            "`csd ui` needs Prefect, which is not installed here: pip install 'csd[flows]'\n",
        )
    finally:
        (tmp_path / "others.pth").rename(installed.packages / "others.pth")
        (installed.packages / "few.pth").unlink()
