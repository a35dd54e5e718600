"""Real clips as a decoder hands them over, in planes, and what the Python runtime answers.

Of the labelled clips of Kinetics-600's classes, where the real data is at hand.
"""

from __future__ import annotations

import csv
import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from movinet_edge.bundle import Bundle
from movinet_edge.checkpoints.importer import read_checkpoint, read_labels
from movinet_edge.export.exporter import export
from movinet_edge.export.graph_files import ExportOptions
from movinet_edge.files import new_folder, write_npz
from movinet_edge.runtime import Stream
from movinet_edge.runtime.video import VideoFile, on_screen, ticks, upright

WEIGHTS = "data/weights/movinet_a0_stream_k600_int8.tflite"
FRAMES = 25  # of each clip: five seconds
LIMITED, BT709 = 1, 1  # FFmpeg's numbers


def write_clips(folder: Path, shared: Path) -> None:
    """Write ``bundle``, ``clips.json`` and an ``.npz`` per clip.

    It holds ``y``, ``u``, ``v`` (uint8, the planes of all frames behind one another, without
    padding) and ``logits`` [frames, classes].
    """
    if folder.exists():
        return
    labels = read_labels(shared / "data/labels/kinetics600.txt")
    with (shared / "data/clips/manifest.csv").open() as file:
        names = [row["file"] for row in csv.DictReader(file) if row["tier"] == "primary"]
    with new_folder(folder) as work:
        how = ExportOptions(("onnx",), verify=False)
        export(read_checkpoint(shared / WEIGHTS, labels), work / "bundle", how)
        bundle = Bundle(work / "bundle")
        written = [write_clip(work, bundle, shared / "data/clips" / name) for name in names]
        (work / "clips.json").write_text(json.dumps([c for c in written if c], indent=1))


def write_clip(folder: Path, bundle: Bundle, clip: Path) -> dict[str, Any] | None:
    """None where the clip is not stored as YUV 4:2:0."""
    rate = bundle.manifest.preprocessing.frame_rate
    with VideoFile(clip) as file:
        frames = [frame for _, frame in islice(on_screen(file.pictures(), ticks(rate)), FRAMES)]
        if frames[0].format.name != "yuv420p":
            return None
        planes = [np.stack([plane(frame, i) for frame in frames]) for i in range(3)]
        with Stream(bundle, "onnxruntime") as stream:
            logits = np.stack([p.logits for p in stream.run(upright(f) for f in frames)])
    y, u, v = (part.ravel() for part in planes)
    write_npz(folder / f"{clip.stem}.npz", y=y, u=u, v=v, logits=logits)
    first = frames[0]
    matrix = "BT709" if int(first.colorspace) == BT709 else "BT601"
    facts = {"height": first.height, "width": first.width, "matrix": matrix}
    return facts | {"name": clip.stem, "full": int(first.color_range) > LIMITED}


def plane(frame: Any, number: int) -> np.ndarray:
    """A plane without the padding of its rows."""
    held = frame.planes[number]
    rows = np.frombuffer(held, np.uint8).reshape(-1, held.line_size)
    return rows[: held.height, : held.width]
