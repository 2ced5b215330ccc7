"""The block `training` of params.yaml: network, recipes and methods."""

from typing import Annotated, Literal

from pydantic import Field

from csd_core.params.methods import MethodName, Methods
from csd_core.params.section import LocalPath, Positive, Section, Share, Weight

Precision = Literal["float32", "bfloat16"]


class Network(Section):
    """The embedding network of the first stage; later stages continue with the champion's."""

    architecture: Literal["resnet-cifar", "resnet18", "resnet50"]
    """resnet-cifar is the paper's (3x3 stem, three stages, option A shortcuts); the others are torchvision's."""
    depth: Literal[8, 14, 20, 32, 44, 56]
    """Layers of resnet-cifar, 6n + 2."""
    width: Annotated[int, Field(ge=4, le=256)]
    """Channels of resnet-cifar's first stage; its embedding has four times as many dimensions."""
    head: Literal["relu", "linear", "relu-centred", "linear-centred", "bn-neck"]
    """relu: the embedding is pooled after the last ReLU (the paper); linear: before it, so it can be negative.
    -centred: the first stage's mean training feature is subtracted from it, in every later stage too. The first stage
    itself, whose mean is known at its end, learns and chooses its epoch without that. bn-neck: as relu, then batch norm
    without bias, whose statistics later stages keep; triplet and contrast come before it, distillation of features,
    classifier and search after it."""
    classifier: Literal["cosine", "scaled-cosine", "simplex"]
    """cosine: unit rows on features as they are (the paper); scaled-cosine: on unit features, times a scale that is
    learned (LUCIR); simplex: as cosine, with rows that are fixed corners of a simplex (HOC)."""
    weights: LocalPath | None
    """Start weights of resnet18/50: a .safetensors file, or `torchvision` to fetch them; null: random ones."""
    mean: list[float]
    """Per channel, of pixels scaled to 0..1."""
    std: list[Positive]
    """Per channel, of pixels scaled to 0..1."""


class Optimizer(Section):
    """How weights move."""

    name: Literal["adam", "sgd"]
    lr: Positive
    weight_decay: Weight
    momentum: Share
    """Of sgd; adam has betas of its own."""


class MultiStep(Section):
    """Multiply the learning rate by `factor` at each milestone."""

    name: Literal["multistep"]
    milestones: list[Share]
    """As shares of the epochs (the paper's 200, 400, 600 of 800 are 0.25, 0.5, 0.75)."""
    factor: Positive


class Cosine(Section):
    """Linear warm-up, then half a cosine down to zero."""

    name: Literal["cosine"]
    warmup: Share
    """Share of the steps."""


class OneCycle(Section):
    """Up to the full rate and down again (Smith & Topin, 2018)."""

    name: Literal["one-cycle"]
    warmup: Share
    """Share of the steps on the way up."""


Schedule = Annotated[MultiStep | Cosine | OneCycle, Field(discriminator="name")]


class Augmentation(Section):
    """Random changes of training images, drawn per image, computed per batch."""

    crop_padding: Annotated[int, Field(ge=0)]
    """Zero pixels around the image before a random crop to its size."""
    flip: bool
    """Mirror half of the images."""


class CrossEntropy(Section):
    """Softmax cross-entropy over cosine-classifier logits."""

    weight: Weight
    columns: Literal["all", "new"]
    """all: every class seen so far; new: only classes the teacher does not know (the authors' figure)."""


class Triplet(Section):
    """Batch-hard triplet loss on unit embeddings."""

    weight: Weight
    margin: Weight


class FirstStage(Section):
    """The recipe while there is no teacher."""

    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=2)]
    optimizer: Optimizer
    schedule: Schedule
    augmentation: Augmentation
    ce: CrossEntropy
    triplet: Triplet


class Memory(Section):
    """Images of old classes that join a later stage's training, out of the train split of older shards.

    Methods joint and frozen have no use for it: joint trains on all images, and a frozen backbone learns from none.
    """

    images: Annotated[int, Field(ge=0)]
    """How many of each class that the champion knows; all where there are fewer. 0 is the paper's setting."""
    choose: Literal["random", "herding", "class-mean"]
    """herding: by the champion's vectors, so that the mean of those chosen stays near the class's mean (iCaRL, Rebuffi
    et al., CVPR 2017); class-mean: those nearest to that mean."""


class LaterStage(FirstStage):
    """The recipe with the champion as teacher."""

    memory: Memory

    method: MethodName
    """Against forgetting. Under joint every stage is a first stage, and the rest of this block does not count."""
    methods: Methods
    teacher_mode: Literal["eval", "train"]
    """Batch norm of the teacher; the authors' code leaves it in train."""
    batch_norm: Literal["train", "eval"]
    """eval freezes the student's batch-norm statistics at the teacher's."""


class Training(Section):
    """The CSD training stages."""

    seed: Annotated[int, Field(ge=0)]
    precision: Precision
    """Of the backbones' convolutions; weights, statistics, classifier and losses are float32. bfloat16 is for GPUs."""
    network: Network
    first: FirstStage
    later: LaterStage
