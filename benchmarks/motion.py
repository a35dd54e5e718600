"""The motion comparisons: one pass against many clips, temporal ensembles, exported bundles.

``python -m movinet_edge.benchmarks.motion DATA RUNS`` evaluates the shipped checkpoint and those
it is compared with (``RUNS/a``, ``b`` and ``base``; the card of ``motion-a0-stream`` says how they
are trained) on the test split of DATA and writes a record each to ``benchmarks/results/motion/``.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks/results/motion"
SHIPPED = "motion-a0-stream"

# Record, what is evaluated (a run, the shipped checkpoint or a bundle), how.
EVALUATIONS = (
    ("stream", SHIPPED, ""),
    ("stream-shuffled", SHIPPED, "--shuffle"),
    ("single-frame", SHIPPED, "--protocol clip --frames 1"),
    ("litert", "bundle", "--backend litert"),
    ("onnxruntime", "bundle", "--backend onnxruntime"),
    ("base-clip", "base", "--protocol clip --frames 8"),
    ("base-multi-clip", "base", "--protocol multi-clip --frames 8"),
    ("member-a", "a", ""),
    ("member-b", "b", ""),
    ("ensemble", "ensemble", "--backend litert"),
    ("ensemble-onnxruntime", "ensemble", "--backend onnxruntime"),
    ("ensemble-torch", "ensemble", "--backend torch"),
)


def movinet_edge(*words: str | Path) -> None:
    print("$ movinet-edge", *words, flush=True)
    subprocess.run([sys.executable, "-m", "movinet_edge", *map(str, words)], check=True)


def main() -> None:
    data, runs = Path(sys.argv[1]), Path(sys.argv[2])
    RESULTS.mkdir(parents=True, exist_ok=True)
    trained = {name: runs / name / "last.safetensors" for name in ("a", "b")}
    trained["base"] = runs / "base" / "best.safetensors"
    with tempfile.TemporaryDirectory() as folder:
        bundles = {name: Path(folder) / name for name in ("bundle", "ensemble")}
        # Both prove parity before anything is evaluated.
        movinet_edge("export", SHIPPED, "--out", bundles["bundle"])
        movinet_edge("ensemble", trained["a"], trained["b"], "--out", bundles["ensemble"])
        sources = {SHIPPED: SHIPPED} | trained | bundles
        for name, source, words in EVALUATIONS:
            record = RESULTS / f"{name}.json"
            common = ("--data", data, "--split", "test", "--json", record)
            movinet_edge("evaluate", sources[source], *common, *words.split())


if __name__ == "__main__":
    main()
