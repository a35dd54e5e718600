"""Plain 2-D backbones: images [N, 3, side, side], normalised -> features [N, length].

What `backbone_table` says becomes modules. There is no state: where such a backbone meets time is
the affair of the family that uses it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from movinet_edge.models.backbone_table import Backbone, BackboneTable, BlockRow, Padding
from movinet_edge.streaming.activations import ACTIVATIONS, GATES
from movinet_edge.streaming.deploy import fold_norm
from movinet_edge.streaming.layers import same_padding

Mean = Callable[[Tensor], Tensor]
# Of ImageNet, by channel: every published backbone was trained on images normalised so.
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)


def normalised(x: Tensor) -> Tensor:
    """Frames [..., 3, H, W] in [0, 1] as ImageNet's backbones take them."""
    mean, deviation = (x.new_tensor(values)[:, None, None] for values in (MEAN, DEVIATION))
    return (x - mean) / deviation


def spatial_mean(x: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, C]."""
    return x.mean((2, 3))


class Geometry:
    """The side of the feature maps on the way; `Backbone.padded_for` may say another one."""

    def __init__(self, backbone: Backbone):
        self.padding: Padding = backbone.padding or backbone.table.padding
        self.eps = backbone.eps or backbone.table.eps
        self.side = backbone.padded_for or backbone.side

    def pads(self, kernel: int, stride: int) -> tuple[int, int]:
        """What a convolution puts before and behind either axis; the side is then its output's."""
        if self.padding == "same":
            before, after = same_padding(self.side, kernel, stride)
        else:
            before = after = kernel // 2
        self.side = -(-self.side // stride)
        return before, after


class ConvNorm(nn.Module):
    """Convolution, batch norm, activation (None: none); `folded` ones have a bias, no norm."""

    def __init__(
        self,
        geometry: Geometry,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        act: str | None = None,
        groups: int = 1,
    ):
        super().__init__()
        before, after = geometry.pads(kernel, stride)
        self.pads = (before, after) if before != after else None
        padding = 0 if self.pads else before
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        self.norm: nn.BatchNorm2d | None = nn.BatchNorm2d(outputs, eps=geometry.eps)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        if self.pads is not None:
            x = F.pad(x, self.pads * 2)
        y = self.conv(x)
        if self.norm is not None:
            y = self.norm(y)
        return y if self.act is None else ACTIVATIONS[self.act](y)

    def fold(self) -> None:
        """Put the batch norm into the convolution."""
        if self.norm is not None:
            weight, bias = fold_norm(self.conv.weight, self.norm)
            self.conv.weight, self.conv.bias = nn.Parameter(weight), nn.Parameter(bias)
            self.norm = None


class SqueezeExcite(nn.Module):
    """A factor per channel, from the means over space."""

    def __init__(self, channels: int, squeeze: int, act: str, gate: str):
        super().__init__()
        self.reduce, self.expand = nn.Linear(channels, squeeze), nn.Linear(squeeze, channels)
        self.act, self.gate = act, gate

    def forward(self, x: Tensor, mean: Mean) -> Tensor:
        squeezed = ACTIVATIONS[self.act](self.reduce(mean(x)))
        return x * GATES[self.gate](self.expand(squeezed))[:, :, None, None]


class Residual(nn.Module):
    """ResNet's block; the projection of its shortcut where shapes differ."""

    def __init__(self, row: BlockRow, geometry: Geometry):
        super().__init__()
        side = geometry.side
        basic = row.kind == "basic"
        self.a = (
            ConvNorm(geometry, row.inputs, row.inner, 3, row.stride, row.act)
            if basic
            else ConvNorm(geometry, row.inputs, row.inner, act=row.act)
        )
        self.b = (
            ConvNorm(geometry, row.inner, row.outputs, 3)
            if basic
            else ConvNorm(geometry, row.inner, row.inner, 3, row.stride, row.act)
        )
        self.c = None if basic else ConvNorm(geometry, row.inner, row.outputs)
        self.shortcut: ConvNorm | None = None
        if row.stride > 1 or row.inputs != row.outputs:
            after, geometry.side = geometry.side, side
            self.shortcut = ConvNorm(geometry, row.inputs, row.outputs, 1, row.stride)
            geometry.side = after

    @property
    def last(self) -> ConvNorm:
        """The convolution before the sum."""
        return self.b if self.c is None else self.c

    def forward(self, x: Tensor, mean: Mean) -> Tensor:
        return self.joined(x, x)

    def joined(self, x: Tensor, branch: Tensor) -> Tensor:
        """The block where its convolutions see `branch` and its shortcut `x`."""
        y = self.b(self.a(branch))
        if self.c is not None:
            y = self.c(y)
        return F.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class Inverted(nn.Module):
    """Inverted bottleneck: wider, depthwise, squeeze-excite, narrower."""

    def __init__(self, row: BlockRow, table: BackboneTable, geometry: Geometry):
        super().__init__()
        inner, act = row.inner, row.act
        widens = inner != row.inputs
        self.expand = ConvNorm(geometry, row.inputs, inner, act=act) if widens else None
        self.spatial = ConvNorm(geometry, inner, inner, row.kernel, row.stride, act, inner)
        self.se: SqueezeExcite | None = None
        if row.squeeze:
            self.se = SqueezeExcite(inner, row.squeeze, table.squeeze_act, table.gate)
        self.project = ConvNorm(geometry, inner, row.outputs)
        self.adds = row.stride == 1 and row.inputs == row.outputs

    def forward(self, x: Tensor, mean: Mean) -> Tensor:
        y = x if self.expand is None else self.expand(x)
        y = self.spatial(y)
        if self.se is not None:
            y = self.se(y, mean)
        y = self.project(y)
        return x + y if self.adds else y


class BackboneNet(nn.Module):
    """``forward(x)``: normalised images [N, 3, side, side] -> features [N, `features`].

    Published ones were trained at one size and run at others: nothing but ``same`` padding depends
    on `backbone.side`. `mean` is how means over space are spelt.
    """

    def __init__(self, backbone: Backbone):
        super().__init__()
        self.backbone, table = backbone, backbone.table
        geometry = Geometry(backbone)
        self.stem = ConvNorm(geometry, 3, table.stem, table.stem_kernel, 2, table.stem_act)
        self.pool = table.pool
        if self.pool:
            geometry.side = -(-geometry.side // 2)
        self.stages = nn.ModuleList(
            nn.ModuleList(_block(row, table, geometry) for row in rows) for rows in table.blocks
        )
        last = table.blocks[-1][-1].outputs
        self.head = ConvNorm(geometry, last, table.head, act=table.head_act) if table.head else None
        self.hidden = nn.Linear(table.last, table.hidden) if table.hidden else None
        self.hidden_act = table.head_act
        self.features = table.features

    def stemmed(self, x: Tensor) -> Tensor:
        """What enters the first stage."""
        x = self.stem(x)
        if self.pool:
            # Zeros are as good as nothing behind a ReLU.
            x = F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 2)
        return x

    def maps(self, x: Tensor, mean: Mean = spatial_mean) -> list[Tensor]:
        """What comes out of the stem, of every stage and of the head, if there is one."""
        x = self.stemmed(x)
        found = [x]
        for stage in self.stages:
            assert isinstance(stage, nn.ModuleList)
            for block in stage:
                x = block(x, mean)
            found.append(x)
        if self.head is not None:
            found.append(self.head(x))
        return found

    def forward(self, x: Tensor, mean: Mean = spatial_mean) -> Tensor:
        features = mean(self.maps(x, mean)[-1])
        if self.hidden is not None:
            features = ACTIVATIONS[self.hidden_act](self.hidden(features))
        return features


def _block(row: BlockRow, table: BackboneTable, geometry: Geometry) -> nn.Module:
    if row.kind == "inverted":
        return Inverted(row, table, geometry)
    return Residual(row, geometry)


def spell_out(module: nn.Module) -> None:
    """Hard-swish as sums and products, for accelerators that have no operator of that name."""
    for part in module.modules():
        for name in ("act", "hidden_act"):
            if getattr(part, name, None) == "hard_swish":
                setattr(part, name, "hard_swish_plain")


def start_residuals(model: nn.Module, scale: float) -> None:
    """Set the last batch norm's weights of all residual blocks in `model`."""
    for module in model.modules():
        last = None
        if isinstance(module, Residual):
            last = module.last
        elif isinstance(module, Inverted) and module.adds:
            last = module.project
        if last is not None and last.norm is not None:
            nn.init.constant_(last.norm.weight, scale)


def folded(module: nn.Module) -> nn.Module:
    """A copy in evaluation mode with every batch norm in the convolution before it."""
    module = copy.deepcopy(module).eval()
    for part in module.modules():
        if isinstance(part, ConvNorm):
            part.fold()
    return module
