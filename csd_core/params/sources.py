"""The block `sources` of params.yaml: where labelled images come from."""

from typing import Annotated, Literal

from pydantic import Field

from csd_core.params.section import LocalPath, Name, Section


class DigitsSource(Section):
    """scikit-learn's handwritten digits, 1,797 grey images of 8x8 pixels in 10 classes; part of its package."""

    kind: Literal["digits"]
    limit_per_class: Annotated[int, Field(ge=1)] | None
    """Keep only so many images of each class and source split; null keeps all."""


class FashionMnistSource(Section):
    """Fashion-MNIST (Xiao et al., 2017): 60,000 training and 10,000 test images of 28x28 pixels in 10 classes."""

    kind: Literal["fashion-mnist"]
    path: LocalPath
    """Folder with the four published .gz files."""
    download: bool
    """Fetch missing files through torchvision."""
    limit_per_class: Annotated[int, Field(ge=1)] | None
    """Keep only so many images of each class and source split; null keeps all."""


class GlyphsSource(Section):
    """Greek, Cyrillic and signs rendered from installed fonts: 100 classes, 45 font families to train, 12 to test."""

    kind: Literal["glyphs"]
    seed: Annotated[int, Field(ge=0)]
    """Of poses and colours."""
    images_per_family: Annotated[int, Field(ge=1, le=1000)]
    """Images of each class in each font family."""
    rotation: Annotated[float, Field(ge=0, le=45)]
    """Glyphs turn up to so many degrees, both ways."""
    shift: Annotated[float, Field(ge=0, le=0.25)]
    """They move up to this share of the image's side, across and down."""
    scale: Annotated[float, Field(ge=0, le=0.5)]
    """They grow or shrink up to this share."""
    limit_per_class: Annotated[int, Field(ge=1)] | None
    """Keep only so many images of each class and source split; null keeps all."""


class Cifar10Source(Section):
    """CIFAR-10 (Krizhevsky, 2009): 50,000 training and 10,000 test photos of 32x32 pixels in 10 classes."""

    kind: Literal["cifar10"]
    path: LocalPath
    """cifar-10-binary.tar.gz, the folder it unpacks to, or a folder that holds either."""
    limit_per_class: Annotated[int, Field(ge=1)] | None
    """Keep only so many images of each class and source split; null keeps all."""


class Cifar100Source(Section):
    """CIFAR-100 (Krizhevsky, 2009): 50,000 training and 10,000 test photos of 32x32 pixels in 100 classes."""

    kind: Literal["cifar100"]
    path: LocalPath
    """cifar-100-binary.tar.gz, the folder it unpacks to, or a folder that holds either."""
    limit_per_class: Annotated[int, Field(ge=1)] | None
    """Keep only so many images of each class and source split; null keeps all."""


class Cub200Source(Section):
    """CUB-200-2011 (Wah et al., 2011): 5,994 training and 5,794 test photos of 200 kinds of birds."""

    kind: Literal["cub200"]
    path: LocalPath
    """CUB_200_2011.tgz, the folder it unpacks to, or a folder that holds either."""
    crop_to_box: bool
    """Take only what is in the published box around the bird."""
    limit_per_class: Annotated[int, Field(ge=1)] | None
    """Keep only so many images of each class and source split; null keeps all."""


PublishedSource = Annotated[
    DigitsSource | FashionMnistSource | Cifar10Source | Cifar100Source | Cub200Source | GlyphsSource,
    Field(discriminator="kind"),
]


class FolderSource(Section):
    """Your own images, a folder for each class. DVC watches the folder."""

    path: LocalPath
    """Folder of class folders, relative to params.yaml or absolute."""
    layout: Literal["classes", "train-test"]
    """classes: PATH/<class>/<image>; train-test: PATH/train/<class>/<image> and PATH/test/<class>/<image>."""


class Sources(Section):
    """Where labelled images come from; each becomes one immutable canonical set."""

    published: dict[Name, PublishedSource]
    """Published sets, known by their checksums, and glyphs, drawn from known fonts."""
    folders: dict[Name, FolderSource]
    """Folders of your own, each one batch; new images come as a new folder."""
