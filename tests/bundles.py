"""Streams of bundles, and bundles with a changed manifest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from movinet_edge.bundle import MANIFEST
from movinet_edge.pattern import moving_pattern
from movinet_edge.runtime import Stream


def edited(source: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of a bundle with a changed manifest."""
    shutil.copytree(source, target)
    manifest = json.loads((target / MANIFEST).read_text())
    change(manifest)
    (target / MANIFEST).write_text(json.dumps(manifest))
    return target


def logits_of(stream: Stream, frames: Iterable[np.ndarray]) -> np.ndarray:
    return np.stack([p.logits for p in stream.run(frames)])


def clip(count: int = 8, height: int = 64, width: int = 64, seed: int = 1) -> np.ndarray:
    return moving_pattern(count, height, width, seed)
