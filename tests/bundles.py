"""Streams of bundles, and bundles with a changed manifest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from movinet_edge.bundle import MANIFEST
from movinet_edge.models.movinet_table import MoViNetArch, published_arch
from movinet_edge.models.registry import MODELS
from movinet_edge.pattern import moving_pattern
from movinet_edge.runtime import Stream
from movinet_edge.streaming.deploy import Part, StateSpec, tensor_name

MOVINETS = {name: arch for name, arch in MODELS.items() if isinstance(arch, MoViNetArch)}


def edited(source: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of a bundle with a changed manifest."""
    shutil.copytree(source, target)
    manifest = json.loads((target / MANIFEST).read_text())
    change(manifest)
    (target / MANIFEST).write_text(json.dumps(manifest))
    return target


def lone(states: Iterable[StateSpec]) -> Part:
    """The part of a model of one graph that a `StepModule` is told of."""
    return Part("step", nn.Identity, tuple(states), 0)


def logits_of(stream: Stream, frames: Iterable[np.ndarray]) -> np.ndarray:
    return np.stack([p.logits for p in stream.run(frames)])


def clip(count: int = 8, height: int = 64, width: int = 64, seed: int = 1) -> np.ndarray:
    return moving_pattern(count, height, width, seed)


def weight_of(block: int, part: str) -> str:
    """The name in A0's ONNX files of a weight of its block number `block`."""
    layer = published_arch("a0", True).table.layers()[block]
    return f"body.blocks.{tensor_name(layer.name)}.{part}"
