"""Images per second of each augmentation on a CPU, beside crop and flip and beside torchvision's transforms per image.

The reference is torchvision.transforms.v2 on one uint8 tensor at a time, as a `Dataset` would call it. Seconds are of
the processor, medians over the rounds, and both sides take turns, so that a busy machine changes little.

    GOMP_SPINCOUNT=1000 OMP_NUM_THREADS=1 python benchmarks/augmentation.py --sizes 32 96 224
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2

from csd_core.learning.augmentation.augment import SIGMA, augment
from csd_core.learning.seeding import keyed_generator
from csd_core.params.training import Augmentation

NOTHING: Mapping[str, Any] = {
    "crop_padding": 0,
    "flip": False,
    "resized_crop": None,
    "jitter": None,
    "policy": "none",
    "blur": 0.0,
    "erase": 0.0,
}
JITTER = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}
CROP = {"scale": [0.5, 1.0], "ratio": [0.75, 1.33]}


def cases(size: int) -> dict[str, tuple[dict[str, Any], Callable[[Tensor], Tensor]]]:
    """Name -> what csd is asked for, and torchvision's transform of one image (C, H, W)."""
    padding = size // 8
    crop_and_flip = v2.Compose([v2.RandomCrop(size, padding=padding), v2.RandomHorizontalFlip()])
    resized = v2.RandomResizedCrop(size, scale=(0.5, 1.0), ratio=(0.75, 1.33))
    jitter = v2.ColorJitter(*JITTER.values())
    return {
        "crop and flip": ({"crop_padding": padding, "flip": True}, crop_and_flip),
        "resized crop": ({"resized_crop": CROP}, resized),
        "jitter": ({"jitter": JITTER}, jitter),
        "rand-augment": ({"policy": "rand-augment"}, v2.RandAugment()),
        "trivial-augment": ({"policy": "trivial-augment"}, v2.TrivialAugmentWide()),
        "blur of all": ({"blur": 1.0}, v2.GaussianBlur(13, SIGMA)),
        "erase in all": ({"erase": 1.0}, v2.RandomErasing(p=1.0)),
        "photographs": (
            {"flip": True, "resized_crop": CROP, "policy": "trivial-augment", "erase": 0.1},
            v2.Compose([resized, v2.RandomHorizontalFlip(), v2.TrivialAugmentWide(), v2.RandomErasing(p=0.1)]),
        ),
    }


def seconds(step: Callable[[], object]) -> float:
    """Processor time of one call."""
    started = time.process_time()
    step()
    return time.process_time() - started


def one_by_one(images: list[Tensor], transform: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the batch as a `DataLoader` makes it."""
    return torch.stack([transform(image) for image in images])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 96, 224])
    parser.add_argument("--images", type=int, default=64, help="in a batch")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for size in options.sizes:
        print(f"{size} x {size} x 3, batches of {options.images}")
        print(f"  {'':16} {'images/s':>9} {'of crop and flip':>17} {'torchvision':>12} {'times as fast':>14}")
        shape = (options.images, size, size, 3)
        images = torch.randint(256, shape, dtype=torch.uint8, generator=keyed_generator("benchmark"))
        singles = [image.permute(2, 0, 1).contiguous() for image in images]
        basis = 0.0
        for name, (knobs, transform) in cases(size).items():
            asked, generator = Augmentation.model_validate(dict(NOTHING) | knobs), keyed_generator(name)
            ours, theirs = [], []
            for _ in range(options.rounds + 1):
                ours.append(seconds(partial(augment, images, asked, generator=generator)))
                theirs.append(seconds(partial(one_by_one, singles, transform)))
            own, other = (options.images / statistics.median(times[1:]) for times in (ours, theirs))
            basis = basis or own
            print(f"  {name:16} {own:9,.0f} {own / basis:17.2f} {other:12,.0f} {own / other:14.1f}")


if __name__ == "__main__":
    main()
