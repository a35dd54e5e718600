"""What ``verify`` found, as records, and the figures of one stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from movinet_edge import __version__
from movinet_edge.bundle import FormatName, Manifest, Precision, Provenance, Record, Threshold

# What an error that is not a number is recorded as: JSON knows neither NaN nor infinity.
NOT_FINITE = float(np.finfo(np.float32).max)
TOP = 5
NEARLY_ZERO = 0.25  # a step's logits, of the root mean square of all steps'


class Check(Record):
    """One thing that was checked of a `subject`; `detail` holds the figure or the reason."""

    kind: Literal["reference", "parity", "property", "graph"]
    subject: str
    name: str
    holds: bool
    detail: str


class Figures(Record):
    """How far the answers of one stream are from the reference.

    The tuples have one entry per step. `error` is the largest absolute error of the step's
    logits divided by `deviation`, the standard deviation of all reference logits of the stream;
    `max_abs` is the same error undivided. `cosine` is None where the reference's logits are nearly
    zero beside those of other steps (`NEARLY_ZERO`): they have no direction that errors within the
    limits could not turn. `top1` is None where the step is too close to call.
    `growth_slope` is the slope of a line through `error`, per step; `growth_ratio` the median
    error of the last quarter divided by that of the first (None: too short, or no error there).
    """

    deviation: float
    error: tuple[float, ...]
    max_abs: tuple[float, ...]
    cosine: tuple[float | None, ...]
    top1: tuple[bool | None, ...]
    top5: tuple[float, ...]
    max_error: float
    min_cosine: float
    top1_agreement: float
    top5_agreement: float
    growth_slope: float | None
    growth_ratio: float | None


class Flip(Record):
    """A decision that is not the reference's: the action `taken` instead of the `best`.

    The reference's scores of the two are `margin` apart; `allowed` is how far those of an artefact
    within the limits may change places.
    """

    step: int
    taken: str
    best: str
    margin: float
    allowed: float

    @property
    def is_close(self) -> bool:
        return self.margin <= self.allowed


class Decisions(Record):
    """The decisions of one stream, each on the same past as the reference's.

    `equal` is the share of `decided` ones that are the reference's; `figures` compare the scores.
    """

    decided: int
    equal: float
    flips: tuple[Flip, ...]
    figures: Figures


class StreamParity(Record):
    """One stream through one artefact on one backend.

    `figures` is None where the engine could not run the file. `bad_step` is the first step
    beyond the thresholds and `first_layer` the first layer that differs there. `decisions` are
    those of a model that makes some; the figures are then of a reference that follows them.
    """

    backend: str
    format: FormatName
    precision: Precision
    engine: str
    stream: str
    reference: str
    threshold: Threshold
    steps: int
    figures: Figures | None
    bad_step: int | None = None
    first_layer: str | None = None
    failure: str | None = None
    decisions: Decisions | None = None

    @property
    def subject(self) -> str:
        return f"{self.backend} {self.precision}"


class GraphFacts(Record):
    """What a model file consists of; None where the format has no such thing."""

    path: str
    format: FormatName
    precision: Precision
    sha256: str
    bytes: int
    operators: dict[str, int]
    max_rank: int
    transposes: int
    opset: int | None = None
    partitions: int | None = None
    fully_accelerated: bool | None = None
    embedded: tuple[str, ...] = ()


class VerifyRecord(Record):
    """Everything ``verify`` found; `holds` is whether every check does."""

    schema_version: Literal[1] = 1
    bundle: str
    form: str
    frames: int
    holds: bool
    checks: tuple[Check, ...]
    streams: tuple[StreamParity, ...]
    facts: tuple[GraphFacts, ...]
    notes: tuple[str, ...]
    thresholds: dict[str, Threshold]
    provenance: Provenance
    versions: dict[str, str]

    @property
    def failures(self) -> list[Check]:
        return [check for check in self.checks if not check.holds]

    def of_kind(self, kind: str) -> list[Check]:
        """The checks of one kind, in order."""
        return [check for check in self.checks if check.kind == kind]


def concluded(
    manifest: Manifest,
    frames: int,
    checks: Sequence[Check],
    streams: Sequence[StreamParity],
    facts: Sequence[GraphFacts],
    notes: Sequence[str],
    engines: Mapping[str, str],
) -> VerifyRecord:
    """What was found of a bundle, whatever it is for; `engines` are their versions."""
    return VerifyRecord(
        bundle=manifest.name,
        form="+".join(dict.fromkeys(graph.form for graph in manifest.graphs)),
        frames=frames,
        holds=all(check.holds for check in checks),
        checks=tuple(checks),
        streams=tuple(streams),
        facts=tuple(facts),
        notes=tuple(notes),
        thresholds=manifest.thresholds,
        provenance=manifest.provenance,
        versions={"movinet-edge": __version__, **engines},
    )


def measure(reference: np.ndarray, answers: np.ndarray, threshold: Threshold) -> Figures:
    """Compare logits [steps, classes] with the reference of the same shape."""
    reference, answers = reference.astype(np.float64), answers.astype(np.float64)
    deviation = float(reference.std()) or 1.0
    finite = np.isfinite(answers).all(1)
    answers = np.where(finite[:, None], answers, 0.0)
    absolute = np.where(finite, np.abs(answers - reference).max(1), NOT_FINITE)
    error = np.where(finite, absolute / deviation, NOT_FINITE)
    cosine = _cosine(reference, answers, finite)
    top1 = _top1(reference, answers, 2 * threshold.max_error * deviation)
    judged = [same for same in top1 if same is not None]
    top5 = _overlap(reference, answers, min(TOP, reference.shape[1]))
    slope, ratio = _growth(error)
    return Figures(
        deviation=deviation,
        error=tuple(error.tolist()),
        max_abs=tuple(absolute.tolist()),
        cosine=tuple(cosine),
        top1=tuple(top1),
        top5=tuple(top5),
        max_error=float(error.max()),
        min_cosine=min((c for c in cosine if c is not None), default=1.0),
        top1_agreement=sum(judged) / len(judged) if judged else 1.0,
        top5_agreement=sum(top5) / len(top5),
        growth_slope=slope,
        growth_ratio=ratio,
    )


def shortcomings(figures: Figures, threshold: Threshold) -> list[str]:
    """What exceeds the threshold, in words; empty where parity holds."""
    if figures.max_error == NOT_FINITE:
        return ["the answers hold NaN or infinity"]
    limits = (
        ("error", figures.max_error, "above", threshold.max_error),
        ("cosine", figures.min_cosine, "below", threshold.min_cosine),
        ("top-1 agreement", figures.top1_agreement, "below", threshold.min_top1_agreement),
    )
    return [
        f"{name} {value:.6g} {word} {limit:g}"
        for name, value, word, limit in limits
        if (value > limit if word == "above" else value < limit)
    ]


def first_bad_step(figures: Figures, threshold: Threshold) -> int:
    """The first step beyond a limit (the worst one where only the average is)."""
    for step, (error, cosine, same) in enumerate(
        zip(figures.error, figures.cosine, figures.top1, strict=True)
    ):
        turned = cosine is not None and cosine < threshold.min_cosine
        if error > threshold.max_error or turned or same is False:
            return step
    return int(np.argmax(figures.error))


def _cosine(reference: np.ndarray, answers: np.ndarray, finite: np.ndarray) -> list[float | None]:
    """The cosine of every step, -1 where an answer is not `finite`; None where it says nothing."""
    sizes = np.linalg.norm(reference, axis=1)
    norms = sizes * np.linalg.norm(answers, axis=1)
    cosine = (reference * answers).sum(1) / np.maximum(norms, np.finfo(np.float64).tiny)
    cosine = np.where(finite, cosine, -1.0)
    judged = (sizes > 0) & (sizes >= NEARLY_ZERO * np.sqrt((sizes**2).mean())) | ~finite
    return [float(c) if j else None for c, j in zip(cosine, judged, strict=True)]


def _top1(reference: np.ndarray, answers: np.ndarray, margin: float) -> list[bool | None]:
    """Whether the best classes agree, step by step; None where that is too close to call.

    Two classes nearer to each other than twice the allowed error may change places although
    either is within the limits: one answer falls by the error, the other rises by it. Such a
    step says nothing about the artefact and is not judged.
    """
    if reference.shape[1] < 2:
        return [None] * len(reference)
    best = np.sort(reference, axis=1)[:, -2:]
    clear = best[:, 1] - best[:, 0] > margin
    same = reference.argmax(1) == answers.argmax(1)
    return [bool(s) if c else None for s, c in zip(same, clear, strict=True)]


def _overlap(reference: np.ndarray, answers: np.ndarray, count: int) -> list[float]:
    """The part of the reference's `count` best classes that are among the answer's."""
    wanted, got = (np.argsort(-x, axis=1, kind="stable")[:, :count] for x in (reference, answers))
    return [
        len(set(a) & set(b)) / count for a, b in zip(wanted.tolist(), got.tolist(), strict=True)
    ]


def _growth(error: np.ndarray) -> tuple[float | None, float | None]:
    quarter = len(error) // 4
    if quarter == 0 or error.max() == NOT_FINITE:
        return None, None
    slope = float(np.polyfit(np.arange(len(error)), error, 1)[0])
    first, last = float(np.median(error[:quarter])), float(np.median(error[-quarter:]))
    return slope, (last / first if first > 0 else None)
