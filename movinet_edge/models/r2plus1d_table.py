"""R(2+1)D (arXiv 1711.11248) as tables: rows of factorised residual blocks.

Follows torchvision's r2plus1d_18, whose published weights see 16 frames of 112 pixels, 15 of them
per second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from movinet_edge.models.arch import OwnClips
from movinet_edge.models.encoder import EncoderArch

# Of torchvision's weights, by channel (Kinetics).
MEAN = (0.43216, 0.394666, 0.37645)
DEVIATION = (0.22803, 0.22145, 0.216989)
STEM_MIDDLE = 45  # channels between the stem's convolutions, where 64 come out


def middle(inputs: int, outputs: int) -> int:
    """Channels between the two convolutions that take the place of a 3x3x3 one.

    So that both have as many weights as that one (section 3.5).
    """
    return inputs * outputs * 27 // (inputs * 9 + 3 * outputs)


@dataclass(frozen=True)
class FactorRow:
    """One residual block of two factorised convolutions; `stride` is of time and space.

    Both have the middle channels of the first one, as in torchvision.
    """

    inputs: int
    outputs: int
    stride: int

    @property
    def middle(self) -> int:
        return middle(self.inputs, self.outputs)

    @property
    def projects(self) -> bool:
        """Whether its shortcut is a convolution."""
        return self.stride > 1 or self.inputs != self.outputs


class R2plus1dArch(OwnClips, EncoderArch):
    """An R(2+1)D network; `label` names it, everything else defines it.

    `width` are the channels of the first stage, doubled by each of the others. A snippet has
    `frames` frames, `rate` of them per second.
    """

    family: Literal["r2plus1d"] = "r2plus1d"
    label: str = "custom"
    causal: Literal[False] = False
    width: int = Field(64, ge=8)
    blocks: tuple[int, int, int, int] = (2, 2, 2, 2)
    frames: int = Field(16, ge=1)
    rate: float = Field(15.0, gt=0)
    classes: int = Field(400, ge=1)
    resolution: int = Field(112, ge=32)
    dropout: float = Field(0.0, ge=0, lt=1)

    @property
    def name(self) -> str:
        return f"r2plus1d-{self.label}"

    @property
    def summary(self) -> str:
        return f"{self.frames} frames at {self.rate:g} per second"

    @property
    def features(self) -> int:
        return self.width * 2 ** (len(self.blocks) - 1)

    @property
    def stem_middle(self) -> int:
        return STEM_MIDDLE * self.width // 64

    def stages(self) -> list[list[FactorRow]]:
        """The rows of every stage."""
        stages, inputs = [], self.width
        for number, count in enumerate(self.blocks):
            outputs, rows = self.width * 2**number, []
            for index in range(count):
                rows.append(FactorRow(inputs, outputs, 2 if index == 0 and number else 1))
                inputs = outputs
            stages.append(rows)
        return stages


# The last one is for small frames and data sets, such as the motion videos.
VARIANTS: dict[str, dict[str, object]] = {
    "18": {},
    "tiny": {"width": 16, "blocks": (1, 1, 1, 1), "frames": 8, "resolution": 64},
}


def r2plus1d_arch(label: str, **changes: object) -> R2plus1dArch:
    """The architecture of a variant, with `changes` on top."""
    return R2plus1dArch.model_validate({"label": label} | VARIANTS[label] | changes)
