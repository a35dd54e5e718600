"""MoViNet A0-A5 as data: layers, published figures, and the architecture record.

Layers and figures: TensorFlow Model Garden, ``official/projects/movinet`` (README and
``modeling/movinet.py``); the method: arXiv 2103.11511.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from movinet_edge.models.encoder import EncoderArch


@dataclass(frozen=True)
class Layer:
    """One inverted-bottleneck layer."""

    stage: int
    index: int
    inputs: int
    expand: int
    outputs: int
    time: int  # temporal kernel
    space: int  # spatial kernel
    stride: int  # spatial; the temporal stride is always 1

    @property
    def name(self) -> str:
        return f"b{self.stage}.l{self.index}"


@dataclass(frozen=True)
class Stage:
    """Layers of one width; the first has the stride. `layers` holds expand:TIMExSPACE."""

    outputs: int
    stride: int
    layers: str


@dataclass(frozen=True)
class Published:
    """Published figures: Kinetics-600 top-1 in percent; GMAC of one evaluation clip (base)."""

    top1_base: float
    top1_stream: float
    top5_base: float
    top5_stream: float
    gmacs_clip: float
    pixel4_ms: float | None  # TFLite fp32, one core
    xeon_ms: float  # TFLite fp32, one core of a Xeon W-2135


@dataclass(frozen=True)
class Variant:
    """One published network. `frames` at `frame_rate` (per second) is one evaluation clip."""

    resolution: int
    frames: int
    frame_rate: float
    stem: int
    head: int
    dropout: float
    positional_encoding: bool  # stream models only
    published: Published
    stages: tuple[Stage, ...]

    def layers(self) -> list[Layer]:
        rows, inputs = [], self.stem
        for number, stage in enumerate(self.stages):
            for index, text in enumerate(stage.layers.split()):
                expand, kernel = text.split(":")
                time, space = kernel.split("x")
                stride = stage.stride if index == 0 else 1
                rows.append(
                    Layer(
                        number,
                        index,
                        inputs,
                        int(expand),
                        stage.outputs,
                        int(time),
                        int(space),
                        stride,
                    )
                )
                inputs = stage.outputs
        return rows


# fmt: off
VARIANTS: dict[str, Variant] = {
    "a0": Variant(172, 50, 5, 8, 480, 0.2, False,
        Published(72.28, 72.05, 90.92, 90.63, 2.7, 22, 16), (
        Stage(8, 2, "24:1x5"),
        Stage(32, 2, "80:3x3 80:3x3 80:3x3"),
        Stage(56, 2, "184:5x3 112:3x3 184:3x3"),
        Stage(56, 1, "184:5x3 184:3x3 184:3x3 184:3x3"),
        Stage(104, 2, "384:5x3 280:1x5 280:1x5 344:1x5"),
    )),
    "a1": Variant(172, 50, 5, 16, 600, 0.2, False,
        Published(76.69, 76.45, 93.40, 93.25, 6.0, 42, 33), (
        Stage(16, 2, "40:1x5 40:3x3"),
        Stage(40, 2, "96:3x3 120:3x3 96:3x3 96:3x3"),
        Stage(64, 2, "216:5x3 128:3x3 216:3x3 168:3x3 216:3x3"),
        Stage(64, 1, "216:5x3 216:3x3 216:3x3 128:3x3 128:1x5 216:3x3"),
        Stage(136, 2, "456:5x3 360:1x5 360:1x5 360:1x5 456:1x5 456:3x3 544:1x3"),
    )),
    "a2": Variant(224, 50, 5, 16, 640, 0.5, False,
        Published(78.62, 78.40, 94.17, 94.05, 10, 200, 66), (
        Stage(16, 2, "40:1x5 40:3x3 64:3x3"),
        Stage(40, 2, "96:3x3 120:3x3 96:3x3 96:3x3 120:3x3"),
        Stage(72, 2, "240:5x3 160:3x3 240:3x3 192:3x3 240:3x3"),
        Stage(72, 1, "240:5x3 240:3x3 240:3x3 240:3x3 144:1x5 240:3x3"),
        Stage(144, 2, "480:5x3 384:1x5 384:1x5 480:1x5 480:1x5 480:3x3 576:1x3"),
    )),
    "a3": Variant(256, 120, 12, 16, 744, 0.5, True,
        Published(81.79, 80.09, 95.67, 94.84, 57, None, 120), (
        Stage(16, 2, "40:1x5 40:3x3 64:3x3 40:3x3"),
        Stage(48, 2, "112:3x3 144:3x3 112:3x3 112:1x5 144:3x3 144:3x3"),
        Stage(80, 2, "240:5x3 152:3x3 240:3x3 192:3x3 240:3x3"),
        Stage(88, 1, "264:5x3 264:3x3 264:3x3 264:3x3 160:1x5 264:3x3 264:3x3 264:3x3"),
        Stage(168, 2, "560:5x3 448:1x5 448:1x5 560:1x5 560:1x5 560:3x3 448:1x5 448:1x5 560:3x3"
                      " 672:1x3"),
    )),
    "a4": Variant(290, 80, 8, 24, 856, 0.5, True,
        Published(83.48, 81.49, 96.16, 95.66, 110, None, 300), (
        Stage(24, 2, "64:1x5 64:3x3 96:3x3 64:3x3 96:3x3 64:3x3"),
        Stage(56, 2, "168:3x3 168:3x3 136:3x3 136:3x3 168:3x3 168:3x3 168:3x3 136:1x5 136:3x3"),
        Stage(96, 2, "320:5x3 160:3x3 320:3x3 192:3x3 320:3x3 160:3x3 320:3x3 256:3x3 320:3x3"),
        Stage(96, 1, "320:5x3 320:3x3 320:3x3 320:3x3 192:1x5 320:3x3 320:3x3 192:3x3 320:3x3"
                     " 320:3x3"),
        Stage(192, 2, "640:5x3 512:1x5 512:1x5 640:1x5 640:1x5 640:3x3 512:1x5 512:1x5 640:1x5"
                      " 768:1x5 640:1x5 640:3x3 768:3x3"),
    )),
    "a5": Variant(320, 120, 12, 24, 992, 0.5, True,
        Published(84.27, 82.37, 96.39, 95.79, 280, None, 450), (
        Stage(24, 2, "64:1x5 64:1x5 96:3x3 64:3x3 96:3x3 64:3x3"),
        Stage(64, 2, "192:5x3 152:3x3 152:3x3 152:3x3 192:3x3 192:3x3 192:3x3 152:3x3 152:3x3"
                     " 192:3x3 192:3x3"),
        Stage(112, 2, "376:5x3 224:3x3 376:3x3 376:3x3 296:3x3 376:3x3 224:3x3 376:3x3 376:3x3"
                      " 296:3x3 376:3x3 376:3x3 376:3x3"),
        Stage(120, 1, "376:5x3 376:3x3 376:3x3 376:3x3 224:1x5 376:3x3 376:3x3 224:3x3 376:3x3"
                      " 376:3x3 376:3x3"),
        Stage(224, 2, "744:5x3 744:3x3 600:1x5 600:1x5 744:1x5 744:1x5 744:3x3 896:1x5 600:1x5"
                      " 600:1x5 896:1x5 744:1x5 744:3x3 896:1x5 600:1x5 600:1x5 744:1x5 744:3x3"),
    )),
}
# fmt: on

VariantName = Literal["a0", "a1", "a2", "a3", "a4", "a5"]


class MoViNetArch(EncoderArch):
    """Everything that defines a MoViNet's computation; it travels inside every checkpoint.

    `causal` streams; a non-causal (base) model sees whole clips. Real weights differ in their
    spelling of activation and gate, so these are fields and not constants.
    """

    family: Literal["movinet"] = "movinet"
    variant: VariantName
    causal: bool = True
    conv: Literal["3d", "2plus1d"] = "2plus1d"
    squeeze_excite: Literal["3d", "2plus3d", "none"] = "2plus3d"
    activation: Literal["swish", "hard_swish", "relu6"] = "hard_swish"
    gate: Literal["sigmoid", "hard_sigmoid", "hard_sigmoid_keras"] = "hard_sigmoid"
    classifier_activation: Literal["swish", "hard_swish", "relu6"] = "swish"
    positional_encoding: bool = False
    rezero: bool = True
    classes: int = Field(600, ge=1)
    hidden: int = Field(2048, ge=1)  # width of the classifier's hidden layer
    resolution: int = Field(172, ge=32)
    frames: int | None = Field(None, ge=1)  # of a training clip, where not as published
    dropout: float = Field(0.2, ge=0, lt=1)
    drop_path: float = Field(0.2, ge=0, lt=1)

    @property
    def name(self) -> str:
        return f"movinet-{self.variant}-{'stream' if self.causal else 'base'}"

    @property
    def summary(self) -> str:
        return f"{self.activation} with gate {self.gate}, squeeze-excite {self.squeeze_excite}"

    @property
    def table(self) -> Variant:
        return VARIANTS[self.variant]

    @property
    def frame_rate(self) -> float:
        return self.table.frame_rate

    @property
    def clip_frames(self) -> int:
        return self.frames or self.table.frames

    @property
    def features(self) -> int:
        return self.table.head

    @property
    def is_one_graph(self) -> bool:
        return True


def published_arch(variant: VariantName, causal: bool, **changes: object) -> MoViNetArch:
    """The architecture of the published base or stream model, with `changes` on top."""
    table = VARIANTS[variant]
    fields: dict[str, object] = {
        "variant": variant,
        "causal": causal,
        "resolution": table.resolution,
        "dropout": table.dropout,
    }
    if causal:
        fields["positional_encoding"] = table.positional_encoding
        if variant in ("a1", "a4"):  # as their published training configurations set it
            fields["classifier_activation"] = "hard_swish"
    else:
        fields |= {
            "conv": "3d",
            "squeeze_excite": "3d",
            "activation": "swish",
            "gate": "sigmoid",
        }
    return MoViNetArch.model_validate(fields | changes)
