"""The block `training` of params.yaml: network, recipes and methods."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, WithJsonSchema, model_validator

from csd_core.params.methods import MethodName, Methods
from csd_core.params.section import LocalPath, Name, Positive, Section, Share, Weight

Precision = Literal["float32", "bfloat16"]

DEFAULT = "default"
"""The weights that torchvision or timm publish for a network."""


def _not_renamed(weights: str) -> str:
    if weights == "torchvision":
        raise ValueError(f"torchvision: is called {DEFAULT} now; write that")
    return weights


Architecture = Annotated[str, StringConstraints(pattern=r"^(timm/)?[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=128)]
StartWeights = Annotated[LocalPath, AfterValidator(_not_renamed)]


class Network(Section):
    """The embedding network of the first stage; later stages continue with the champion's."""

    architecture: Architecture
    """resnet-cifar is the paper's (3x3 stem, three stages, option A shortcuts); else a classification network of
    torchvision by its name, or of timm as timm/NAME, in either case without its classifier."""
    depth: Literal[8, 14, 20, 32, 44, 56]
    """Layers of resnet-cifar, 6n + 2."""
    width: Annotated[int, Field(ge=4, le=256)]
    """Channels of resnet-cifar's first stage; its embedding has four times as many dimensions."""
    head: Literal["relu", "linear", "relu-centred", "linear-centred", "bn-neck"]
    """relu: no number of the embedding is negative: resnet-cifar and torchvision's ResNets are pooled after their last
    ReLU (the paper), a projection and any other network are followed by a ReLU; linear: the embedding can be negative:
    those ResNets are pooled before their last ReLU, a projection and any other network give what they give.
    -centred: the first stage's mean training feature is subtracted from it, in every later stage too. The first stage
    itself, whose mean is known at its end, learns and chooses its epoch without that. bn-neck: batch norm without bias
    on what the network, with all its layers, or its projection gives; later stages keep its statistics; triplet and
    contrast come before it, distillation of features, classifier and search after it."""
    dimension: Annotated[int, Field(ge=2, le=4096)] | None
    """Of the embedding, by a linear projection without bias of the backbone's features, before the head, which is
    fitted to the first stage's images where start weights have none; null keeps the backbone's own features, and a
    ResNet's last ReLU where the head says so."""
    classifier: Literal["cosine", "scaled-cosine", "simplex"]
    """cosine: unit rows on features as they are (the paper); scaled-cosine: on unit features, times a scale that is
    learned (LUCIR); simplex: as cosine, with rows that are fixed corners of a simplex (HOC)."""
    weights: StartWeights | None
    """Start weights of the backbone: a file (.safetensors, .pth or .pt), or `default` to fetch those that torchvision
    or timm publish; null: random ones."""
    mean: list[float] | None
    """Per channel, of pixels scaled to 0..1; null: what the published weights of the network were trained with."""
    std: list[Positive] | None
    """Per channel, of pixels scaled to 0..1; null: what the published weights of the network were trained with."""

    @property
    def weights_file(self) -> str | None:
        """The file of the start weights; None where they are published or random ones."""
        return None if self.weights == DEFAULT else self.weights


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


class ResizedCrop(Section):
    """A random part of the image, enlarged to its size."""

    scale: tuple[Positive, Positive]
    """Smallest and largest area, as shares of the image."""
    ratio: tuple[Positive, Positive]
    """Smallest and largest width / height."""

    @model_validator(mode="after")
    def _ranges_ascend(self) -> "ResizedCrop":
        if self.scale[0] > self.scale[1] or self.scale[1] > 1:
            raise ValueError(f"scale {list(self.scale)}: must ascend and end at 1 at most, such as [0.5, 1.0]")
        if self.ratio[0] > self.ratio[1]:
            raise ValueError(f"ratio {list(self.ratio)}: must ascend, such as [0.75, 1.33]")
        return self


class Jitter(Section):
    """Random colours. Brightness, contrast and saturation are multiplied by a factor within 1 +- the number."""

    brightness: Weight
    contrast: Weight
    """Distance to the image's mean luma."""
    saturation: Weight
    """Distance to a pixel's own luma; grey images have none."""
    hue: Annotated[float, Field(ge=0, le=0.5)]
    """Largest turn of the colours around grey, as a share of a whole one; grey images have none."""


class Augmentation(Section):
    """Random changes of training images, drawn per image, computed per batch, in this order."""

    crop_padding: Annotated[int, Field(ge=0)]
    """Zero pixels around the image before a random crop to its size."""
    flip: bool
    """Mirror half of the images."""
    resized_crop: ResizedCrop | None
    jitter: Jitter | None
    policy: Literal["none", "rand-augment", "trivial-augment"]
    """rand-augment: two operations of strength 9 of 30 (Cubuk et al., 2020); trivial-augment: one of any strength
    (Müller & Hutter, 2021). Both move pixels or change colours, as torchvision's do."""
    blur: Share
    """Share of the images that are blurred, by a Gaussian of 0.1 to 2 pixels."""
    erase: Share
    """Share of the images of which a box is filled with their mean colour (Zhong et al., 2020)."""


