"""Plain 2-D backbones as tables: ResNet, MobileNetV2, MobileNetV3, EfficientNet and small ones.

Sources: ResNet (arXiv 1512.03385, with the stride in the 3x3 convolution, as torchvision has it),
MobileNetV2 (arXiv 1801.04381, table 2), MobileNetV3 (arXiv 1905.02244, tables 1 and 2) and
EfficientNet (arXiv 1905.11946, table 1 and its compound scaling).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from movinet_edge.models.movinet import make_divisible

Kind = Literal["basic", "bottleneck", "inverted"]
Padding = Literal["symmetric", "same"]


@dataclass(frozen=True)
class BlockRow:
    """One residual block; `inner` are the channels between its convolutions.

    ``basic``: two 3x3 convolutions; ``bottleneck``: 1x1, 3x3, 1x1; ``inverted``: 1x1 (left out
    where it would not widen), depthwise, 1x1. `squeeze` are the channels inside its
    squeeze-excite, 0: it has none.
    """

    kind: Kind
    inputs: int
    inner: int
    outputs: int
    kernel: int
    stride: int
    act: str
    squeeze: int = 0


@dataclass(frozen=True)
class BackboneTable:
    """One backbone from the image to its mean over space.

    `stem` are the channels of the first convolution (stride 2; a max pooling behind it with
    `pool`), `head` those of a last 1x1 convolution (0: there is none), `hidden` those of a dense
    layer behind the mean (0: none). `eps` is of its batch norms, `padding` how convolutions pad.
    `nominal` is the side of the images that the published one is for. `published_gmacs` is the
    published cost at 224 pixels where that is counted with instead of the true one.
    """

    stem: int
    stem_kernel: int
    stem_act: str
    blocks: tuple[tuple[BlockRow, ...], ...]
    head: int = 0
    head_act: str = "relu6"
    hidden: int = 0
    pool: bool = False
    squeeze_act: str = "swish"
    gate: str = "sigmoid"
    eps: float = 1e-5
    padding: Padding = "symmetric"
    nominal: int = 224
    published_gmacs: float | None = None

    @property
    def last(self) -> int:
        """Channels of the last convolution."""
        return self.head or self.blocks[-1][-1].outputs

    @property
    def features(self) -> int:
        """Length of what a classifier sees."""
        return self.hidden or self.last


def _resnet(kind: Kind, counts: Iterable[int], width: int = 64) -> BackboneTable:
    wider = 4 if kind == "bottleneck" else 1
    stages, inputs = [], width
    for number, count in enumerate(counts):
        inner, rows = width * 2**number, []
        for index in range(count):
            stride = 2 if index == 0 and number else 1
            rows.append(BlockRow(kind, inputs, inner, wider * inner, 3, stride, "relu"))
            inputs = wider * inner
        stages.append(tuple(rows))
    return BackboneTable(width, 7, "relu", tuple(stages), pool=True)


# Expansion, channels, blocks, kernel, stride.
InvertedRow = tuple[int, int, int, int, int]
MOBILENET_V2: tuple[InvertedRow, ...] = (
    (1, 16, 1, 3, 1),
    (6, 24, 2, 3, 2),
    (6, 32, 3, 3, 2),
    (6, 64, 4, 3, 2),
    (6, 96, 3, 3, 1),
    (6, 160, 3, 3, 2),
    (6, 320, 1, 3, 1),
)
# Of stride 16 instead of 32, for images of few pixels; four blocks.
NANO: tuple[InvertedRow, ...] = (
    (1, 8, 1, 3, 1),
    (4, 16, 1, 3, 2),
    (4, 24, 1, 3, 2),
    (4, 32, 1, 3, 2),
)
EFFICIENTNET: tuple[InvertedRow, ...] = (
    (1, 16, 1, 3, 1),
    (6, 24, 2, 3, 2),
    (6, 40, 2, 5, 2),
    (6, 80, 3, 3, 2),
    (6, 112, 3, 5, 1),
    (6, 192, 4, 5, 2),
    (6, 320, 1, 3, 1),
)


def _inverted(
    rows: Iterable[InvertedRow], inputs: int, width: float, depth: float, act: str, squeezes: bool
) -> tuple[tuple[BlockRow, ...], ...]:
    """Stages of inverted bottlenecks behind `inputs` channels, wider and deeper by factors."""
    stages = []
    for expansion, channels, count, kernel, stride in rows:
        outputs, blocks = make_divisible(channels * width), []
        for index in range(math.ceil(count * depth)):
            step, squeeze = stride if index == 0 else 1, max(1, inputs // 4) if squeezes else 0
            inner = expansion * inputs
            blocks.append(BlockRow("inverted", inputs, inner, outputs, kernel, step, act, squeeze))
            inputs = outputs
        stages.append(tuple(blocks))
    return tuple(stages)


def _mobilenet_v2(
    width: float = 1.0,
    head: int = 1280,
    stem: int = 32,
    rows: tuple[InvertedRow, ...] = MOBILENET_V2,
) -> BackboneTable:
    stem = make_divisible(stem * width)
    stages = _inverted(rows, stem, width, 1, "relu6", squeezes=False)
    return BackboneTable(stem, 3, "relu6", stages, head)


def _efficientnet(width: float, depth: float, nominal: int, gmacs: float) -> BackboneTable:
    stem = make_divisible(32 * width)
    return BackboneTable(
        stem,
        3,
        "swish",
        _inverted(EFFICIENTNET, stem, width, depth, "swish", squeezes=True),
        head=make_divisible(1280 * width),
        head_act="swish",
        eps=1e-3,
        padding="same",
        nominal=nominal,
        published_gmacs=gmacs,
    )


# Kernel, inner channels, channels, squeeze-excite, activation, stride.
MobileRow = tuple[int, int, int, bool, str, int]
R, H = "relu", "hard_swish"
MOBILENET_V3_SMALL: tuple[MobileRow, ...] = (
    (3, 16, 16, True, R, 2),
    (3, 72, 24, False, R, 2),
    (3, 88, 24, False, R, 1),
    (5, 96, 40, True, H, 2),
    (5, 240, 40, True, H, 1),
    (5, 240, 40, True, H, 1),
    (5, 120, 48, True, H, 1),
    (5, 144, 48, True, H, 1),
    (5, 288, 96, True, H, 2),
    (5, 576, 96, True, H, 1),
    (5, 576, 96, True, H, 1),
)
MOBILENET_V3_LARGE: tuple[MobileRow, ...] = (
    (3, 16, 16, False, R, 1),
    (3, 64, 24, False, R, 2),
    (3, 72, 24, False, R, 1),
    (5, 72, 40, True, R, 2),
    (5, 120, 40, True, R, 1),
    (5, 120, 40, True, R, 1),
    (3, 240, 80, False, H, 2),
    (3, 200, 80, False, H, 1),
    (3, 184, 80, False, H, 1),
    (3, 184, 80, False, H, 1),
    (3, 480, 112, True, H, 1),
    (3, 672, 112, True, H, 1),
    (5, 672, 160, True, H, 2),
    (5, 960, 160, True, H, 1),
    (5, 960, 160, True, H, 1),
)


def _mobilenet_v3(table: tuple[MobileRow, ...], hidden: int) -> BackboneTable:
    rows, inputs = [], 16
    for kernel, inner, outputs, squeezes, act, stride in table:
        squeeze = make_divisible(inner / 4) if squeezes else 0
        rows.append(BlockRow("inverted", inputs, inner, outputs, kernel, stride, act, squeeze))
        inputs = outputs
    return BackboneTable(
        16,
        3,
        H,
        (tuple(rows),),
        head=6 * inputs,
        head_act=H,
        hidden=hidden,
        squeeze_act=R,
        gate="hard_sigmoid_6",
        eps=1e-3,
    )


# The last ones are for phones: MobileNetV2's rows, narrower, with a head that narrows too. Without
# squeeze-excite and hard-swish they keep their accuracy in 8 bits.
BACKBONES: dict[str, BackboneTable] = {
    "resnet18": _resnet("basic", (2, 2, 2, 2)),
    "resnet34": _resnet("basic", (3, 4, 6, 3)),
    "resnet50": _resnet("bottleneck", (3, 4, 6, 3)),
    "resnet101": _resnet("bottleneck", (3, 4, 23, 3)),
    "mobilenet-v2": _mobilenet_v2(),
    "mobilenet-v3-small": _mobilenet_v3(MOBILENET_V3_SMALL, 1024),
    "mobilenet-v3-large": _mobilenet_v3(MOBILENET_V3_LARGE, 1280),
    "efficientnet-b0": _efficientnet(1.0, 1.0, 224, 0.39),
    "efficientnet-b1": _efficientnet(1.0, 1.1, 240, 0.70),
    "efficientnet-b3": _efficientnet(1.2, 1.4, 300, 1.80),
    "phone-l": _mobilenet_v2(0.75, 480),
    "phone-m": _mobilenet_v2(0.5, 320),
    "phone-s": _mobilenet_v2(0.35, 240),
    "phone-xs": _mobilenet_v2(0.25, 160),
    "nano": _mobilenet_v2(1.0, 96, 8, NANO),
    "resnet-small": _resnet("basic", (2, 2, 2, 2), 32),
    "resnet-midi": _resnet("basic", (1, 1, 1), 64),
    "resnet-mini": _resnet("basic", (1, 1, 1, 1), 24),
    "resnet-tiny": _resnet("basic", (1, 1, 1, 1), 16),
    "resnet-micro": _resnet("basic", (1, 1, 1, 1), 12),
    "resnet-nano": _resnet("basic", (1, 1, 1), 16),
}


SMALLEST_SIDE = 16  # of the images of a backbone, in pixels


class Backbone(BaseModel):
    """A backbone of `BACKBONES` on square images of `side` pixels.

    Weights do not tell how a network was trained: `padding` and `eps` (of batch norms) are what
    the table says, or as given. ``same`` puts in front of a strided convolution what the side
    asks for; some projects ask that of their nominal side whatever comes, which is `padded_for`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    side: int = Field(224, ge=SMALLEST_SIDE)
    padding: Padding | None = None
    padded_for: int | None = Field(None, ge=SMALLEST_SIDE)
    eps: float | None = Field(None, gt=0)

    @field_validator("name")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in BACKBONES:
            raise ValueError(f"there is no backbone {name!r}; choose {', '.join(BACKBONES)}")
        return name

    @property
    def table(self) -> BackboneTable:
        return BACKBONES[self.name]

    def __str__(self) -> str:
        return f"{self.name}@{self.side}"
