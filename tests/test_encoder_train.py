"""Action classification with encoders: the common trainer, and what evaluation counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from movinet_edge.checkpoints.native import load_checkpoint
from movinet_edge.models.encoder import Encoder
from movinet_edge.models.registry import named_arch
from movinet_edge.streaming.spec import describe
from movinet_edge.train.recipe import make_recipe, read_recipe
from movinet_edge.train.transfer import starting_point
from tests.commands import Command

SIDE = 32
FRAMES = 4


@pytest.mark.parametrize("model", ["tsm-tiny", "tsm-tiny-causal", "r2plus1d-tiny"])
def test_one_epoch_on_motion_videos(
    call: Command, motion: Path, tmp_path: Path, model: str
) -> None:
    """The command trains, validates and writes a checkpoint that evaluates as its kind does."""
    run = tmp_path / "run"
    options = ["--frames", FRAMES, "--size", SIDE, "--batch", 8, "--epochs", 1, "--workers", 0]
    code, _, err = call("train", "--model", model, "--data", motion, "--out", run, *options)
    assert code == 0, err
    held = load_checkpoint(run / "best.safetensors")
    labels = held.labels or []
    arch = named_arch(model).resized(len(labels), SIDE, FRAMES)
    assert held.arch == arch
    assert isinstance(held.model, Encoder)
    recipe = make_recipe({"model": model, "frames": FRAMES, "size": SIDE})
    begun = starting_point(recipe, labels).model.state_dict()
    same = [k for k, v in held.model.state_dict().items() if torch.equal(v, begun[k])]
    assert not same
    protocol = "stream" if arch.causal else "clip"
    told = ["--protocol", protocol, "--workers", 0, "--json", tmp_path / "r.json"]
    code, _, err = call("evaluate", run / "best.safetensors", "--data", motion, *told)
    assert code == 0, err
    record = json.loads((tmp_path / "r.json").read_text())
    assert record["labels"] == labels
    if not arch.causal:
        assert record["macs_per_video"] == describe(held.model, (SIDE, SIDE), FRAMES).macs


def test_the_recipe_for_motion_videos() -> None:
    recipe = read_recipe("motion-tsm", {})
    assert recipe.model == "tsm-tiny"
    assert recipe.frames == named_arch(recipe.model).clip_frames
    assert not recipe.flip
