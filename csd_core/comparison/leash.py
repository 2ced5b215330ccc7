"""Become another program that ends when the process that started it does: `python -m csd_core.comparison.leash dvc`.

Linux keeps the request across exec.
"""

import os
import sys

from csd_core.processes import die_with_parent

if __name__ == "__main__":
    die_with_parent()
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - its own arguments, no shell
