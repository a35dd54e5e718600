"""TSM (arXiv 1811.08383) on ResNets as tables: variants, and which blocks shift.

Follows mit-han-lab/temporal-shift-module: residual-branch shift ("blockres"), an eighth of the
channels each way. A snippet is 8 frames, one of every 8 raw ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, field_validator

from movinet_edge.models.arch import OwnClips
from movinet_edge.models.backbone_table import BACKBONES, Backbone, BlockRow
from movinet_edge.models.encoder import EncoderArch

RAW_FRAME_RATE = 30.0  # of decoded videos
DEEP = 23  # blocks of the third stage from which on every second block shifts


class TsmArch(OwnClips, EncoderArch):
    """A ResNet whose blocks see parts of other frames; `label` names it, all else defines it.

    1 / `fold` of a block's channels come from the next frame and as many from the one before; with
    `causal` from the one before only. A snippet has `frames` frames, `rate` of them per second.
    """

    family: Literal["tsm"] = "tsm"
    label: str = "custom"
    causal: bool = False
    backbone: str = "resnet18"
    fold: int = Field(8, ge=2)
    frames: int = Field(8, ge=1)
    rate: float = Field(RAW_FRAME_RATE / 8, gt=0)
    classes: int = Field(400, ge=1)
    resolution: int = Field(224, ge=32)
    dropout: float = Field(0.5, ge=0, lt=1)

    @field_validator("backbone")
    @classmethod
    def _is_a_resnet(cls, name: str) -> str:
        if name not in RESNETS:
            raise ValueError(f"TSM has no backbone {name!r}; choose {', '.join(RESNETS)}")
        return name

    @property
    def name(self) -> str:
        return f"tsm-{self.label}{'-causal' if self.causal else ''}"

    @property
    def summary(self) -> str:
        ways = "from the past" if self.causal else "each way"
        return f"{self.frames} frames at {self.rate:g} per second, 1/{self.fold} shifted {ways}"

    @property
    def is_one_graph(self) -> bool:
        return True

    @property
    def plain(self) -> Backbone:
        """The ResNet without shifts."""
        return Backbone(name=self.backbone, side=self.resolution)

    @property
    def features(self) -> int:
        return self.plain.table.features

    def shifted(self) -> Iterator[tuple[int, int, BlockRow]]:
        """Stage, place there and row of every block that shifts."""
        stages = self.plain.table.blocks
        step = 2 if len(stages[2]) >= DEEP else 1
        for stage, rows in enumerate(stages):
            for index in range(0, len(rows), step):
                yield stage, index, rows[index]


RESNETS = tuple(
    name
    for name, table in BACKBONES.items()
    if all(row.kind != "inverted" for rows in table.blocks for row in rows)
)
# The last two are for small frames and data sets, such as the motion videos.
VARIANTS: dict[str, dict[str, object]] = {
    **{name: {"backbone": name} for name in ("resnet18", "resnet34", "resnet50", "resnet101")},
    "small": {"backbone": "resnet-small", "resolution": 112},
    "tiny": {"backbone": "resnet-tiny", "resolution": 64},
}


def tsm_arch(label: str, **changes: object) -> TsmArch:
    """The architecture of a variant, with `changes` on top."""
    return TsmArch.model_validate({"label": label} | VARIANTS[label] | changes)
