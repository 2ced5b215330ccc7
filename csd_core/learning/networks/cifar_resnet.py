"""The ResNet for small images of He et al. (2016), section 4.2. N batch, H x W pixels, C channels, D dimensions."""

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

from csd_core.learning.networks.families import Backbone, Family
from csd_core.params.training import Network


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside an option A shortcut: strided, missing channels zero (He et al., 2016, 3.3)."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, final_relu: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self._stride, self._new_channels, self._final_relu = stride, outputs - inputs, final_relu

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        if self._stride > 1 or self._new_channels:
            before = self._new_channels // 2
            x = F.pad(x[:, :, :: self._stride, :: self._stride], (0, 0, 0, 0, before, self._new_channels - before))
        y = y + x
        return F.relu(y, inplace=True) if self._final_relu else y


class CifarResNet(nn.Module):
    """The ResNet for small images of He et al. (2016), section 4.2: 6n + 2 layers, three stages of n blocks.

    Attributes:
        dimension: Of its features: four times the width.
    """

    def __init__(self, *, depth: int, width: int, channels: int, final_relu: bool) -> None:
        super().__init__()
        blocks, self.dimension = (depth - 2) // 6, 4 * width
        self.conv1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        layers, inputs = [], width
        for stage, outputs in enumerate((width, 2 * width, 4 * width)):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                last = stage == 2 and block == blocks - 1  # noqa: PLR2004 - the third of three
                layers.append(BasicBlock(inputs, outputs, stride=stride, final_relu=final_relu or not last))
                inputs = outputs
        self.blocks = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) float to features (N, D), averaged over pixels."""
        pooled: Tensor = self.blocks(F.relu(self.bn1(self.conv1(x)), inplace=True)).mean(dim=(2, 3))
        return pooled


class CifarResNets(Family):
    """resnet-cifar."""

    def build(self, network: Network, *, channels: int, pixels: int, final_relu: bool) -> Backbone:  # noqa: ARG002
        """Return the network of a depth and a width; it takes images of any size."""
        cifar = CifarResNet(depth=network.depth, width=network.width, channels=channels, final_relu=final_relu)
        return Backbone(cifar, cifar.dimension, is_resnet=True)
