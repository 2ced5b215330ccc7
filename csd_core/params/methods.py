"""The block `training.later.methods` of params.yaml: what each method adds to the base loss, and how much of it."""

from typing import Annotated, Literal

from pydantic import Field

from csd_core.params.section import Positive, Section, Weight

MethodName = Literal[
    "finetune", "frozen", "joint", "lwf", "fd", "lucir", "mmd", "co2l", "bct", "hoc", "csd", "csd_plus"
]


class Distillation(Section):
    """L_KD: the teacher's class probabilities (Hinton et al., 2015)."""

    weight: Weight
    temperature: Positive


class FeatureDistillation(Section):
    """The student's features stay near the teacher's."""

    weight: Weight
    distance: Literal["cosine", "mse"]
    """cosine: 1 - cos(f, f'); mse: of the features as they are."""


class LessForget(Section):
    """LUCIR's constraint (Hou et al., CVPR 2019)."""

    weight: Weight
    """Times the root of old classes over new ones, of 1 - cos(f, f')."""


class MaximumMeanDiscrepancy(Section):
    """L_KD and the MMD^2 of the features (Chen et al., arXiv 2010.08020)."""

    kd: Distillation
    weight: Weight
    """Of the MMD^2."""
    widths: Annotated[list[Positive], Field(min_length=1)]
    """Of its Gaussian kernels, as multiples of the batch's mean squared distance."""


class ContrastiveLearning(Section):
    """Co2L (Cha et al., ICCV 2021)."""

    contrast_weight: Weight
    """Of the supervised contrast whose anchors are of new classes."""
    contrast_temperature: Positive
    relation_weight: Weight
    """Of the distillation of the images' similarities to each other."""
    student_temperature: Positive
    teacher_temperature: Positive


class Influence(Section):
    """BCT: the old classifier judges the new features (Shen et al., CVPR 2020)."""

    weight: Weight


class HigherOrder(Section):
    """HOC (Biondi et al., CVPR 2024); needs network.classifier simplex, ce.weight 0.1 and triplet.weight 0."""

    weight: Weight
    mu: Positive
    """Sharpness of its contrast."""


class ContrastiveDistillation(Section):
    """L_CSD: supervised contrast against the teacher's embeddings."""

    weight: Weight
    temperature: Positive
    contrast: Literal["student+teacher", "teacher"]
    """student+teacher is the authors' code, teacher the paper's equation."""


class Csd(Section):
    """CSD (Barletti et al., ICIAP 2021)."""

    kd: Distillation
    csd: ContrastiveDistillation


class CsdPlus(Csd):
    """CSD, feature distillation, and larger steps."""

    fd: FeatureDistillation
    rate: Positive
    """Times optimizer.lr of the stage: features that are held bear larger steps."""


class Methods(Section):
    """The knobs of every method; those of `training.later.method` count. finetune, frozen and joint have none."""

    lwf: Distillation
    fd: FeatureDistillation
    lucir: LessForget
    mmd: MaximumMeanDiscrepancy
    co2l: ContrastiveLearning
    bct: Influence
    hoc: HigherOrder
    csd: Csd
    csd_plus: CsdPlus
