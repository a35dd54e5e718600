"""What every family's architecture record and model have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from movinet_edge.streaming.state import State


class ModelArch(BaseModel, ABC):
    """Everything that defines a model's computation; it travels inside every checkpoint.

    `resolution` is the side of its square frames in pixels. With `multi_label` each class is there
    or not, whatever the others are: probabilities are sigmoids of the logits, not their softmax.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: str
    causal: bool = True
    classes: int = Field(600, ge=1)
    resolution: int = Field(172, ge=32)
    dropout: float = Field(0.2, ge=0, lt=1)
    multi_label: bool = False

    @property
    @abstractmethod
    def name(self) -> str:
        """What the architecture is called, such as ``movinet-a0-stream``."""

    @property
    @abstractmethod
    def summary(self) -> str:
        """What weights alone did not tell, or could be other than one thinks."""

    @property
    @abstractmethod
    def frame_rate(self) -> float:
        """Frames per second that the model takes."""

    @property
    @abstractmethod
    def clip_frames(self) -> int:
        """Frames of one evaluation clip."""

    def resized(self, classes: int, side: int, frames: int) -> ModelArch:
        """The same for so many classes and clips of `frames` square frames of `side` pixels.

        Raises:
            BadInput: it cannot have clips of that length.
        """
        changes = {"classes": classes, "resolution": side, "frames": frames}
        return self.model_copy(update=changes)

    @property
    def streams(self) -> bool:
        """Whether the model runs frame by frame; without being causal, with a delay."""
        return self.causal

    @property
    def is_one_graph(self) -> bool:
        """Whether its stream is one graph, which also has the forms ``carry`` and ``clip``."""
        return False

    @property
    def deploys(self) -> bool:
        """Whether it can be exported; baselines to compare with need not."""
        return True


class OwnClips:
    """Of architectures whose record says how long and how fast their clips are."""

    frames: int
    rate: float

    @property
    def frame_rate(self) -> float:
        return self.rate

    @property
    def clip_frames(self) -> int:
        return self.frames


class VideoModel(nn.Module, ABC):
    """A classifier of videos; `arch` is its record."""

    arch: ModelArch

    @abstractmethod
    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Frames [B, T, 3, H, W] in [0, 1] -> logits per frame [B, T, classes], next state.

        A model that is not causal gives one answer for the clip, [B, 1, classes], keeps no state
        and refuses one.
        """

    def as_stream(self) -> nn.Module:
        """The module with the same weights that runs frame by frame, if there is one."""
        return self

    @property
    def delay(self) -> int:
        """Frames by which the answers of its stream come late."""
        return 0

    def start_residuals(self, scale: float) -> None:
        """Set what the residual branches begin with, where the family has such scales."""
