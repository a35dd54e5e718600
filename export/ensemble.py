"""``ensemble``: models of one architecture that take turns at the frames of one stream.

A temporal ensemble (MoViNets, arXiv 2103.11511, section 3.3) is two models, each trained at half
the frame rate, that run one frame apart; the mean of their logits is the answer. Each frame costs
what one model costs. More members take turns in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any

from movinet_edge.bundle import Plan, PlanStep
from movinet_edge.checkpoints.native import Checkpoint
from movinet_edge.errors import BadInput
from movinet_edge.export.exporter import Contents, check_options, write_bundle
from movinet_edge.export.graph_files import ExportOptions, Progress

if TYPE_CHECKING:
    from movinet_edge.export.verify_record import VerifyRecord

SHOWN = 3  # differences named in a message


@dataclass(frozen=True)
class Shared:
    """Something that all members must have in common, and what to do where they do not."""

    name: str
    read: Callable[[Checkpoint], Mapping[Any, object]]
    fix: str


SHARED = (
    Shared(
        "architecture",
        lambda c: c.arch.model_dump(exclude={"frames", "dropout", "drop_path"}),  # of training only
        "train them with one architecture",
    ),
    Shared(
        "preprocessing",
        lambda c: c.preprocessing.model_dump(),
        "train them on frames of one size and rate",
    ),
    Shared(
        "labels",
        lambda c: dict(enumerate(c.labels or ())),
        "give one label file for all with --labels",
    ),
)


def export_ensemble(
    checkpoints: Sequence[Checkpoint],
    out: Path,
    options: ExportOptions | None = None,
    progress: Progress = lambda _: None,
) -> VerifyRecord | None:
    """Write one bundle with a graph per checkpoint; see `write_bundle`.

    The first runs at frames 0, n, 2n, ... of a stream, the second at 1, n + 1, ..., and so on,
    for n members. A member's own frame rate is the rate at which it was trained; the stream's is
    n times that.

    Args:
        checkpoints: two or more stream models that differ only in their weights.

    Raises:
        BadInput: members that do not belong together, or as `write_bundle`.
    """
    options = options or ExportOptions()
    if options.form == "clip":
        raise BadInput("a temporal ensemble streams; write it in the form fresh or carry")
    _refuse_unlike(checkpoints)
    for checkpoint in checkpoints:
        check_options(checkpoint, options)
    first, count = checkpoints[0], len(checkpoints)
    graphs = [f"model_{letter}" for letter in ascii_lowercase[:count]]
    contract = first.preprocessing
    contents = Contents(
        f"{first.arch.name}-ensemble",
        dict(zip(graphs, checkpoints, strict=True)),
        contract.model_copy(update={"frame_rate": count * contract.frame_rate}),
        Plan(
            steps=tuple(
                PlanStep(graph=graph, every=count, offset=turn) for turn, graph in enumerate(graphs)
            ),
            combine="mean",
        ),
    )
    return write_bundle(contents, out, options, progress)


def _refuse_unlike(checkpoints: Sequence[Checkpoint]) -> None:
    if not 2 <= len(checkpoints) <= len(ascii_lowercase):
        raise BadInput(
            f"a temporal ensemble has 2 to {len(ascii_lowercase)} checkpoints, not "
            f"{len(checkpoints)}; a single one is for movinet-edge export"
        )
    for number, checkpoint in enumerate(checkpoints, 1):
        if not checkpoint.arch.causal:
            raise BadInput(
                f"checkpoint {number} is a {checkpoint.arch.name}, which sees whole clips; "
                "give stream models"
            )
        for shared in SHARED:
            found = _differences(shared.read(checkpoints[0]), shared.read(checkpoint))
            if found:
                raise BadInput(
                    f"checkpoint {number} differs from the first in its {shared.name} ({found}); "
                    f"{shared.fix}"
                )


def _differences(wanted: Mapping[Any, object], found: Mapping[Any, object]) -> str:
    """The entries that differ, in words; empty where none does."""
    rows = [
        f"{key}: {found.get(key)!r} instead of {wanted.get(key)!r}"
        for key in {**wanted, **found}
        if found.get(key) != wanted.get(key)
    ]
    more = len(rows) - SHOWN
    return ", ".join(rows[:SHOWN]) + (f" and {more} more" if more > 0 else "")
