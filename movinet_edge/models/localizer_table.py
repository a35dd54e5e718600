"""A localizer as a table: the encoder of snippets, the head on their vectors, the classes."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from movinet_edge.errors import BadInput
from movinet_edge.models.arch import ModelArch
from movinet_edge.models.gtad_table import VARIANTS as HEADS
from movinet_edge.models.gtad_table import GTadArch, gtad_arch
from movinet_edge.models.movinet_table import MoViNetArch
from movinet_edge.models.r2plus1d_table import R2plus1dArch
from movinet_edge.models.tsm_table import TsmArch

AnyEncoder = Annotated[TsmArch | R2plus1dArch | MoViNetArch, Field(discriminator="family")]


class LocalizerArch(ModelArch):
    """G-TAD, perhaps with the encoder that makes its features, and a classifier of segments.

    Without an `encoder` (as public heads come) it takes features that others extracted. With 0
    `classes` it finds segments and does not tell what is in them. `resolution` is the encoder's;
    where there is none it says nothing.
    """

    family: Literal["localizer"] = "localizer"
    causal: Literal[False] = False
    classes: int = Field(0, ge=0)
    resolution: int = Field(224, ge=32)
    dropout: float = Field(0.0, ge=0, lt=1)
    multi_label: Literal[False] = False
    head: GTadArch
    encoder: AnyEncoder | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        encoder = self.encoder
        if encoder is None:
            return self
        if encoder.features != self.head.features:
            raise ValueError(
                f"{encoder.name} gives {encoder.features} features, "
                f"the head takes {self.head.features}"
            )
        if encoder.resolution != self.resolution:
            raise ValueError(f"{encoder.name} sees {encoder.resolution} pixels")
        return self

    @property
    def name(self) -> str:
        return self.head.name if self.encoder is None else f"{self.head.name}-{self.encoder.name}"

    @property
    def summary(self) -> str:
        return self.head.summary

    @property
    def frame_rate(self) -> float:
        """Of the encoder's frames; 1 where there is none."""
        return 1.0 if self.encoder is None else self.encoder.frame_rate

    @property
    def clip_frames(self) -> int:
        """Of a snippet; 1 where there is no encoder."""
        return 1 if self.encoder is None else self.encoder.clip_frames

    def resized(self, classes: int, side: int, frames: int) -> ModelArch:
        raise BadInput(
            f"{self.name} finds segments; train it with --task localization, or train its encoder"
        )


def localizer_arch(
    head: GTadArch, encoder: AnyEncoder | None = None, classes: int = 0
) -> LocalizerArch:
    """The localizer of these parts; the head takes as many features as the encoder gives."""
    if encoder is None:
        return LocalizerArch(head=head, classes=classes)
    fitting = head.model_copy(update={"features": encoder.features})
    side = encoder.resolution
    return LocalizerArch(head=fitting, encoder=encoder, classes=classes, resolution=side)


def published_heads() -> tuple[LocalizerArch, ...]:
    """Heads alone, as their public code has them."""
    return tuple(localizer_arch(gtad_arch(label)) for label in HEADS)
