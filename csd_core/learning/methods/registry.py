"""Which method `training.later.method` names."""

from csd_core.learning.methods.bct import Bct
from csd_core.learning.methods.co2l import Co2l
from csd_core.learning.methods.csd import Csd
from csd_core.learning.methods.csd_plus import CsdPlus
from csd_core.learning.methods.fd import Fd
from csd_core.learning.methods.finetune import Finetune
from csd_core.learning.methods.frozen import Frozen
from csd_core.learning.methods.hoc import Hoc
from csd_core.learning.methods.joint import Joint
from csd_core.learning.methods.lucir import Lucir
from csd_core.learning.methods.lwf import Lwf
from csd_core.learning.methods.mmd import Mmd
from csd_core.learning.methods.protocol import Method
from csd_core.params_methods import MethodName

METHODS: dict[MethodName, type[Method]] = {
    "finetune": Finetune,
    "frozen": Frozen,
    "joint": Joint,
    "lwf": Lwf,
    "fd": Fd,
    "lucir": Lucir,
    "mmd": Mmd,
    "co2l": Co2l,
    "bct": Bct,
    "hoc": Hoc,
    "csd": Csd,
    "csd_plus": CsdPlus,
}
