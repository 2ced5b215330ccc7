"""Modules among which a parameter chooses: they are loaded, and count for a stage's digest, only where they are chosen.

Nothing is imported here, so that whoever asks what a choice means loads none of them.
"""

from csd_core.params.methods import MethodName

METHODS: dict[MethodName, str] = {
    "finetune": "csd_core.learning.methods.finetune:Finetune",
    "frozen": "csd_core.learning.methods.frozen:Frozen",
    "joint": "csd_core.learning.methods.joint:Joint",
    "lwf": "csd_core.learning.methods.lwf:Lwf",
    "fd": "csd_core.learning.methods.fd:Fd",
    "lucir": "csd_core.learning.methods.lucir:Lucir",
    "mmd": "csd_core.learning.methods.mmd:Mmd",
    "co2l": "csd_core.learning.methods.co2l:Co2l",
    "bct": "csd_core.learning.methods.bct:Bct",
    "hoc": "csd_core.learning.methods.hoc:Hoc",
    "csd": "csd_core.learning.methods.csd:Csd",
    "csd_plus": "csd_core.learning.methods.csd_plus:CsdPlus",
}
"""`training.later.method` -> its module and class."""

SOURCES = {
    "digits": "csd_core.data.sources.digits",
    "fashion-mnist": "csd_core.data.sources.fashion_mnist",
    "cifar10": "csd_core.data.sources.cifar",
    "cifar100": "csd_core.data.sources.cifar",
    "cub200": "csd_core.data.sources.cub",
    "glyphs": "csd_core.data.sources.glyphs",
    "folder": "csd_core.data.sources.folder",
}
"""Kind of a source -> its module."""

OWN = "resnet-cifar"
"""The one architecture that neither torchvision nor timm has."""

TIMM = "timm/"
"""What the name of an architecture of timm begins with."""

FAMILIES = {
    OWN: "csd_core.learning.networks.cifar_resnet:CifarResNets",
    TIMM: "csd_core.learning.networks.timm_models:TimmModels",
    "": "csd_core.learning.networks.torchvision_models:TorchvisionModels",
}
"""What `training.network.architecture` begins with -> the module and class that build it; the first match counts."""


def family_of(architecture: str) -> str:
    """Return the module and class that build an architecture."""
    return next(module for beginning, module in FAMILIES.items() if architecture.startswith(beginning))
