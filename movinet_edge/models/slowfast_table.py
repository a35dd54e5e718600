"""SlowFast (arXiv 1812.03982) as tables: variants, stages and what is free.

Sources: the paper's table 1 and section 3, and PySlowFast's configurations, whose released R101
models have temporal kernels in the first 6 of 23 blocks of res4 only ("50_50").
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from movinet_edge.errors import BadInput
from movinet_edge.models.arch import ModelArch

Pathway = Literal["slow", "fast"]
Fusion = Literal["t-conv", "ttoc-sum", "ttoc-concat", "t-sample", "none"]
STAGES = ("res2", "res3", "res4", "res5")
# Of decoded videos; `tau` counts these.
RAW_FRAME_RATE = 30.0
MEAN, DEVIATION = 0.45, 0.225  # of every channel (PySlowFast, DATA.MEAN and DATA.STD)


def normalised(x: Tensor) -> Tensor:
    """Frames in [0, 1] as the pathways take them."""
    return (x - MEAN) / DEVIATION


class SlowFastArch(ModelArch):
    """A SlowFast network; `label` names it, everything else defines it.

    `frames` x `tau` is the Slow pathway's clip: that many frames, one of every `tau` raw ones. The
    Fast pathway sees `alpha` times the frames and has 1 / `beta_inverse` of the channels.
    `temporal` says for each stage how many of its first blocks have a temporal kernel of 3, in
    the Slow and in the Fast pathway. Without `causal` the network is the published one, which
    looks ahead; it streams with a delay.
    """

    family: Literal["slowfast"] = "slowfast"
    label: str = "custom"
    causal: bool = False
    pathways: tuple[Pathway, ...] = ("slow", "fast")
    frames: int = Field(4, ge=1)
    tau: int = Field(16, ge=1)
    alpha: int = Field(8, ge=1)
    beta_inverse: int = Field(8, ge=1)
    fusion: Fusion = "t-conv"
    fusion_kernel: int = Field(5, ge=1)
    width: int = Field(64, ge=8)
    blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
    slow_temporal: tuple[int, int, int, int] = (0, 0, 6, 3)
    fast_temporal: tuple[int, int, int, int] = (3, 4, 6, 3)
    nonlocal_blocks: tuple[tuple[int, ...], ...] = ((), (), (), ())  # of the Slow stages
    pool: Literal["cumulative", "window"] = "cumulative"  # of the streaming head
    classes: int = Field(400, ge=1)
    resolution: int = Field(224, ge=32)
    dropout: float = Field(0.5, ge=0, lt=1)

    @property
    def name(self) -> str:
        return f"slowfast-{self.label}{'-causal' if self.causal else ''}"

    @property
    def summary(self) -> str:
        joined = f"alpha {self.alpha}, {self.fusion}" if len(self.pathways) == 2 else "no fusion"
        return f"{self.frames} Slow frames of every {self.tau}, {joined}"

    @property
    def every(self) -> int:
        """Frames from one run of the Slow pathway to the next."""
        return self.alpha if len(self.pathways) == 2 else 1

    @property
    def frame_rate(self) -> float:
        alpha = self.alpha if "fast" in self.pathways else 1
        return RAW_FRAME_RATE * alpha / self.tau

    @property
    def clip_frames(self) -> int:
        return self.frames * (self.alpha if "fast" in self.pathways else 1)

    def resized(self, classes: int, side: int, frames: int) -> SlowFastArch:
        slow, rest = divmod(frames, self.clip_frames // self.frames)
        if rest or not slow:
            raise BadInput(
                f"{self.name} takes clips of a multiple of {self.alpha} frames, not {frames}; "
                "change frames"
            )
        changes = {"classes": classes, "resolution": side, "frames": slow}
        return self.model_copy(update=changes)

    @property
    def streams(self) -> bool:
        return not any(self.nonlocal_blocks)

    def stage_widths(self, pathway: Pathway) -> list[tuple[int, int]]:
        """(inner, outer) channels of res2 to res5."""
        inner = self.stem_width(pathway)
        return [
            (inner * 2**i, self._part(4 * self.width * 2**i, pathway)) for i in range(len(STAGES))
        ]

    def stem_width(self, pathway: Pathway) -> int:
        """Channels behind the first convolution."""
        return self._part(self.width, pathway)

    def _part(self, channels: int, pathway: Pathway) -> int:
        """Rounded up: so the published work of 1/6 and 1/12 is met."""
        return -(-channels // self.beta_inverse) if pathway == "fast" else channels

    def fused_channels(self, fast: int, slow: int) -> int:
        """Channels of the Slow features after a lateral connection from `fast` channels."""
        return {
            "t-conv": slow + 2 * fast,
            "ttoc-sum": slow,
            "ttoc-concat": slow + self.alpha * fast,
            "t-sample": slow + fast,
            "none": slow,
        }[self.fusion]

    @property
    def lateral_kernel(self) -> int:
        """Fast frames that enter one lateral output."""
        if self.fusion == "t-conv":
            return self.fusion_kernel
        return self.alpha if self.fusion.startswith("ttoc") else 1

    @property
    def lateral_ahead(self) -> int:
        """How many of them come after the Slow frame's own time."""
        if self.causal:
            return 0
        if self.fusion == "t-conv":
            return self.fusion_kernel // 2
        return self.alpha - 1 if self.fusion.startswith("ttoc") else 0

    def temporal_kernel(self, pathway: Pathway, stage: int, block: int) -> int:
        """Of the first convolution of a block; `stage` counts from 0 (res2)."""
        table = self.fast_temporal if pathway == "fast" else self.slow_temporal
        return 3 if block < table[stage] else 1

    def slow_index(self, frames: int) -> list[int]:
        """The Slow pathway's frames of a clip of Fast ones: PySlowFast's truncated linspace."""
        count = max(frames // self.every, 1)
        if self.every == 1:
            return list(range(frames))
        if count == 1:
            return [0]
        return [i * (frames - 1) // (count - 1) for i in range(count)]


def head_side(arch: SlowFastArch) -> int:
    """Side of the last features in training: all convolutions round up."""
    return -(-arch.resolution // 32)


Fields = dict[str, object]

R101: Fields = {
    "blocks": (3, 4, 23, 3),
    "fast_temporal": (3, 4, 6, 3),
    "slow_temporal": (0, 0, 6, 3),
}
FULL: Fields = {"fast_temporal": (3, 4, 23, 3), "slow_temporal": (0, 0, 23, 3)}
EIGHT: Fields = {"frames": 8, "tau": 8, "alpha": 4}
SIXTEEN: Fields = {"frames": 16, "tau": 8, "alpha": 4}
# For phones and small data sets: two blocks a stage; half and a quarter of the width.
SMALL: Fields = {
    "frames": 4,
    "tau": 8,
    "alpha": 4,
    "width": 32,
    "beta_inverse": 4,
    "blocks": (2, 2, 2, 2),
    "slow_temporal": (0, 0, 2, 2),
    "fast_temporal": (2, 2, 2, 2),
    "resolution": 112,
}
TINY = SMALL | {"width": 16, "resolution": 64}
SLOW_ONLY: Fields = {"pathways": ("slow",), "fusion": "none"}
FAST_ONLY: Fields = {"pathways": ("fast",), "fusion": "none"}

VARIANTS: dict[str, Fields] = {
    "4x16-r50": {},
    "8x8-r50": EIGHT | {"fusion_kernel": 7},
    "8x8-r101": EIGHT | R101,
    "8x8-r101-full": EIGHT | R101 | FULL,
    "16x8-r101": SIXTEEN | R101,
    "16x8-r101-full": SIXTEEN | R101 | FULL,
    "16x8-r101-nl": SIXTEEN | R101 | {"nonlocal_blocks": ((), (), (6, 13, 20), ())},
    "slow-4x16-r50": SLOW_ONLY,
    "fast-32x2-r50": FAST_ONLY,
    "small": SMALL,
    "slow-small": SMALL | SLOW_ONLY,
    "fast-small": SMALL | FAST_ONLY,
    "tiny": TINY,
    "slow-tiny": TINY | SLOW_ONLY,
    "fast-tiny": TINY | FAST_ONLY,
}
CAUSAL = (
    "4x16-r50",
    "8x8-r50",
    *(label for label in VARIANTS if label.endswith(("small", "tiny"))),
)


def slowfast_arch(label: str, **changes: object) -> SlowFastArch:
    """The architecture of a variant, with `changes` on top."""
    return SlowFastArch.model_validate({"label": label} | VARIANTS[label] | changes)
