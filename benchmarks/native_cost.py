"""The native step runner against the Python runtime, in turn on this computer, one thread.

``python -m movinet_edge.benchmarks.native_cost BUNDLE...`` prints and keeps a record each in
``benchmarks/results/native``, named after the bundle's file.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from movinet_edge.benchmarks.bundled import BundleContestant
from movinet_edge.benchmarks.contestant import Entry
from movinet_edge.benchmarks.machine import describe_machine, tool_versions
from movinet_edge.benchmarks.native import EngineName, NativeOptions, build, engine_library, run
from movinet_edge.benchmarks.native_plan import prepare as prepared
from movinet_edge.benchmarks.native_record import check_parity
from movinet_edge.benchmarks.record import Machine, Spread
from movinet_edge.benchmarks.stats import spread
from movinet_edge.benchmarks.timing import prepare
from movinet_edge.bundle import Bundle, Record
from movinet_edge.files import write_text

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks/results/native"
ENGINES: tuple[EngineName, ...] = ("litert", "onnxruntime")
ROUNDS, STEPS = 10, 200


class Against(Record):
    """An engine's step in both runners: medians of all rounds in ms, and native by Python.

    `error` is the native answers' largest error on the golden stream.
    """

    engine: EngineName
    python_ms: float
    native_ms: float
    ratio: Spread
    error: float


class NativeCost(Record):
    """What the native runner costs beside the Python one, of one bundle in float32."""

    model: str
    machine: Machine
    tools: dict[str, str]
    rounds: int
    steps: int
    engines: tuple[Against, ...]


def compare(path: Path, engine: EngineName, program: Path, work: Path) -> Against:
    """Rounds of `STEPS` steps in each runner, the native one in a fresh process every time."""
    bundle = Bundle(path)
    folder = prepared(bundle, engine, work / engine)
    options = NativeOptions(engine=engine, library=str(engine_library(engine)), steps=STEPS)
    entry = Entry(label=engine, name=engine, kind="bundle", path=path, way=engine)
    with np.load(bundle.file(bundle.manifest.golden)) as golden:
        python = prepare(BundleContestant(entry, bundle), golden["frames"])
    error, medians = 0.0, []
    for _ in range(ROUNDS):
        ran = run(program, folder.folder, options)
        error = max(error, check_parity(folder, ran))
        python.step.clear()
        for number in range(STEPS):
            python.one(number)
        medians.append((float(np.median(python.step)), float(np.median(ran.step_ms))))
    ours, native = (np.asarray(column) for column in zip(*medians, strict=True))
    return Against(
        engine=engine,
        python_ms=float(np.median(ours)),
        native_ms=float(np.median(native)),
        ratio=spread((native / ours).tolist()),
        error=error,
    )


def native_table() -> str:
    """Markdown: a row per model and engine."""
    lines = [
        "| model | engine | Python, ms | native, ms | native by Python (p10–p90) |",
        "|---|---|---|---|---|",
    ]
    for path in sorted(RESULTS.glob("*.json")):
        record = NativeCost.model_validate_json(path.read_text("utf-8"))
        for row in record.engines:
            ratio = f"{row.ratio.p50:.2f} ({row.ratio.p10:.2f}–{row.ratio.p90:.2f})"
            times = f"{row.python_ms:.2f} | {row.native_ms:.2f}"
            lines.append(f"| {record.model} | {row.engine} | {times} | {ratio} |")
    return "\n".join(lines)


def main() -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        program = build(Path(folder) / "build")
        for path in map(Path, sys.argv[1:]):
            work = Path(folder) / path.stem
            found = tuple(compare(path, engine, program, work) for engine in ENGINES)
            for row in found:
                print(path.stem, row.model_dump_json(), flush=True)
            record = NativeCost(
                model=Bundle(path).manifest.name,
                machine=describe_machine(None),
                tools=tool_versions(),
                rounds=ROUNDS,
                steps=STEPS,
                engines=found,
            )
            write_text(RESULTS / f"{path.stem}.json", record.model_dump_json(indent=1) + "\n")


if __name__ == "__main__":
    main()
