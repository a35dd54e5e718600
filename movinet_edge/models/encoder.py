"""Encoders: classifiers of videos that also give one vector for every snippet.

A snippet is a clip of `EncoderArch.clip_frames` frames, `EncoderArch.frame_rate` of them per
second; it is seen by itself, and what comes before it is not known. Localization heads see the
vectors.
"""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn

from movinet_edge.models.arch import ModelArch, VideoModel
from movinet_edge.streaming.layers import RunningMean
from movinet_edge.streaming.state import State


class EncoderArch(ModelArch):
    """The architecture of an encoder."""

    @property
    @abstractmethod
    def features(self) -> int:
        """Length of a snippet's vector."""


class Encoder(VideoModel):
    """A classifier whose answer rests on one vector for each snippet."""

    arch: EncoderArch

    @abstractmethod
    def snippets(self, x: Tensor) -> Tensor:
        """Snippets [N, F, 3, H, W] in [0, 1], each by itself -> vectors [N, features]."""

    def encode(self, frames: Tensor) -> Tensor:
        """Videos as snippets [B, S, F, 3, H, W] in [0, 1] -> vectors [B, S, features].

        Raises:
            ValueError: the frames are not in snippets.
        """
        if frames.dim() != 6:
            raise ValueError(f"snippets are [B, S, F, 3, H, W], not {list(frames.shape)}")
        return self.snippets(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])


class MeanHead(nn.Module):
    """Mean over time, dropout, one dense layer."""

    def __init__(self, arch: EncoderArch):
        super().__init__()
        self.pool = RunningMean() if arch.causal else None
        self.dropout = nn.Dropout(arch.dropout)
        self.classify = nn.Linear(arch.features, arch.classes)
        nn.init.normal_(self.classify.weight, std=0.01)
        nn.init.zeros_(self.classify.bias)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Features [B, T, C] -> logits [B, T, classes], or [B, 1, classes] where not causal."""
        if self.pool is None:
            mean, entry = x.mean(1, keepdim=True), {}
        else:
            mean, entry = self.pool(x, state)
        return self.classify(self.dropout(mean)), entry
