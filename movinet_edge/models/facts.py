"""Facts about the published models, computed from the modules (on the meta device)."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from movinet_edge.models.movinet import MoViNet
from movinet_edge.models.movinet_table import MoViNetArch
from movinet_edge.models.registry import MODELS
from movinet_edge.streaming.spec import describe


def model_facts(arch: MoViNetArch) -> dict[str, Any]:
    """Parameters, MACs, state and published figures of an architecture.

    `macs_per_frame` is one frame through the whole network, classifier included. A base model
    runs its classifier once per clip, so `macs_per_clip` is a little less than the product.
    """
    side, frames, table = arch.resolution, arch.clip_frames, arch.table
    with torch.device("meta"):
        model = MoViNet(arch)
    spec = describe(model, (side, side))
    second = spec.macs if arch.causal else describe(model, (side, side), 2).macs - spec.macs
    published = table.published
    return {
        "model": arch.name,
        "resolution": side,
        "parameters": sum(p.numel() for p in model.parameters()),
        "macs_per_frame": spec.macs,
        "macs_per_clip": spec.macs + (frames - 1) * second,
        "states": len(spec.states),
        "state_bytes": spec.state_bytes,
        "frame_rate": arch.frame_rate,
        "clip_frames": frames,
        "published": {
            "top1": published.top1_stream if arch.causal else published.top1_base,
            "top5": published.top5_stream if arch.causal else published.top5_base,
            "gmacs_per_clip": published.gmacs_clip,
            "tflite_pixel4_ms": published.pixel4_ms if arch.causal else None,
            "tflite_xeon_ms": published.xeon_ms if arch.causal else None,
        },
    }


@cache
def all_model_facts() -> list[dict[str, Any]]:
    """`model_facts` of every published model."""
    return [model_facts(arch) for arch in MODELS.values()]
