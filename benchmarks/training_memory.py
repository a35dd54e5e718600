"""Training memory against clip length: stream buffers and the whole clip at once.

``python -m movinet_edge.benchmarks.training_memory`` measures MoViNet-A0-Stream on the CPU's
allocator and writes ``benchmarks/results/training/memory.json``.
"""

from __future__ import annotations

from pathlib import Path

import torch

from movinet_edge.bundle import Record
from movinet_edge.models.registry import named_arch, seeded_model
from movinet_edge.train.memory import peak_memory, weights_bytes
from movinet_edge.train.subclips import clip_backward

RESULT = Path(__file__).resolve().parents[1] / "benchmarks/results/training/memory.json"
MODEL, SIDE, SUBCLIP = "movinet-a0-stream", 172, 8
FRAMES = (8, 16, 32, 64)


class MemoryPoint(Record):
    """Peak bytes of forward and backward beside weights, gradients and the clip itself."""

    frames: int
    whole_clip: int
    subclips_stopped: int
    subclips_kept: int


class MemoryReport(Record):
    """One batch of one clip; `subclip` frames per sub-clip."""

    model: str
    side: int
    subclip: int
    torch: str
    weights_bytes: int
    points: tuple[MemoryPoint, ...]


def measure(frames: int) -> MemoryPoint:
    """Peaks for one clip of `frames` frames, cut in no, in stopped and in kept sub-clips."""
    model = seeded_model(named_arch(MODEL)).train()
    clip, labels = torch.rand(1, frames, 3, SIDE, SIDE), torch.zeros(1, dtype=torch.int64)
    clip_backward(model, clip[:, :1], labels)  # from now on there are gradients

    def peak(subclips: int, keep: bool) -> int:
        return peak_memory(lambda: clip_backward(model, clip, labels, subclips, keep))

    cut = frames // SUBCLIP
    return MemoryPoint(
        frames=frames,
        whole_clip=peak(1, False),
        subclips_stopped=peak(cut, False),
        subclips_kept=peak(cut, True),
    )


def main() -> None:
    points = []
    for frames in FRAMES:
        points.append(measure(frames))
        print(points[-1], flush=True)
    report = MemoryReport(
        model=MODEL,
        side=SIDE,
        subclip=SUBCLIP,
        torch=torch.__version__,
        weights_bytes=weights_bytes(seeded_model(named_arch(MODEL))),
        points=tuple(points),
    )
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(report.model_dump_json(indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
