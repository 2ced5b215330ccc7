"""A folder of photographs to learn from: square crops of Debian's wallpapers, each photograph a class.

    python benchmarks/crops.py FOLDER

The packages are mate-backgrounds, plasma-workspace-wallpapers, ukui-wallpapers, lomiri-wallpapers-16.04 and -20.04
(`apt-get download`, then `dpkg -x` to /). Of their files those are taken that are photographs by their format (JPEG,
landscape; of near-duplicates the first). Each is cut into square tiles that do not overlap, the places; plain ones are
left out. A place is taken once, or `--shots` times from within itself, so that these overlap and no two places do; its
name is the group of `split.group`.
"""

import argparse
import re
from pathlib import Path

import numpy as np
from PIL import Image

from csd_core.data.grouping.near_duplicates import connected, near_pairs, perceptual_hashes

WALLPAPERS = (Path("/usr/share/backgrounds"), Path("/usr/share/wallpapers"))
SHORTEST = 1000
"""Pixels of a photograph's height."""
DOWN = 5
"""Places from top to bottom."""
SHARE = 0.8
"""Of a place's side that a picture of it shows."""
PLAIN = 12
"""Levels of 255: places that vary less are left out."""
FEWEST = 20
"""Places that a photograph must have."""
STORED = 96
"""Pixels of a file."""
GROUP = r"/(.+-place[0-9]+)_"


def photographs() -> dict[str, Image.Image]:
    """Name -> photograph; of near-duplicates, as of other sizes of a file, the first by path."""
    found: dict[str, Image.Image] = {}
    for file in sorted(each for root in WALLPAPERS for each in root.rglob("*.jpg") if not each.is_symlink()):
        with Image.open(file) as opened:
            if opened.height < SHORTEST or opened.width <= opened.height:
                continue
            opened.draft("RGB", (2 * SHORTEST, 2 * SHORTEST))
            name = file.parents[2].name if file.stem[0].isdigit() and "x" in file.stem else file.stem
            found.setdefault(re.sub(r"[^A-Za-z0-9]+", "-", name), opened.convert("RGB"))
    small = np.stack([np.asarray(each.resize((64, 64))) for each in found.values()])
    groups = connected(len(found), near_pairs(perceptual_hashes(small)))
    first = set(np.unique(groups, return_index=True)[1].tolist())
    return {name: found[name] for row, name in enumerate(found) if row in first}


def cut(folder: Path, shots: int) -> None:
    """Write the folder of crops."""
    rng = np.random.default_rng(1)
    for name, photograph in photographs().items():
        side = photograph.height // DOWN
        corners = [(x * side, y * side) for y in range(DOWN) for x in range(photograph.width // side)]
        grey = photograph.convert("L")
        places = [
            (left, top)
            for left, top in corners
            if np.asarray(grey.crop((left, top, left + side, top + side))).std() >= PLAIN
        ]
        if len(places) < FEWEST:
            continue
        (folder / name).mkdir(parents=True)
        for place, (left, top) in enumerate(places):
            for shot in range(shots):
                x, y = (int(each) for each in rng.integers(0, side - int(SHARE * side) + 1, 2))
                box = (left + x, top + y, left + x + int(SHARE * side), top + y + int(SHARE * side))
                picture = photograph.resize((STORED, STORED), Image.Resampling.LANCZOS, box)
                picture.save(folder / name / f"{name}-place{place:02}_{shot}.png")
    classes = sorted(folder.iterdir())
    print(f"{sum(len(list(each.iterdir())) for each in classes):,} crops of {len(classes)} photographs")


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shots", type=int, default=1, help="pictures of each place")
    asked = parser.parse_args()
    cut(asked.folder, asked.shots)


if __name__ == "__main__":
    main()
