"""Where the time of a step goes: milliseconds per kind of operator.

``python -m movinet_edge.benchmarks.operators BUNDLE [PRECISION]`` profiles its files on one thread,
on every engine that has a profile, and writes to ``benchmarks/results/operators/``. A profile costs
time itself: shares are to be read, and milliseconds elsewhere.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from movinet_edge.benchmarks.machine import describe_machine, tool_versions
from movinet_edge.benchmarks.record import Machine
from movinet_edge.bundle import MANIFEST, Bundle, ModelFile, Record, sha256_of
from movinet_edge.errors import BadInput
from movinet_edge.files import write_text
from movinet_edge.runtime.engines import BACKENDS
from movinet_edge.runtime.graph import find_file

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks/results/operators"
RUNS, WARMUP = 100, 5
TOP = 5

Run = list[tuple[str, float]]  # operators in order, with their ms
Profile = Callable[[Path, ModelFile, int], list[Run]]


class OperatorTime(Record):
    """All operators of a kind: how many a step has, and the median of what they take together."""

    operator: str
    count: float
    ms: float


class OperatorReport(Record):
    """One profile; the slowest kinds come first. Where graphs take turns, numbers are averages."""

    bundle: str
    manifest_sha256: str
    engine: str
    precision: str
    runs: int
    machine: Machine
    tools: dict[str, str]
    operators: tuple[OperatorTime, ...]


def measure(
    bundle: Bundle, engine: str, precision: str = "fp32", runs: int = RUNS
) -> OperatorReport:
    """Profile what a step runs.

    Raises:
        BadInput: the engine has no profile or is not installed, or the bundle no such file.
    """
    if engine not in PROFILES:
        raise BadInput(f"{engine} has no profile; take one of {', '.join(PROFILES)}")
    backend, manifest = BACKENDS[engine], bundle.manifest
    if not backend.installed:
        raise BadInput(f"{engine} is not installed; pip install 'movinet-edge[{backend.extra}]'")
    counts: defaultdict[str, float] = defaultdict(float)
    times: defaultdict[str, float] = defaultdict(float)
    for planned in manifest.plan_for(backend.format).steps:
        file = find_file(manifest.graph(planned.graph), backend, precision)
        for found in summed(PROFILES[engine](bundle.file(file), file, runs)):
            counts[found.operator] += found.count / planned.every
            times[found.operator] += found.ms / planned.every
    return OperatorReport(
        bundle=manifest.name,
        manifest_sha256=sha256_of(bundle.root / MANIFEST),
        engine=engine,
        precision=precision,
        runs=runs,
        machine=describe_machine(None),
        tools=tool_versions(),
        operators=tuple(
            OperatorTime(operator=name, count=counts[name], ms=ms)
            for name, ms in sorted(times.items(), key=lambda item: -item[1])
        ),
    )


def summed(runs: Sequence[Run]) -> list[OperatorTime]:
    """Operators of a kind together, the median over the runs, which are alike."""
    totals: dict[str, list[float]] = {}
    counts = Counter(name for name, _ in runs[0])
    for run in runs:
        sums: defaultdict[str, float] = defaultdict(float)
        for name, ms in run:
            sums[name] += ms
        for name in counts:
            totals.setdefault(name, []).append(sums[name])
    return [
        OperatorTime(operator=name, count=count, ms=float(np.median(totals[name])))
        for name, count in counts.items()
    ]


def onnxruntime_profile(path: Path, file: ModelFile, runs: int) -> list[Run]:
    """ONNX Runtime's own profile of its nodes, after its optimisations."""
    import onnxruntime

    from movinet_edge.runtime.ort import session_options

    rng = np.random.default_rng(0)
    feeds = {spec.name: rng.random(spec.shape).astype(spec.dtype) for spec in file.inputs}
    with tempfile.TemporaryDirectory() as folder:
        options = session_options(1)
        options.enable_profiling = True
        options.profile_file_prefix = os.path.join(folder, "profile")
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        for _ in range(runs + WARMUP):
            session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    nodes = [
        (event["args"]["op_name"], event["dur"] / 1e3)
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
    ]
    each = len(nodes) // (runs + WARMUP)
    return [nodes[start : start + each] for start in range(WARMUP * each, len(nodes), each)]


def _litert_profile(path: Path, file: ModelFile, runs: int) -> list[Run]:
    from movinet_edge.benchmarks.litert_profile import profile

    return profile(path, file, runs)


PROFILES: dict[str, Profile] = {"litert": _litert_profile, "onnxruntime": onnxruntime_profile}


def reports() -> list[OperatorReport]:
    """The committed profiles."""
    return [
        OperatorReport.model_validate_json(path.read_text("utf-8"))
        for path in sorted(RESULTS.glob("*.json"))
    ]


def operators_table(found: Sequence[OperatorReport]) -> str:
    """Markdown: the `TOP` kinds of operators of each profile, and what is left."""
    lines = ["| model | engine | operator | per step | ms | share |", "|---|---|---|---|---|---|"]
    for report in found:
        total = sum(row.ms for row in report.operators)
        rest = report.operators[TOP:]
        left = OperatorTime(
            operator=f"{len(rest)} others",
            count=sum(row.count for row in rest),
            ms=sum(row.ms for row in rest),
        )
        version = report.tools.get("ai-edge-litert" if report.engine == "litert" else report.engine)
        who = f"{report.bundle} {report.precision} | {report.engine} {version}"
        lines += [
            f"| {who} | {row.operator} | {row.count:g} | {row.ms:.3f} | {row.ms / total:.0%} |"
            for row in (*report.operators[:TOP], left)
        ]
    machines = dict.fromkeys(report.machine.cpu for report in found)
    lines += ["", f"One thread, medians, on {', '.join(machines)}."]
    return "\n".join(lines)


def main() -> None:
    path, *precisions = sys.argv[1:]
    bundle = Bundle(path)
    for engine in PROFILES:
        for precision in precisions or ["fp32"]:
            report = measure(bundle, engine, precision)
            RESULTS.mkdir(parents=True, exist_ok=True)
            target = RESULTS / f"{report.bundle}-{engine}-{precision}.json"
            write_text(target, report.model_dump_json(indent=1) + "\n")
            print(operators_table([report]))


if __name__ == "__main__":
    main()
