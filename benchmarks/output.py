"""A report on the console and in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from movinet_edge.benchmarks.record import Comparison, Machine, Measurement, Report
from movinet_edge.benchmarks.roofline import Roofline, roofline
from movinet_edge.files import text_file

if TYPE_CHECKING:
    from rich.table import Table

NUMBERS = (
    *("thr", "p50", "p90", "p99", "cpu", "over", "ratio"),
    *("peak", "arith", "bytes", "parts", "MB"),
)
DASH = "-"


def table(report: Report) -> Table:
    """One row per contestant; times in ms, memory in 10^6 bytes."""
    from rich import box
    from rich.table import Table

    # Where contestants took turns the pairs say more: other load hits both of a pair alike.
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
    for title in NUMBERS:
        made.add_column(title, justify="right", no_wrap=True)
    for measured in report.measurements:
        limits = roofline(measured, report.machine)
        made.add_row(*_row(measured, ratios.get(measured.subject.label), limits))
    return made


def caption(report: Report) -> str:
    """What the columns mean, and against whom."""
    text = (
        f"{how(report)}; over: what is added to the engine's call; peak: of the matrix peak; "
        "arith, bytes: times the least that MACs and bytes take; parts: delegate partitions, * all "
        "accelerated; MB: peak memory"
    )
    if report.comparisons:
        kind = "median ratio" if report.comparisons[0].paired is not None else "ratio of medians"
        text += f"; {kind} per frame to {baseline_name(report)}"
    forms = {m.subject.name: forms_of(m) for m in report.measurements}
    same = set(forms.values())
    text += f"; form {same.pop()}" if len(same) == 1 else ""
    text += "".join(f"; {name}: form {form}" for name, form in forms.items() if same)
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


def how(report: Report) -> str:
    """What the times are of, in one line."""
    first, cold = report.measurements[0].method, report.measurements[0].cold
    if cold is not None:
        return f"ms from the model's path to its first answer, in {cold.processes} processes each"
    mode = f"paced at {first.frame_rate:g}/s" if first.frame_rate else "back to back"
    turns = f" in {first.rounds} rounds" if first.rounds else ""
    return f"ms per step, {first.steps} steps {mode}" + (
        f", interleaved{turns}" if first.interleaved else ""
    )


def forms_of(measured: Measurement) -> str:
    """The forms of its graphs."""
    return "+".join(dict.fromkeys(file.form for file in measured.subject.files))


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
    peaks = (
        ("float", machine.sgemm_gmacs, "GMAC/s"),
        ("int8", machine.int8_gmacs, "GMAC/s"),
        ("copy", machine.copy_gb_s, "GB/s"),
        ("in cache", machine.cache_copy_gb_s, "GB/s"),
    )
    told = [f"{name} {value:.1f} {unit}" for name, value, unit in peaks if value is not None]
    if told:
        parts.append(f"per thread {', '.join(told)}")
    if machine.governor is not None:
        parts.append(f"governor {machine.governor}")
    if machine.temperature_c is not None:
        parts.append(f"{machine.temperature_c:.0f} °C")
    return ", ".join(parts)


def _row(measured: Measurement, ratio: float | None, limits: Roofline) -> list[str]:
    shown = measured.latency_ms
    return [
        measured.subject.name,
        str(measured.method.threads),
        *(f"{value:.2f}" for value in (shown.p50, shown.p90, shown.p99, measured.cpu_ms)),
        f"{measured.overhead_ms:.2f}",
        cell(ratio, "{:.2f}"),
        cell(limits.peak_percent, "{:.0f}%"),
        cell(limits.over_arithmetic, "{:.1f}"),
        cell(limits.over_bytes, "{:.1f}"),
        partitions(measured),
        cell(measured.alone.peak_memory_mb, "{:.0f}"),
    ]


def cell(value: float | None, form: str, dash: str = DASH) -> str:
    """A number, or a dash where there is none."""
    return dash if value is None else form.format(value)


def baseline_name(report: Report) -> str:
    """What ratios are to: on as many threads, where there are several counts."""
    label = report.comparisons[0].baseline
    return next(m.subject.name for m in report.measurements if m.subject.label == label)


def ratio_text(compared: Comparison | None) -> str:
    """A ratio with its spread, if it has one."""
    if compared is None:
        return "–"
    paired = compared.paired
    if paired is None:
        return f"{compared.ratio_of_medians:.2f}"
    return f"{paired.p50:.2f} ({paired.p10:.2f}–{paired.p90:.2f})"


def partitions(measured: Measurement) -> str:
    """How many parts of its graphs a delegate took; a star where that is everything."""
    files = measured.subject.files
    if any(file.partitions is None for file in files):
        return DASH
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
