"""What a training run validates by: held-out videos, seen as its clips are."""

from __future__ import annotations

import torch

from movinet_edge.checkpoints.native import Checkpoint
from movinet_edge.data.listing import VideoSet
from movinet_edge.train.evaluate import EvalOptions, EvalRecord, evaluate_model
from movinet_edge.train.protocols import EvalProtocol
from movinet_edge.train.recipe import Recipe

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def validate(checkpoint: Checkpoint, videos: VideoSet, recipe: Recipe, workers: int) -> EvalRecord:
    """Accuracy of a model, on the device that it is on."""
    return evaluate_model(
        checkpoint.model,
        checkpoint.preprocessing,
        videos,
        protocol(recipe, checkpoint.arch.causal),
        device=next(checkpoint.model.parameters()).device,
        amp=AUTOCAST.get(recipe.precision),
        options=EvalOptions(workers=workers, memory=False),
    )


def protocol(recipe: Recipe, causal: bool) -> EvalProtocol:
    """Frames from all over a video, where clips have such; or all of it; or the middle clip."""
    if recipe.sampling == "uniform":
        return EvalProtocol("uniform", recipe.frames)
    return EvalProtocol("stream") if causal else EvalProtocol("clip", recipe.frames)
