"""Facts about the published models, computed from the modules (on the meta device)."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from movinet_edge.models.arch import ModelArch
from movinet_edge.models.movinet_table import MoViNetArch
from movinet_edge.models.registry import HEADS, MODELS, build, deploy_parts
from movinet_edge.streaming.spec import describe


def model_facts(arch: ModelArch) -> dict[str, Any]:
    """Parameters, MACs, state and published figures (MoViNet's) of an architecture.

    `macs_per_frame` is one frame of a stream, of graphs that run at every k-th frame a k-th, and of
    graphs to choose from the largest; of a model that is not exported as a stream, one frame
    through the whole network. A base model runs its
    classifier once per clip, so `macs_per_clip` is a little less than the product.
    """
    side, frames = arch.resolution, arch.clip_frames
    with torch.device("meta"):
        model = build(arch)
    size = side, side
    stream = describe(model.as_stream(), size) if arch.streams else None
    clip = describe(model, size, frames).macs
    if arch.streams:
        parts = deploy_parts(model, size) if arch.deploys else []
        always = sum(part.macs / part.every for part in parts if part.when is None)
        chosen = max((part.macs for part in parts if part.when is not None), default=0)
        per_frame = always + chosen if parts else describe(model, size).macs
    else:
        per_frame = describe(model, size).macs
    return {
        "model": arch.name,
        "resolution": side,
        "parameters": sum(p.numel() for p in model.parameters()),
        "macs_per_frame": round(per_frame),
        "macs_per_clip": clip,
        "states": len(stream.states) if stream else 0,
        "state_bytes": stream.state_bytes if stream else 0,
        "frame_rate": arch.frame_rate,
        "clip_frames": frames,
        "published": _published(arch) if isinstance(arch, MoViNetArch) else None,
    }


def _published(arch: MoViNetArch) -> dict[str, float | None]:
    published = arch.table.published
    return {
        "top1": published.top1_stream if arch.causal else published.top1_base,
        "top5": published.top5_stream if arch.causal else published.top5_base,
        "gmacs_per_clip": published.gmacs_clip,
        "tflite_pixel4_ms": published.pixel4_ms if arch.causal else None,
        "tflite_xeon_ms": published.xeon_ms if arch.causal else None,
    }


@cache
def all_model_facts() -> list[dict[str, Any]]:
    """`model_facts` of every published model."""
    return [model_facts(arch) for arch in MODELS.values()]


@cache
def all_head_facts() -> list[dict[str, Any]]:
    """Sizes of the localization heads: parameters, features per snippet, snippets, durations."""
    facts = []
    for name, arch in HEADS.items():
        with torch.device("meta"):
            model = build(arch)
        head = arch.head
        facts.append(
            {
                "model": name,
                "parameters": sum(p.numel() for p in model.parameters()),
                "features": head.features,
                "snippets": head.snippets,
                "durations": head.durations,
                "bins": [head.bins, head.context_bins],
                "kernel": head.kernel,
            }
        )
    return facts
