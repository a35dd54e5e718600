"""Tables of localization on motion videos, from ``benchmarks/results/localization``."""

from __future__ import annotations

from statistics import mean

from movinet_edge.benchmarks import localization_bundles as bundles
from movinet_edge.benchmarks import localization_motion as motion
from movinet_edge.benchmarks.slowfast import NAMES
from movinet_edge.train.localization_eval import LocalizationRecord

TITLES = {
    "icp": "ICP: single frames of other videos",
    "acp": "ACP: actions of other videos",
    "acp-plus": "ACP+: then these videos' own actions",
    **{f"lofi-{config}": f"LoFi {config}, from ACP" for config in motion.CONFIGS},
    motion.LONGER: "LoFi cycle-long, from ACP, as many epochs as ACP+",
}


def found(arm: str) -> list[LocalizationRecord]:
    """The records of one arm, a seed each."""
    paths = sorted(motion.RESULTS.glob(f"{arm}-[0-9].json"))
    return [LocalizationRecord.model_validate_json(path.read_text("utf-8")) for path in paths]


def at(record: LocalizationRecord, tiou: float) -> float:
    """mAP at one of ActivityNet's thresholds."""
    assert record.activitynet is not None
    thresholds = [round(value, 2) for value in record.activitynet.thresholds]
    return record.activitynet.map[thresholds.index(tiou)]


def motion_table() -> str:
    """Markdown: a row per way to train the encoder."""
    lines = [
        "| encoder | average mAP (seeds) | mAP at 0.5 | mAP at 0.75 | AUC of proposals |",
        "|---|---|---|---|---|",
    ]
    for arm in motion.ENCODERS:
        records = found(arm)
        if not records:
            continue
        each = " / ".join(f"{100 * record.score:.1f}" for record in records)
        measured = (
            mean(record.score for record in records),
            *(mean(at(record, tiou) for record in records) for tiou in (0.5, 0.75)),
            mean(record.area for record in records),
        )
        score, *others = (f"{100 * value:.1f}" for value in measured)
        lines.append(f"| {TITLES[arm]} | {score} ({each}) | {' | '.join(others)} |")
    return "\n".join(lines)


def bundle_table() -> str:
    """Markdown: a row per model, engine and precision."""
    lines = [
        "| model | engine, precision | clear segments | the same ones | average mAP | PyTorch's |",
        "|---|---|---|---|---|---|",
    ]
    for run in sorted(bundles.records(), key=lambda run: run.model):
        lines.append(
            f"| `{run.model}` | {NAMES[run.engine]}, {run.precision} | {run.clear} | "
            f"{run.alike / run.clear:.1%} | {100 * run.average_map:.2f} | "
            f"{100 * run.reference_map:.2f} |"
        )
    return "\n".join(lines)
