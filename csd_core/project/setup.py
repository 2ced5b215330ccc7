"""A project of one's own, apart from the tool: a folder with parameters, stages, schedule and settings, in git and DVC.

Nothing that is there is changed, and every file appears whole, so that a killed `csd init` can be run again.
"""

from dataclasses import dataclass
from pathlib import Path

from csd_core.params.file import profile_text, write_checked
from csd_core.system.atomic import write_text
from csd_core.system.errors import ParamsError
from csd_core.system.git import answer, ask

TEMPLATE = Path(__file__).parent / "template"

FILES = {
    "dvc.yaml": "stages.yaml",
    "prefect.yaml": "deployments.yaml",
    "README.md": "README.md",
    ".gitignore": "gitignore",
    ".dvcignore": "dvcignore",
    ".dvc/config": "dvc-config",
    ".dvc/.gitignore": "dvc-gitignore",
}
"""File of a project -> the template's. Under their own names, DVC and git would heed them where they lie.
The two of `.dvc` are what `dvc init` writes, below a repository's folder too (`--subdir`)."""

LISTS = frozenset({".gitignore", ".dvcignore"})
"""Files that hold a project's own lines beside csd's."""
OWN = frozenset({".dvc/config", ".dvc/.gitignore"})
"""Files that a person's or DVC's settings change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetUp:
    """What became of each file.

    Attributes:
        written: Those that were not there.
        kept: Those that were there and differ from the template's.
        lines: Of `LISTS`: the lines of the template that a file there lacks.
    """

    written: tuple[str, ...]
    kept: tuple[str, ...]
    lines: dict[str, tuple[str, ...]]


def template(name: str) -> str:
    """Return the text that csd has for a file of a project."""
    return (TEMPLATE / FILES[name]).read_text(encoding="utf-8")


def differs(root: Path, name: str) -> bool:
    """Return whether a project's file is not as the installed csd has it."""
    return (root / name).read_text(encoding="utf-8") != template(name)


def set_up(root: Path, profile: str, *, params: str | None = None) -> SetUp:
    """Write what a project lacks, and start its repository, with a first commit, where there is none.

    Args:
        root: The project's folder.
        profile: Whose params.yaml to write.
        params: Text of params.yaml, in the profile's place.

    Raises:
        ParamsError: if there is no such profile, or the folder cannot hold a project.
    """
    text = profile_text(root / "profiles", profile) if params is None else params
    if root.exists() and not root.is_dir():
        raise ParamsError(f"{root}: is a file; name a folder")
    root.mkdir(parents=True, exist_ok=True)
    _enter_git(root)
    written: list[str] = []
    kept: list[str] = []
    lines: dict[str, tuple[str, ...]] = {}
    if not (root / "params.yaml").exists():
        write_checked(root / "params.yaml", text)
        written.append("params.yaml")
    for name in FILES:
        if not (root / name).exists():
            write_text(root / name, template(name))
            written.append(name)
        elif name in LISTS:
            there = (root / name).read_text(encoding="utf-8").splitlines()
            lacking = [line for line in template(name).splitlines() if line not in there and not line.startswith("#")]
            lines |= {name: tuple(lacking)} if lacking else {}
        elif name not in OWN and differs(root, name):
            kept.append(name)
    _commit_first(root, [name for name in (*FILES, "params.yaml") if name not in (*kept, *lines)])
    return SetUp(written=tuple(written), kept=tuple(kept), lines=lines)


def _commit_first(root: Path, names: list[str]) -> None:
    """Commit files to a repository that has no commit: training and flows name the state they start from.

    Raises:
        ParamsError: if git cannot.
    """
    if answer(root, "rev-parse", "--verify", "HEAD") is not None:
        return
    known = answer(root, "var", "GIT_COMMITTER_IDENT") is not None
    nobody = [] if known else ["user.name=csd", "user.email=csd@localhost"]
    settings = [part for setting in (*nobody, "commit.gpgsign=false") for part in ("-c", setting)]
    why_not = f"{root}: the first commit failed"
    ask(root, "add", "--force", "--", *names, why_not=why_not, error=ParamsError)
    message = ("--quiet", "--no-verify", "--message", "A csd project")
    ask(root, *settings, "commit", *message, "--", *names, why_not=why_not, error=ParamsError)


def _enter_git(root: Path) -> None:
    """Make a repository of a folder that is in none.

    Raises:
        ParamsError: if the repository around the folder ignores it.
    """
    if answer(root, "rev-parse", "--is-inside-work-tree") is None:
        ask(root, "init", "--quiet", why_not=f"{root}: cannot become a git repository", error=ParamsError)
    elif answer(root, "check-ignore", "--quiet", "params.yaml") is not None:
        raise ParamsError(
            f"{root}: the git repository around it ignores params.yaml there; choose another folder, or run `git init` "
            "in this one first"
        )
