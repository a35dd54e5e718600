"""Simulated int8 for tests."""

from __future__ import annotations

import torch
from torch import Tensor

from movinet_edge.models.arch import VideoModel
from movinet_edge.models.registry import simulated
from movinet_edge.streaming.instrument import Instrument


def calibrated(model: VideoModel, clip: Tensor) -> Instrument:
    """Quantisers in `model`, still off, whose ranges are of a clip [B, T, 3, H, W]."""
    instrument = simulated(model)
    instrument.watch("all")
    with torch.no_grad():
        model(clip)
    instrument.watch("none")
    return instrument
