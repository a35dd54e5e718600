"""The README's table, figure and terminal capture, made again from committed records.

``python -m movinet_edge.benchmarks.figures`` draws the tables (between their marks in README.md)
and ``docs/figures/*.svg`` from ``benchmarks/results``. With ``--capture BUNDLE
VIDEO`` it also runs ``verify`` and ``run`` on them and records what the terminal shows.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from movinet_edge.benchmarks import localization_figures
from movinet_edge.benchmarks.arnet_figures import (
    FULL_SIZE_TITLES,
    arnet_table,
    bundle_table,
    draw_costs,
    saving_table,
)
from movinet_edge.benchmarks.arnet_figures import found as found_arnets
from movinet_edge.benchmarks.arnet_full_size import PREFIX
from movinet_edge.benchmarks.arnet_motion import CHOSEN
from movinet_edge.benchmarks.charts import chart
from movinet_edge.benchmarks.cuda_figures import cuda_reports, cuda_table
from movinet_edge.benchmarks.gtad_head import head_table
from movinet_edge.benchmarks.lofi_memory import draw_lofi_memory
from movinet_edge.benchmarks.lofi_memory import read as lofi_memory
from movinet_edge.benchmarks.matrix_figures import errors_table, matrices, support_table
from movinet_edge.benchmarks.native_cost import native_table
from movinet_edge.benchmarks.operators import operators_table
from movinet_edge.benchmarks.operators import reports as operator_reports
from movinet_edge.benchmarks.peer_figures import (
    AGAIN,
    APART,
    agreement,
    peer_reports,
    peers_table,
)
from movinet_edge.benchmarks.precision_figures import (
    draw_precisions,
    drift_table,
    precision_table,
)
from movinet_edge.benchmarks.record import Measurement, Report
from movinet_edge.benchmarks.slowfast import draw_streaming, streaming_table
from movinet_edge.benchmarks.slowfast_motion import motion_table as slowfast_table
from movinet_edge.benchmarks.training_figures import (
    draw_memory,
    draw_protocols,
    motion_records,
    motion_table,
)
from movinet_edge.benchmarks.training_memory import MemoryReport

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
FIGURES = ROOT / "docs" / "figures"
LATENCY = "<!-- results: begin -->", "<!-- results: end -->"
MOTION = "<!-- motion: begin -->", "<!-- motion: end -->"
PRECISIONS = "<!-- precisions: begin -->", "<!-- precisions: end -->"
SUPPORT = "<!-- support: begin -->", "<!-- support: end -->"
ERRORS = "<!-- errors: begin -->", "<!-- errors: end -->"
STREAMING = "<!-- streaming: begin -->", "<!-- streaming: end -->"
TWO_RATES = "<!-- slowfast-motion: begin -->", "<!-- slowfast-motion: end -->"
OPERATORS = "<!-- operators: begin -->", "<!-- operators: end -->"
PEERS = "<!-- peers: begin -->", "<!-- peers: end -->"
NATIVE = "<!-- native: begin -->", "<!-- native: end -->"
CUDA = "<!-- cuda: begin -->", "<!-- cuda: end -->"
ADAPTIVE = "<!-- adaptive: begin -->", "<!-- adaptive: end -->"
BRANCHES = "<!-- branches: begin -->", "<!-- branches: end -->"
SAVING = "<!-- saving: begin -->", "<!-- saving: end -->"
FULL_SIZE = "<!-- full size: begin -->", "<!-- full size: end -->"
FULL_BRANCHES = "<!-- full branches: begin -->", "<!-- full branches: end -->"
HEAD = "<!-- head: begin -->", "<!-- head: end -->"
ENCODERS = "<!-- encoders: begin -->", "<!-- encoders: end -->"
LOCALIZERS = "<!-- localizers: begin -->", "<!-- localizers: end -->"
DRIFT = "<!-- drift: begin -->", "<!-- drift: end -->"


def reports() -> dict[str, Report]:
    """The committed reports by file name, without the repository symlink's detour."""
    return {
        path.stem: Report.model_validate_json(path.read_text("utf-8"))
        for path in sorted(RESULTS.glob("*.json"))
    }


def label(measured: Measurement) -> str:
    """A contestant in a few words."""
    subject = measured.subject
    if subject.kind == "peer" and subject.bundle:
        return f"same weights, {subject.label}"
    who = "ours" if subject.kind == "bundle" else "official file"
    return f"{who}, {subject.label.partition('(')[2].rstrip(')') or subject.label}"


