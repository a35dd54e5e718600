"""A tiny causal SlowFast on the motion videos against its pathways alone, under one recipe.

``python -m movinet_edge.benchmarks.slowfast_motion DATA [SEED...]`` trains and evaluates on the
videos of ``movinet-edge data make motion --per-class 300``, and the first seed's as int8 bundles on
both engines, too; results lie in ``benchmarks/results/slowfast/motion/``.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from statistics import mean

from movinet_edge.benchmarks.motion import movinet_edge
from movinet_edge.benchmarks.slowfast import ENGINES, NAMES, RESULTS
from movinet_edge.train.evaluate import EvalRecord

MOTION = RESULTS / "motion"
RECIPE = "motion-slowfast"
# What each changes in the recipe.
KINDS: dict[str, tuple[str, ...]] = {
    "SlowFast, T-conv": (),
    "Slow only": ("model=slowfast-slow-tiny-causal", "frames=4", "frame_rate=1.25"),
    "Fast only": ("model=slowfast-fast-tiny-causal",),
}


def slug(kind: str) -> str:
    return kind.lower().replace(", ", "-").replace(" ", "-")


def train(kind: str, seed: str, data: Path, folder: Path) -> Path:
    """Train one; its checkpoint."""
    run = folder / f"{slug(kind)}-{seed}"
    fields = (*KINDS[kind], f"seed={seed}")
    words = [word for field in fields for word in ("--set", field)]
    cache = folder / "cache"
    where = ("--data", data, "--out", run, "--cache", cache)
    movinet_edge("train", "--recipe", RECIPE, *where, *words)
    return run / "best.safetensors"


def evaluate(checkpoint: Path, kind: str, seed: str, data: Path) -> None:
    """Accuracy of a checkpoint on the test split."""
    record = MOTION / f"{slug(kind)}-{seed}.json"
    movinet_edge("evaluate", checkpoint, "--data", data, "--split", "test", "--json", record)


def quantized(checkpoint: Path, data: Path, folder: Path) -> None:
    """Accuracy of the floats and of static int8 of bundles."""
    bundle = folder / "bundle"
    words = ("--precision", "fp32", "--precision", "int8", "--calibrate", data / "train")
    movinet_edge("export", checkpoint, "--out", bundle, *words)
    for engine in ENGINES:
        for precision in ("fp32", "int8"):
            record = MOTION / f"{engine}-{precision}.json"
            how = ("--backend", engine, "--precision", precision, "--json", record)
            movinet_edge("evaluate", bundle, "--data", data, "--split", "test", *how)


def motion_table() -> str:
    """Markdown rows: a kind each, then the bundles."""
    lines = ["| model | seeds | test top-1 | GMAC per video |", "|---|---|---|---|"]
    for kind in KINDS:
        found = _records(f"{slug(kind)}-[0-9]*.json")
        if not found:
            continue
        each = " / ".join(f"{100 * record.top1:.1f}" for record in found)
        shown = f"{100 * mean(r.top1 for r in found):.1f} % ({each})" if found[1:] else f"{each} %"
        macs = mean(record.macs_per_video for record in found) / 1e9
        lines.append(f"| {kind} | {len(found)} | {shown} | {macs:.2f} |")
    for engine in ENGINES:
        for precision in ("fp32", "int8"):
            for record in _records(f"{engine}-{precision}.json"):
                name = f"SlowFast, T-conv: {precision} bundle, {NAMES[engine]}"
                lines.append(f"| {name} | 1 | {100 * record.top1:.1f} % | |")
    return "\n".join(lines)


def _records(pattern: str) -> list[EvalRecord]:
    paths = sorted(MOTION.glob(pattern))
    return [EvalRecord.model_validate_json(path.read_text("utf-8")) for path in paths]


def main() -> None:
    data, *seeds = sys.argv[1:]
    MOTION.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(seeds or ["0", "1", "2"]):
            for kind in KINDS:
                checkpoint = train(kind, seed, Path(data), Path(folder))
                evaluate(checkpoint, kind, seed, Path(data))
                if number == 0 and kind == next(iter(KINDS)):
                    quantized(checkpoint, Path(data), Path(folder))


if __name__ == "__main__":
    main()
