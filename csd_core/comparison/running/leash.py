"""Become another program, which ends when the process that started it ends.

    python -m csd_core.comparison.running.leash dvc


Linux keeps the request across exec. It hears an interruption even if the comparison was started in the background,
where a shell has its commands ignore it.
"""

import os
import signal
import sys

from csd_core.system.processes import die_with_parent

if __name__ == "__main__":
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - its own arguments, no shell
