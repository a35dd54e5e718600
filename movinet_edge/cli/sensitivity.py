"""``movinet-edge sensitivity``: where does static int8 lose, and what does curing it cost?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from movinet_edge.cli.options import CalibrationFrames

if TYPE_CHECKING:
    from rich.table import Table

    from movinet_edge.export.sensitivity import SensitivityReport

SHOWN = 12  # sites; --json has all
BLOCKS = (
    "dB of signal to noise of the logits. alone: only this part is int8; its output: of what it "
    "hands on then; all others: all but it is. KB, ms: what it costs to leave the part in floats."
)
UNEQUALISED = "unequalised: what is lost when all hard-swishes are equalised but its own."
SITES = (
    "median, largest: 99.9 % values of the channels before the hard-swish. alone: dB gained by "
    "equalising it alone; the rest: lost by equalising all but it. KB, ms: what equalising costs."
)


def sensitivity(
    source: Annotated[
        str,
        typer.Argument(
            metavar="CKPT",
            help="A checkpoint (any that import reads, or one that comes with the project).",
            show_default=False,
        ),
    ],
    calibrate: Annotated[
        Path,
        typer.Option(
            metavar="DIR|LIST", help="Videos to take the ranges from.", show_default=False
        ),
    ],
    calibration_frames: CalibrationFrames = 400,
    times: Annotated[
        bool,
        typer.Option(help="Also export and time, so that costs are given in ms of this machine."),
    ] = True,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write the whole report.", show_default=False),
    ] = None,
) -> None:
    """Simulate static int8 part by part: signal to noise, channel ranges, and what a cure costs."""
    from movinet_edge.cli.console import out, progress
    from movinet_edge.files import write_text

    with progress("sensitivity") as say:
        say("loading")
        from movinet_edge.checkpoints.importer import read_checkpoint
        from movinet_edge.export.calibration import calibration_streams
        from movinet_edge.export.equalising import TARGET_DB, some
        from movinet_edge.export.exporter import refuse_int8
        from movinet_edge.export.policy import choose
        from movinet_edge.export.sensitivity import Analysis

        checkpoint = read_checkpoint(Path(source))
        refuse_int8(checkpoint.arch)
        delay = checkpoint.model.delay
        streams = calibration_streams(
            calibrate, checkpoint.preprocessing, calibration_frames, delay
        )
        say("simulating int8")
        analysis = Analysis(checkpoint, some(streams), say)
        report = analysis.report()
        if times:
            from movinet_edge.benchmarks.int8_cost import int8_cost

            scales = analysis.scales(analysis.instrument.sites)
            cost = int8_cost(checkpoint, calibrate, scales, say)
            report = report.priced(cost.equalising_ms, cost.floating_ms)
        choice = choose(analysis, TARGET_DB)
    if json_file is not None:
        write_text(json_file, report.model_dump_json(indent=1) + "\n")
    console = out()
    for line in summary(checkpoint.arch.name, report):
        console.print(line, highlight=False, soft_wrap=True)
    tables = [(blocks_table(report), BLOCKS)]
    if report.sites:
        tables = [(tables[0][0], f"{BLOCKS} {UNEQUALISED}"), (sites_table(report), SITES)]
    for made, explanation in tables:
        console.print(made)
        console.print(explanation, highlight=False, soft_wrap=True)
    if times:
        equalised = f", all hard-swishes equalised {cost.equalising_ms:+.2f}"
        console.print(
            f"ms: shares, by multiplications, of what was measured on this machine (LiteRT, one "
            f"thread): int8 {cost.int8_ms:.2f}{equalised if report.sites else ''}, everything in "
            f"floats {cost.floating_ms:+.2f}",
            highlight=False,
            soft_wrap=True,
        )
    console.print(
        f"export --precision int8 would have {choice.policy} ({choice.quality.snr_db:.1f} dB; "
        f"{TARGET_DB:g} are enough); --target-drop goes by accuracy instead",
        highlight=False,
        soft_wrap=True,
    )


def summary(name: str, report: SensitivityReport) -> list[str]:
    """What was simulated, and how near it came."""
    rows = {"all int8": report.plain}
    if report.sites:
        rows["all hard-swishes equalised"] = report.equalised
    return [
        f"{name}, {report.frames} frames of {report.streams} videos",
        *(
            f"{what}: logits {quality.snr_db:.1f} dB above their error, same top answer in "
            f"{quality.agreement:.0%} of the frames"
            for what, quality in rows.items()
        ),
    ]


def blocks_table(report: SensitivityReport) -> Table:
    """A row per part of the model, in its order."""
    unequalised = ["unequalised"] if report.sites else []
    table = _table("part", "alone", "its output", "all others", *unequalised, "KB", "ms")
    for b in report.blocks:
        table.add_row(
            b.name,
            f"{b.alone_db:.1f}",
            "" if b.alone_output_db is None else f"{b.alone_output_db:.1f}",
            f"{b.others_db:.1f}",
            *(f"{-b.loss_db:+.1f}" for _ in unequalised),
            f"{b.cost_bytes / 1e3:.0f}",
            _ms(b.cost_ms),
        )
    return table


def sites_table(report: SensitivityReport) -> Table:
    """The worst hard-swishes, or those of the widest ranges where none was looked at."""
    worst = sorted(report.sites, key=lambda s: (-(s.loss_db or 0.0), -s.largest / max(s.median, 3)))
    table = _table("hard-swish", "channels", "median", "largest", "alone", "the rest", "KB", "ms")
    for s in worst[:SHOWN]:
        table.add_row(
            s.name,
            str(s.channels),
            f"{s.median:.1f}",
            f"{s.largest:.1f}",
            "" if s.gain_db is None else f"{s.gain_db:+.1f}",
            "" if s.loss_db is None else f"{-s.loss_db:+.1f}",
            f"{s.cost_bytes / 1e3:.1f}",
            _ms(s.cost_ms),
        )
    return table


def _ms(cost: float | None) -> str:
    return "" if cost is None else f"{cost:.3f}"


def _table(name: str, *columns: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(name, box=SIMPLE_HEAD, padding=0)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table
