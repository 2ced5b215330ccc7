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

ARCHITECTURES = {
    "resnet-cifar": "csd_core.learning.networks.resnet",
    "resnet18": "csd_core.learning.networks.torchvision_resnet",
    "resnet50": "csd_core.learning.networks.torchvision_resnet",
}
"""`training.network.architecture` -> its module."""