class CrossEntropy(Section):
    """Softmax cross-entropy over cosine-classifier logits."""

    weight: Weight
    columns: Literal["all", "new"]
    """all: every class seen so far; new: only classes the teacher does not know (the authors' figure)."""
    class_weights: Literal["none", "inverse"]
    """inverse: an image counts the less the more images its class has, so that every class counts alike."""


class Triplet(Section):
    """Batch-hard triplet loss on unit embeddings."""

    weight: Weight
    margin: Weight


class FirstStage(Section):
    """The recipe while there is no teacher."""

    epochs: Annotated[int, Field(ge=0)]
    """0 takes the start weights as they are; rows of the classifier are class means of the training images. Given
    start weights stay if no epoch finds more of select."""
    batch_size: Annotated[int, Field(ge=2)]
    per_class: Annotated[int, Field(ge=2)] | None
    """Images of a class in a batch, which then has batch_size / per_class classes, all drawn alike often; null draws
    images, whatever their classes."""
    optimizer: Optimizer
    frozen: Share
    """Share of the backbone's blocks, from the first one on, that stay as they are, statistics of batch norm too."""
    layer_decay: Annotated[float, Field(gt=0, le=1)]
    """Each block of the backbone learns at the rate of the block after it, times this; the last one at optimizer.lr,
    times this."""
    gradient_checkpointing: bool
    """Blocks keep no activations and compute them twice: less memory, the same weights."""
    schedule: Schedule
    augmentation: Augmentation
    ce: CrossEntropy
    triplet: Triplet

    @model_validator(mode="after")
    def _balance_agrees(self) -> "FirstStage":
        if self.per_class is None:
            return self
        if 2 * self.per_class > self.batch_size:
            raise ValueError(
                f"per_class {self.per_class}: a batch of {self.batch_size} needs two classes at least; write "
                f"{self.batch_size // 2} at most"
            )
        if self.ce.class_weights != "none":
            raise ValueError(
                "per_class shows every class alike often; write ce.class_weights: none, or per_class: null"
            )
        return self


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

    epochs: Annotated[int, Field(ge=1)]

    memory: Memory

    method: MethodName
    """Against forgetting. Under joint every stage is a first stage, and the rest of this block does not count."""
    methods: Methods
    teacher_mode: Literal["eval", "train"]
    """Batch norm of the teacher; the authors' code leaves it in train."""
    batch_norm: Literal["train", "eval"]
    """eval freezes the student's batch-norm statistics at the teacher's."""


LATER = "later"
"""The recipe of tasks that name no other."""
_RECIPES = {
    "type": "object",
    "additionalProperties": {"type": "object", "properties": {"extends": {"type": "string"}}, "required": ["extends"]},
}


class Training(Section):
    """The CSD training stages."""

    seed: Annotated[int, Field(ge=0)]
    precision: Precision
    """Of the backbones' convolutions; weights, statistics, classifier and losses are float32. bfloat16 is for GPUs."""
    network: Network
    first: FirstStage
    later: LaterStage
    recipes: Annotated[dict[Name, LaterStage], WithJsonSchema(_RECIPES)] = {}  # noqa: RUF012 - pydantic copies it
    """Recipes of single tasks, which name them as recipes.NAME: a block holds what differs from the one that it
    `extends`, `later` or one above it. Here each is whole."""

    @model_validator(mode="before")
    @classmethod
    def _extend_recipes(cls, values: Any) -> Any:
        """Complete each recipe with what it extends."""
        if not isinstance(values, Mapping) or not isinstance(values.get("recipes"), Mapping):
            return values
        known: dict[str, Any] = {LATER: values.get("later")}
        for name, block in values["recipes"].items():
            changes = dict(block) if isinstance(block, Mapping) else {}
            extends = changes.pop("extends", None)
            if extends not in known:
                raise ValueError(
                    f"recipes.{name} extends {extends}, which is no recipe before it; write `extends: later`, or one "
                    f"of {', '.join(map(str, known))}"
                )
            known[str(name)] = _with_changes(known[extends], changes)
        return {**values, "recipes": {name: block for name, block in known.items() if name != LATER}}

    def of(self, recipe: str) -> Self:
        """Return the same for a task with a recipe: `later` is then that recipe, and there is no other.

        Args:
            recipe: As a task names it.
        """
        _, _, name = recipe.partition(".")
        return self.model_copy(update={"later": self.recipes[name] if name else self.later, "recipes": {}})


def _with_changes(block: Any, changes: Mapping[str, Any]) -> Any:
    """Return a block of a recipe with some keys changed, at any depth."""
    if not isinstance(block, Mapping):
        return block  # it is refused where it stands
    changed = dict(block)
    for key, value in changes.items():
        nested = isinstance(value, Mapping) and key != "schedule"  # half of another schedule's keys make none
        changed[key] = _with_changes(block.get(key) or {}, value) if nested else value
    return changed
