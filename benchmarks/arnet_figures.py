"""Table and figure of AR-Net on the adaptive motion videos, from ``benchmarks/results/arnet``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import mean

from movinet_edge.benchmarks.arnet_bundles import BundleRuns, Saving
from movinet_edge.benchmarks.arnet_full_size import PREFIX, SMALL
from movinet_edge.benchmarks.arnet_motion import (
    BIASES,
    CHOSEN,
    DIALLED,
    PRECISIONS,
    RESULTS,
    TINY,
    UNITS,
    Study,
)
from movinet_edge.benchmarks.charts import chart
from movinet_edge.benchmarks.slowfast import ENGINES, NAMES
from movinet_edge.train.evaluate import EvalRecord


def scale_titles(study: Study, prefix: str = "") -> dict[str, str]:
    """By the records' names, which begin with `prefix`."""
    titles = {f"{prefix}{name}": f"{name.partition('-')[2]} pixels only" for name in study.scales}
    first = next(iter(titles))
    return titles | {first: f"UNIFORM ({titles[first]})"}


TITLES = {
    **scale_titles(TINY),
    "lite": "the policy's own answer only",
    "random": "RANDOM",
    "multi-scale": "Multi-Scale",
    CHOSEN: "AR-Net",
    **{name: f"AR-Net, its dial at {bias:g}" for name, bias in DIALLED.items()},
}
FULL_SIZE_TITLES = {**scale_titles(SMALL, PREFIX), f"{PREFIX}{CHOSEN}": "AR-Net"}


def found(name: str) -> list[EvalRecord]:
    """The records of one model, a seed each."""
    paths = sorted(RESULTS.glob(f"{name}-[0-9].json"))
    return [EvalRecord.model_validate_json(path.read_text("utf-8")) for path in paths]


def cost(records: Sequence[EvalRecord]) -> float:
    """GFLOPs per frame, as publications count them."""
    return mean(record.gflops_per_frame or 0.0 for record in records)


def top1(records: Sequence[EvalRecord]) -> float:
    return 100 * mean(record.top1 for record in records)


def entropy(usage: dict[str, float]) -> float:
    """Of the shares of actions, in bits."""
    return -sum(share * math.log2(share) for share in usage.values() if share > 0)


def arnet_table(titles: Mapping[str, str] = TITLES) -> str:
    """Markdown: a row per model; the first one is what costs are shares of."""
    base = cost(found(next(iter(titles))))
    lines = [
        "| model | test top-1 (seeds) | MFLOPs per frame | of UNIFORM | entropy of usage |",
        "|---|---|---|---|---|",
    ]
    for name, title in titles.items():
        records = found(name)
        if not records:
            continue
        each = " / ".join(f"{100 * record.top1:.1f}" for record in records)
        usage = [entropy(record.usage) for record in records if record.usage is not None]
        bits = f"{mean(usage):.2f} bits" if usage else "–"
        lines.append(
            f"| {title} | {top1(records):.1f} ({each}) | {1e3 * cost(records):.2f} | "
            f"{cost(records) / base:.0%} | {bits} |"
        )
    return "\n".join(lines)


def bundle_table(prefix: str = "") -> str:
    """Markdown: a row per engine and precision, AR-Net's bundle by that of the largest scale.

    Of the records whose names begin with `prefix`.
    """
    lines = [
        "| engine | precision | top-1 | decisions as PyTorch | answers | "
        "of UNIFORM: multiply-adds | engine's time | whole time | ms per video |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for engine, precision in product(ENGINES, PRECISIONS):
        paths = sorted(RESULTS.glob(f"{prefix}{engine}-{precision}-[0-9].json"))
        runs = [BundleRuns.model_validate_json(path.read_text("utf-8")) for path in paths]
        if runs:
            shares = (
                100 * mean(run.top1 for run in runs),
                mean(run.equal_decisions for run in runs),
                mean(run.equal_answers for run in runs),
            )
            row = "{:.1f} | {:.2%} | {:.2%}".format(*shares)
            lines.append(f"| {NAMES[engine]} | {precision} | {row} | {saved(runs)} |")
    return "\n".join(lines)


def saved(runs: Sequence[Saving]) -> str:
    """Cells: shares of what the largest scale takes, and the milliseconds of a video."""
    shares = (
        mean(run.ours.mmacs / run.alone.mmacs for run in runs),
        mean(run.ours.engine_ms / run.alone.engine_ms for run in runs),
        mean(run.ours.ms / run.alone.ms for run in runs),
        mean(run.ours.ms for run in runs),
    )
    return "{:.3f} | {:.3f} | {:.3f} | {:.1f}".format(*shares)


def saving_table() -> str:
    """Markdown: what untrained models of the published scales save, by the work they are left."""
    lines = [
        "| model | engine | of always 224: multiply-adds | engine's time | whole time "
        "| ms per video |",
        "|---|---|---|---|---|---|",
    ]
    paths = RESULTS.glob("saving-*.json")
    runs = [Saving.model_validate_json(path.read_text("utf-8")) for path in paths]
    for run in sorted(runs, key=lambda run: (run.model, run.engine, run.ours.mmacs)):
        lines.append(f"| `{run.model}` | {NAMES[run.engine]} | {saved([run])} |")
    return "\n".join(lines)


def draw_costs(path: Path) -> None:
    """Top-1 over the cost of a frame: baselines, and AR-Net at all settings of its dial."""
    with chart(path, (8, 4.2)) as axes:
        for name, title in TITLES.items():
            if not name.startswith(CHOSEN) and (records := found(name)):
                place = 1e3 * cost(records), top1(records)
                axes.scatter(*place, color="#9aa3ad")
                axes.annotate(title, place, (6, -12), textcoords="offset points", fontsize=8)
        for unit, colour in zip(UNITS, ("#2f6fde", "#d9822b"), strict=True):
            points = [found(f"dial-{unit}-{bias:g}") for bias in BIASES]
            places = [(1e3 * cost(records), top1(records)) for records in points if records]
            if places:
                label = f"AR-Net, one bundle, the dial in {unit}"
                axes.plot(*zip(*places, strict=True), "o-", color=colour, label=label)
        axes.set_xscale("log")
        axes.margins(0.15)
        axes.set_xlabel("million multiply-accumulates per frame")
        axes.set_ylabel("top-1 in percent")
        axes.set_title(f"{TINY.model} on the adaptive motion videos", loc="left")
        axes.legend(frameon=False)
