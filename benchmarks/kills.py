"""Kill processes inside publish, rollback, backfill, erase and first deletions while others write; count what is lost.

A kill counts only if it fell inside: the audit log has a line `begun` without its end, or an erasure or a first
deletion had changed the gallery and was not finished. At the end every write that was acknowledged is looked for.

python benchmarks/kills.py [--kills 20] [--writers 8] [--seconds 3600]
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "production"))  # the tests' projects: linear embedders, real artefacts

from projects import Project, pixels_of  # noqa: E402 - found on the path set above

from csd_core.audit.checksums import hash_of  # noqa: E402 - as above
from csd_core.releases.backfill.finish import complete  # noqa: E402 - as above
from csd_core.releases.publish import publish  # noqa: E402 - as above
from csd_core.releases.rollback import rollback  # noqa: E402 - as above
from csd_core.system.errors import CsdError  # noqa: E402 - as above

TASKS = ("t1", "t2")
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["projects", "csd_core.releases.backfill.finish", "csd_core.releases.rollback"])
KINDS = ("publish", "rollback", "backfill", "erase", "first deletion")


def opened(root: str) -> Project:
    """Return a project that was made before."""
    return Project(Path(root), tasks=TASKS, images=6)


def write(root: str, name: str) -> None:
    """Put and delete until the input ends; tell each write once it is done."""
    project, number = opened(root), 0
    while True:
        number += 1
        identity = f"{name}-{number}"
        print(json.dumps(["putting", identity]), flush=True)
        try:
            project.put(pixels_of(50, 1, seed=number), "live", ids=[identity])
            print(json.dumps(["put", identity]), flush=True)
            if number % 4 == 0:
                print(json.dumps(["deleting", identity]), flush=True)
                project.delete([identity])
                print(json.dumps(["deleted", identity]), flush=True)
        except CsdError as error:
            print(json.dumps(["refused", str(error)]), flush=True)
        time.sleep(0.3)


def change(root: str, commands: Any, says: Any) -> None:
    """Wait for a command, do it, and say when it is inside and when it is done."""
    says.send("ready")
    command, *words = commands.recv().split(":")
    project = opened(words[0] if command == "first deletion" else root)
    production = project.production

    def on_step(step: str) -> None:
        says.send(step)

    if command == "publish":
        publish(production, on_step=on_step)
    elif command == "rollback":
        rollback(production, int(words[0]), why="kills", on_step=on_step)
    elif command == "backfill":
        complete(production, why="kills", on_step=on_step)
    elif command == "erase":
        with production.releases.changing():
            says.send("begun")
            report = production.live.erase(words, why="kills")
            production.releases.forget(words, tagged=report.tagged, why="kills")
    else:
        says.send("begun")
        production.live.delete(production.releases.active().table, ["nosuch"], why="kills")
    says.send("done")


class Changer:
    """A process that is ready to change something, forked from one that has only loaded the libraries."""

    def __init__(self, root: Path) -> None:
        self.says, says = FORKS.Pipe(duplex=False)
        commands, self.commands = FORKS.Pipe(duplex=False)
        self.process = FORKS.Process(target=change, args=(str(root), commands, says))
        self.process.start()
        says.close()

    def told_until(self, *words: str) -> str:
        """Return which of the words came first, `ended` if none did."""
        with suppress(EOFError):
            while True:
                if (told := self.says.recv()) in words:
                    return told
        return "ended"

    def run(self, command: str, *, delay: float | None) -> bool:
        """Whether it was killed after it had begun; without a delay it is not killed."""
        self.told_until("ready")
        self.commands.send(command)
        killed = False
        if self.told_until("begun", "done") == "begun" and delay is not None:
            time.sleep(delay)
            killed = self.process.is_alive()
            self.process.kill()
        self.told_until("done")
        self.process.join()
        return killed and self.process.exitcode == -signal.SIGKILL


def due(project: Project) -> str:
    """The next change of the release: publish, complete it, go back."""
    record = project.active().record
    if record.task == "t1":
        return "publish"
    if record.kind != "backfill":
        return "backfill"
    releases = project.production.releases
    earlier = [each.number for each in releases.all() if each.record.task == "t1" and not releases.is_retired(each)]
    return f"rollback:{earlier[-1]}"


def main() -> None:
    """Print how many kills fell inside what, and what was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--be", nargs="+")
    options = parser.parse_args()
    if options.be:
        write(*options.be)
        return
    with tempfile.TemporaryDirectory() as scratch:
        attack(Path(scratch), kills=options.kills, writers=options.writers, until=time.monotonic() + options.seconds)


