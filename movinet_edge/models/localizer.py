"""An encoder and a localization head together: videos to segments and what is in them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from movinet_edge.errors import BadInput
from movinet_edge.models.arch import VideoModel
from movinet_edge.models.encoder import Encoder
from movinet_edge.models.gtad import GTad, LocalizationScores
from movinet_edge.models.localizer_table import LocalizerArch
from movinet_edge.models.movinet import MoViNet
from movinet_edge.models.r2plus1d import R2plus1d
from movinet_edge.models.tsm import Tsm
from movinet_edge.streaming.state import State

ENCODERS: dict[str, type[Encoder]] = {"tsm": Tsm, "r2plus1d": R2plus1d, "movinet": MoViNet}


class Localizer(VideoModel):
    """`head` finds segments in features, `classify` says what is in them, `encoder` makes them.

    What is in a segment is a dense layer on the mean of its snippets' vectors. That is linear, so
    a segment's logits are the mean of its places' (`segment_logits`).
    """

    arch: LocalizerArch

    def __init__(self, arch: LocalizerArch):
        super().__init__()
        self.arch = arch
        self.head = GTad(arch.head)
        self.encoder = ENCODERS[arch.encoder.family](arch.encoder) if arch.encoder else None
        self.classify = nn.Linear(arch.head.features, arch.classes) if arch.classes else None

    def encode(self, frames: Tensor) -> Tensor:
        """Videos as snippets [B, T, F, 3, H, W] in [0, 1] -> features [B, C, T].

        Raises:
            BadInput: it has no encoder.
        """
        if self.encoder is None:
            raise BadInput(f"{self.arch.name} has no encoder; give it features (--features)")
        return self.encoder.encode(frames).transpose(1, 2)

    def find(self, features: Tensor) -> LocalizationScores:
        """Features [B, C, T] -> scores of all segments, starts and ends."""
        scores: LocalizationScores = self.head(features)
        return scores

    def place_logits(self, features: Tensor) -> Tensor:
        """Features [B, C, T] -> logits of every place, [B, T, classes].

        Raises:
            BadInput: it knows no classes.
        """
        if self.classify is None:
            raise BadInput(f"{self.arch.name} knows no classes; give it scores of videos' classes")
        logits: Tensor = self.classify(features.transpose(1, 2))
        return logits

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """A clip [B, T, 3, H, W] as one segment -> logits of what it shows, [B, 1, classes].

        It is cut into snippets, which are all of one length but for the last.
        """
        if state:
            raise ValueError("a localizer sees whole clips; it takes no state")
        pieces = x.split(self.arch.clip_frames, 1)
        features = torch.cat([self.encode(piece[:, None]) for piece in pieces], 2)
        weights = features.new_tensor([piece.shape[1] for piece in pieces])
        mean = (features * weights).sum(2, keepdim=True) / weights.sum()
        return self.place_logits(mean), {}
