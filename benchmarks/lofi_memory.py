"""What a step of LoFi's stage 2 holds in memory, against one at full fidelity.

``python -m movinet_edge.benchmarks.lofi_memory [MODEL [SIDE [VIDEOS [DEVICE]]]]`` measures whole
training steps of an encoder with G-TAD on 100 snippets and writes
``benchmarks/results/localization/memory-DEVICE.json``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from movinet_edge.benchmarks.charts import chart
from movinet_edge.benchmarks.machine import describe_machine, tool_versions
from movinet_edge.benchmarks.record import Machine
from movinet_edge.bundle import Record
from movinet_edge.train.dry_run import step_bytes
from movinet_edge.train.fidelity import SHARES, Fidelity, fidelity
from movinet_edge.train.localizing import localizer_start
from movinet_edge.train.recipe import make_recipe

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks/results/localization"
FULL = Fidelity("full", 1.0, 1.0)
MODEL, SIDE, VIDEOS, DEVICE = "tsm-resnet18", 96, 1, "cpu"
CLASSES = 20
GIGABYTE = 1e9


class FidelityPoint(Record):
    """The peak of one step, and its share of that at full fidelity."""

    name: str
    r_t: float
    r_s: float
    snippets: int
    side: int
    bytes: int
    share: float


class LofiMemory(Record):
    """Steps of `videos` videos: weights, gradients, the optimiser's state, frames, activations."""

    model: str
    device: str
    videos: int
    machine: Machine
    versions: dict[str, str]
    points: tuple[FidelityPoint, ...]


def measure(model: str, side: int, videos: int, device: str) -> LofiMemory:
    """Full fidelity and every reduction."""
    recipe = make_recipe({"stage": "lofi", "model": model, "size": side, "optimizer": "plain"})
    start = localizer_start(recipe, tuple(map(str, range(CLASSES))))
    target = torch.device(device)
    full, points = 0, []
    for one in (FULL, *map(fidelity, SHARES)):
        peak = step_bytes(start, recipe, one, videos, target)
        full = full or peak
        points.append(
            FidelityPoint(
                name=one.name,
                r_t=one.r_t,
                r_s=one.r_s,
                snippets=one.snippets(100),
                side=one.side(side),
                bytes=peak,
                share=peak / full,
            )
        )
        print(points[-1], flush=True)
    return LofiMemory(
        model=start.arch.name,
        device=torch.cuda.get_device_name() if target.type == "cuda" else "cpu",
        videos=videos,
        machine=describe_machine(None),
        versions=tool_versions(),
        points=tuple(points),
    )


def read(device: str = DEVICE) -> LofiMemory:
    """The committed record."""
    path = RESULTS / f"memory-{device}.json"
    return LofiMemory.model_validate_json(path.read_text("utf-8"))


def draw_lofi_memory(record: LofiMemory, path: Path) -> None:
    """A bar for every fidelity."""
    with chart(path, (8, 2.8)) as axes:
        points = record.points[::-1]
        names = [f"{p.name}: {p.snippets} x {p.side} px" for p in points]
        bars = axes.barh(names, [p.bytes / GIGABYTE for p in points], height=0.6)
        texts = [f"{p.bytes / GIGABYTE:.2f} GB, {p.share:.0%}" for p in points]
        axes.bar_label(bars, texts, padding=4)
        axes.margins(x=0.2)
        axes.set_xlabel(f"peak of a training step, GB, {record.videos} video(s)")
        axes.set_title(f"{record.model}: snippets x side of frames", loc="left")


def main() -> None:
    given = [*sys.argv[1:], *(MODEL, str(SIDE), str(VIDEOS), DEVICE)[len(sys.argv) - 1 :]]
    torch.set_num_threads(1)
    record = measure(given[0], int(given[1]), int(given[2]), given[3])
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"memory-{given[3]}.json"
    path.write_text(record.model_dump_json(indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