def attack(scratch: Path, *, kills: int, writers: int, until: float) -> None:  # noqa: C901 - one loop, told in order
    """Kill, then look for every acknowledged write."""
    project = Project(scratch / "project", tasks=TASKS, images=6, settings={"keep_releases": 8})
    project.promote("t1", "none").promote("t2", "adapt")
    publish(project.production, task="t1")
    untouched = project.copied_to(scratch / "untouched")  # nothing was ever deleted in it
    logs = [scratch / f"writer-{number}" for number in range(writers)]
    processes = []
    for number, log in enumerate(logs):
        command = [sys.executable, __file__, "--be", str(project.root), f"w{number}"]
        processes.append(subprocess.Popen(command, stdout=log.open("w"), stderr=subprocess.DEVNULL))
    inside: Counter[str] = Counter()
    repairs: Counter[str] = Counter()
    erased, misses, turn = [], 0, 0
    rng = random.Random(1)  # noqa: S311 - when to kill
    longest = dict.fromkeys(KINDS, 1.0)
    waiting = [Changer(project.root) for _ in range(2)]
    while sum(inside.values()) < kills and time.monotonic() < until:
        turn += 1
        kind = ("switch", "erase", "switch", "first deletion")[turn % 4]
        command = due(project) if kind == "switch" else kind
        if kind == "erase":
            erased.append(f"victim-{turn}")
            project.put(pixels_of(51, 1, seed=turn), "victim", ids=[erased[-1]])
            command = f"erase:{erased[-1]}"
        if kind == "first deletion":
            place = untouched.copied_to(scratch / f"first-{turn}")
            command = f"first deletion:{place.root}"
        name = command.split(":")[0]
        lets_through = kind == "switch" and turn % 12 == 2  # so that all changes come to their turn
        waiting.append(Changer(project.root))
        killed = waiting.pop(0).run(command, delay=None if lets_through else rng.uniform(0, longest[name]))
        if killed and was_inside(project, name, erased, scratch / f"first-{turn}"):
            inside[name] += 1
            print(f"{sum(inside.values())} kills inside: {dict(inside)}, {misses} missed", flush=True)
        elif not lets_through:
            misses += not killed
            longest[name] = max(0.02, longest[name] * 0.8)
        if kind == "erase":  # an erasure that was killed is to be repeated
            report = project.production.live.erase([erased[-1]])
            project.production.releases.forget([erased[-1]], tagged=report.tagged)
            repairs["erase repeated"] += killed
        if kind == "first deletion":
            place.delete(["nosuch"])
            place.put(pixels_of(52, 1, seed=1), "after", ids=["after"])
            assert place.findings() == ()
    for process in processes:
        process.kill()
        process.wait()
    for each in waiting:
        each.process.kill()
    tell(project, logs, erased, inside, misses, repairs)


def was_inside(project: Project, name: str, erased: list[str], first: Path) -> bool:
    """Whether the process that was killed had begun and not ended."""
    trail, live = project.production.releases.audit.read(), project.production.live
    if name == "erase":
        item = hash_of(erased[-1])
        forgotten = any(entry.event == "forgot" and item in entry.items for entry in trail.entries)
        return bool(live.tombstones_of([erased[-1]]).tombstones_found) and not forgotten
    if name == "first deletion":
        return (first / "live").is_dir() and any((first / "live").rglob("tombstones.lance"))
    return trail.open is not None


def tell(
    project: Project, logs: list[Path], erased: list[str], inside: Counter[str], misses: int, repairs: Counter[str]
) -> None:
    """Count acknowledged writes that are lost, and deletions that came back."""
    try:
        publish(project.production)  # whatever was left is completed or removed
    except CsdError as error:
        print(f"the next publish: {error}")
    put, deleted, refused = set(), set(), Counter()
    for log in logs:
        last = None
        for line in log.read_text(encoding="utf-8").splitlines():
            last, about = json.loads(line)
            {"put": put.add, "deleted": deleted.add, "refused": lambda why: refused.update([why[:80]])}.get(
                last, lambda _: None
            )(about)
        if last == "deleting":
            put.discard(about)  # it was under way when the writer was ended
    rows = project.rows().keys()
    lost, back = (put - deleted) - rows, (deleted | set(erased)) & rows
    findings = project.findings()
    print(f"kills inside: {dict(inside)}, {sum(inside.values())} in all; {misses} came too early or too late")
    print(f"acknowledged: {len(put)} puts, {len(deleted)} deletions; refused {dict(refused)}")
    print(f"lost: {len(lost)} {sorted(lost)[:5]}; came back: {len(back)} {sorted(back)[:5]}")
    print(f"repairs: {dict(repairs) or 'none'}; verify: {list(findings) or 'all is well'}")
    sys.exit(bool(lost or back or findings))


if __name__ == "__main__":
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    main()
