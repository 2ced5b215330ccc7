"""From parameters to a source: another kind is a module, a line in `csd_core.params.choices` and a case here.

A kind's module is imported where it is chosen: an ingest depends on no other's code.
"""

from pathlib import Path
from typing import assert_never

from csd_core.data.sources.protocol import Source
from csd_core.params.sources import (
    Cifar10Source,
    Cifar100Source,
    Cub200Source,
    DigitsSource,
    FashionMnistSource,
    FolderSource,
    GlyphsSource,
    PublishedSource,
)


def open_source(settings: PublishedSource | FolderSource, *, root: Path) -> Source:  # noqa: PLR0911 - one for each kind
    """Return the source that a block of params.yaml describes.

    Args:
        settings: The block.
        root: The folder its relative paths start from.

    Raises:
        DataError: if it is not there, or damaged.
    """
    match settings:
        case DigitsSource():
            from csd_core.data.sources.digits import open_digits  # noqa: PLC0415 - see above

            return open_digits(settings.limit_per_class)
        case FashionMnistSource():
            from csd_core.data.sources.fashion_mnist import open_fashion_mnist  # noqa: PLC0415 - see above

            return open_fashion_mnist(root / settings.path, settings.limit_per_class)
        case Cifar10Source():
            from csd_core.data.sources.cifar import CIFAR10, open_cifar  # noqa: PLC0415 - see above

            return open_cifar(CIFAR10, root / settings.path, settings.limit_per_class)
        case Cifar100Source():
            from csd_core.data.sources.cifar import CIFAR100, open_cifar  # noqa: PLC0415 - see above

            return open_cifar(CIFAR100, root / settings.path, settings.limit_per_class)
        case Cub200Source():
            from csd_core.data.sources.cub import CUB200, open_cub  # noqa: PLC0415 - see above

            return open_cub(
                root / settings.path,
                crop_to_box=settings.crop_to_box,
                limit_per_class=settings.limit_per_class,
                published=CUB200,
            )
        case GlyphsSource():
            from csd_core.data.sources.glyphs import Jitter, open_glyphs  # noqa: PLC0415 - see above

            return open_glyphs(
                seed=settings.seed,
                images_per_family=settings.images_per_family,
                jitter=Jitter(rotation=settings.rotation, shift=settings.shift, scale=settings.scale),
                limit_per_class=settings.limit_per_class,
            )
        case FolderSource():
            from csd_core.data.sources.folder import open_folder  # noqa: PLC0415 - see above

            return open_folder(root / settings.path, settings.layout)
        case _:
            assert_never(settings)