def table(found: dict[str, Report]) -> str:
    """Markdown rows: one per contestant of every report."""
    lines = [
        "| model | who, engine | form | step ms p50 | p90 | ratio (p10–p90) | parts | peak MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, report in found.items():
        ratios = {c.label: c for c in report.comparisons}
        for measured in report.measurements:
            compared = ratios.get(measured.subject.label)
            paired = compared.paired if compared else None
            ratio = "1.00" if compared is None else f"{compared.ratio_of_medians:.2f}"
            if paired is not None:
                ratio = f"{paired.p50:.2f} ({paired.p10:.2f}–{paired.p90:.2f})"
            files = measured.subject.files
            parts = {file.partitions for file in files} - {None}
            lines.append(
                f"| {name} | {label(measured)} | {files[0].form} | "
                f"{measured.step_ms.p50:.2f} | {measured.step_ms.p90:.2f} | {ratio} | "
                f"{', '.join(str(p) for p in sorted(parts, key=str)) or '–'} | "
                f"{measured.alone.peak_memory_mb or 0:.0f} |"
            )
    first = next(iter(found.values()))
    if any((r.machine.cpu, r.tools) != (first.machine.cpu, first.tools) for r in found.values()):
        raise ValueError("the reports come from different machines or versions; measure them again")
    machine = first.machine
    lines += [
        "",
        f"One thread, interleaved rounds, states included, on {machine.cpu} ({machine.os}), "
        f"{', '.join(f'{k} {v}' for k, v in first.tools.items())}, {first.date[:10]}. "
        "Ratio: median over rounds, to the first official row, or to our first row.",
    ]
    return "\n".join(lines)


def write_table(marks: tuple[str, str], text: str, page: str = "README.md") -> None:
    """Put `text` between two marks of a page."""
    readme = ROOT / page
    old, (begin, end) = readme.read_text("utf-8"), marks
    if begin not in old or end not in old:
        raise ValueError(f"{page} lacks the marks {begin} and {end}")
    before, _, rest = old.partition(begin)
    _, _, after = rest.partition(end)
    readme.write_text(f"{before}{begin}\n{text}\n{end}{after}", "utf-8")


def draw_latency(report: Report, path: Path) -> None:
    """Bars of the median step with p10 to p90 as whiskers."""
    rows = report.measurements[::-1]
    middle = [row.step_ms.p50 for row in rows]
    spread = (
        [row.step_ms.p50 - row.step_ms.p10 for row in rows],
        [row.step_ms.p90 - row.step_ms.p50 for row in rows],
    )
    colours = ["#2f6fde" if row.subject.kind == "bundle" else "#9aa3ad" for row in rows]
    with chart(path, (8, 0.55 * len(rows) + 1.3)) as axes:
        axes.barh([label(row) for row in rows], middle, xerr=spread, color=colours, capsize=3)
        for place, value in enumerate(middle):
            axes.text(0.03, place, f"{value:.2f} ms", va="center", color="white", weight="bold")
        axes.set_xlabel("ms per frame, one thread, states included (whiskers: p10 to p90)")
        axes.set_title("MoViNet-A0-Stream, one step, the same weights", loc="left")


def capture(bundle: str, video: str, path: Path) -> None:
    """Run ``verify`` and ``run`` as a user would and draw the terminal."""
    from rich.console import Console
    from rich.text import Text

    console = Console(record=True, width=96, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
    plain = os.environ | {"COLUMNS": "96"}
    colour = plain | {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
    # `run` redraws a live table; without a terminal it prints the last one only.
    for words, environment in ((["verify", bundle], colour), (["run", bundle, video], plain)):
        shown = " ".join(Path(w).name if os.path.exists(w) else w for w in words)
        console.print(f"[bold green]$[/] movinet-edge {shown}", highlight=False)
        done = subprocess.run(
            [sys.executable, "-m", "movinet_edge", *words],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        console.print(Text.from_ansi(done.stdout.replace(video, Path(video).name)))
    svg = console.export_svg(title="movinet-edge", unique_id="movinet-edge")
    path.write_text(svg, "utf-8")


def draw_training() -> None:
    """The figures of training and evaluation, from the records below `RESULTS`."""
    memory = MemoryReport.model_validate_json(
        (RESULTS / "training" / "memory.json").read_text("utf-8")
    )
    draw_memory(memory, FIGURES / "training_memory.svg")
    draw_lofi_memory(lofi_memory(), FIGURES / "lofi_memory.svg")
    records = motion_records()
    draw_protocols(records, FIGURES / "protocols.svg")
    write_table(MOTION, motion_table(records))


def main() -> None:
    FIGURES.mkdir(parents=True, exist_ok=True)
    found = reports()
    if found:
        write_table(LATENCY, table(found))
        draw_latency(next(iter(found.values())), FIGURES / "latency.svg")
    draw_training()
    draw_precisions(FIGURES / "precisions.svg")
    for page in ("README.md", "docs/quantization.md"):
        write_table(PRECISIONS, precision_table(), page)
    write_table(DRIFT, drift_table(), "docs/quantization.md")
    cells = matrices()
    write_table(SUPPORT, support_table(cells))
    write_table(ERRORS, errors_table(cells), "docs/quantization.md")
    write_table(STREAMING, streaming_table(), "docs/slowfast.md")
    write_table(TWO_RATES, slowfast_table(), "docs/slowfast.md")
    draw_streaming(FIGURES / "slowfast.svg")
    if found_arnets(CHOSEN):
        write_table(ADAPTIVE, arnet_table(), "docs/arnet.md")
        write_table(BRANCHES, bundle_table(), "docs/arnet.md")
        write_table(FULL_SIZE, arnet_table(FULL_SIZE_TITLES), "docs/arnet.md")
        write_table(FULL_BRANCHES, bundle_table(PREFIX), "docs/arnet.md")
        write_table(SAVING, saving_table(), "docs/arnet.md")
        draw_costs(FIGURES / "arnet.svg")
    write_table(HEAD, head_table(), "docs/localization.md")
    write_table(ENCODERS, localization_figures.motion_table(), "docs/localization.md")
    write_table(LOCALIZERS, localization_figures.bundle_table(), "docs/localization.md")
    if profiles := operator_reports():
        write_table(OPERATORS, operators_table(profiles), "docs/benchmarks.md")
    if compared := peer_reports():
        rows = peers_table(compared, peer_reports(APART))
        text = f"{rows}\n\n{agreement(compared, peer_reports(AGAIN))}".strip()
        write_table(PEERS, text, "docs/benchmarks.md")
    write_table(NATIVE, native_table(), "docs/benchmarks.md")
    if on_gpu := cuda_reports():
        write_table(CUDA, cuda_table(on_gpu), "docs/devices.md")
    if sys.argv[1:2] == ["--capture"]:
        capture(sys.argv[2], sys.argv[3], FIGURES / "terminal.svg")


if __name__ == "__main__":
    main()
