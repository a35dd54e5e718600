"""A report on the console and in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from movinet_edge.benchmarks.record import Machine, Measurement, Report
from movinet_edge.files import text_file

if TYPE_CHECKING:
    from rich.table import Table

NUMBERS = ("thr", "p50", "p90", "p99", "cpu", "over", "ratio", "parts", "MB")


def table(report: Report) -> Table:
    """One row per contestant; times in ms, memory in 10^6 bytes."""
    from rich import box
    from rich.table import Table

    # Where steps were interleaved the pairs say more: other load hits both of a pair alike.
    ratios = {
        c.label: c.paired.p50 if c.paired is not None else c.ratio_of_medians
        for c in report.comparisons
    }
    made = Table(
        caption=caption(report),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    made.add_column("backend", overflow="fold")
    made.add_column("form", no_wrap=True)
    for title in NUMBERS:
        made.add_column(title, justify="right", no_wrap=True)
    for measured in report.measurements:
        made.add_row(*_row(measured, ratios.get(measured.subject.label)))
    return made


def caption(report: Report) -> str:
    """What the columns mean, and against whom."""
    first = report.measurements[0].method
    mode = f"paced at {first.frame_rate:g}/s" if first.frame_rate else "back to back"
    mode += ", interleaved" if first.interleaved else ""
    text = (
        f"ms per step, {first.steps} steps {mode}; over: what is added to the engine's call; "
        "parts: delegate partitions, * all accelerated; MB: peak memory"
    )
    if report.comparisons:
        kind = "median ratio" if report.comparisons[0].paired is not None else "ratio of medians"
        text += f"; {kind} per frame to {report.comparisons[0].baseline}"
    clips = {m.subject.name: m.subject.frames_per_step for m in report.measurements}
    text += "".join(f"; {name}: {n} frames a step" for name, n in clips.items() if n > 1)
    graphs = {m.subject.name: len(m.subject.files) for m in report.measurements}
    text += "".join(f"; {name}: {n} graphs in turn" for name, n in graphs.items() if n > 1)
    for m in report.measurements:
        if (long := m.sustained) is not None:
            text += (
                f"; {m.subject.name}: after {long.seconds:.0f} s {long.throttled:.2f} times as long"
            )
    late = sum(m.late_steps or 0 for m in report.measurements)
    return text + (f"; {late} steps took longer than their frames" if late else "")


def machine_line(machine: Machine) -> str:
    """The machine in one line."""
    parts = [
        machine.cpu,
        f"{machine.cores} cores",
        machine.os,
    ]
    if machine.device != "host":
        parts.insert(0, f"{machine.device} ({machine.model})" if machine.model else machine.device)
    if machine.python is not None:
        parts.append(f"Python {machine.python}")
    if machine.sgemm_gmacs is not None:
        parts.append(f"sgemm {machine.sgemm_gmacs:.1f} GMAC/s per thread")
    if machine.governor is not None:
        parts.append(f"governor {machine.governor}")
    if machine.temperature_c is not None:
        parts.append(f"{machine.temperature_c:.0f} °C")
    return ", ".join(parts)


def _row(measured: Measurement, ratio: float | None) -> list[str]:
    subject, step, peak = measured.subject, measured.step_ms, measured.alone.peak_memory_mb
    return [
        subject.name,
        "+".join(dict.fromkeys(file.form for file in subject.files)),
        str(measured.method.threads),
        *(f"{value:.2f}" for value in (step.p50, step.p90, step.p99, measured.cpu_ms)),
        f"{measured.overhead_ms:.2f}",
        "-" if ratio is None else f"{ratio:.2f}",
        partitions(measured),
        "-" if peak is None else f"{peak:.0f}",
    ]


def partitions(measured: Measurement) -> str:
    """How many parts of its graphs a delegate took; a star where that is everything."""
    files = measured.subject.files
    if any(file.partitions is None for file in files):
        return "-"
    whole = all(file.fully_accelerated for file in files)
    return str(sum(file.partitions or 0 for file in files)) + ("*" if whole else "")


@contextmanager
def report_file(target: Path) -> Iterator[Callable[[Report], None]]:
    """Yields what writes a report to `target`; opened first, for a benchmark takes minutes.

    `target` is replaced in one step, or stays as it was.

    Raises:
        BadInput: the place cannot be written.
    """
    with text_file(target) as write:
        yield lambda report: write(report.model_dump_json(indent=1) + "\n")
