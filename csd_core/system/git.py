"""What git says of a project's repository. No other module starts git."""

import subprocess
from pathlib import Path

from csd_core.system.errors import ArtifactError, CsdError


def ask(root: Path, *arguments: str, why_not: str, given: bytes = b"", error: type[CsdError] = ArtifactError) -> bytes:
    """Return what a git command prints.

    Args:
        root: The project's folder, in its repository.
        arguments: Of git.
        why_not: What it means if git fails, and the remedy.
        given: To its standard input.
        error: To raise then.

    Raises:
        CsdError: `error`, if git is not installed or fails.
    """
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], check=False, capture_output=True, input=given)
    except FileNotFoundError:
        raise error("git is not installed; install it") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise error(f"{why_not} (git: {said[0]})" if said else why_not)
    return done.stdout


def answer(root: Path, *arguments: str) -> str | None:
    """Return what a git command prints, without the last line end; None if it fails or git is not installed."""
    try:
        return ask(root, *arguments, why_not="").decode(errors="replace").rstrip("\n")
    except ArtifactError:
        return None
