"""One stream through one artefact, compared step by step with what the PyTorch model answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from movinet_edge.bundle import Bundle, Precision, Threshold
from movinet_edge.export.decisions import Taken, follow, judged, run_and_note
from movinet_edge.export.diagnosis import first_layer
from movinet_edge.export.properties import centred
from movinet_edge.export.reference import Models
from movinet_edge.export.verify_record import (
    Check,
    Decisions,
    StreamParity,
    first_bad_step,
    measure,
    shortcomings,
)
from movinet_edge.runtime import Stream
from movinet_edge.runtime.engines import Backend, backend_named

Frames = Callable[[], Iterator[np.ndarray]]


@dataclass(frozen=True)
class Source:
    """A stream to verify: uint8 frames of the model's size, the answers to expect, their origin.

    `taken`: the decisions that belong to the answers, where they are stored.
    """

    name: str
    frames: Frames
    logits: np.ndarray
    reference: str
    taken: Taken | None = None


@dataclass(frozen=True)
class Target:
    """One precision of the bundle on one backend."""

    backend: Backend
    precision: Precision
    threshold: Threshold

    def open(self, bundle: Bundle) -> Stream:
        return Stream(bundle, self.backend.name, self.precision)


def compare(bundle: Bundle, target: Target, source: Source, models: Models | None) -> StreamParity:
    def record(**found: object) -> StreamParity:
        return StreamParity.model_validate(
            {
                "backend": target.backend.name,
                "format": target.backend.format,
                "precision": target.precision,
                "stream": source.name,
                "reference": source.reference,
                "threshold": target.threshold,
                **found,
            }
        )

    engine = "?"
    try:
        with target.open(bundle) as stream:
            engine = stream.version
            answers, taken = run_and_note(stream, source.frames())
    except Exception as error:  # engines share no exception; whatever it is, it does not run
        reason = str(error).strip().splitlines() or [type(error).__name__]
        failure = f"does not run: {reason[0]}"
        return record(engine=engine, steps=0, figures=None, failure=failure)
    steps, expected, decisions = len(answers), source.logits, None
    if steps != len(expected):
        failure = f"gives {steps} answers instead of {len(expected)}"
        return record(engine=engine, steps=steps, figures=None, failure=failure)
    if taken is not None:
        expected, decisions = _followed(bundle, target, source, models, taken)
        answers = answers[: len(expected)]
    found = {"engine": engine, "steps": steps, "decisions": decisions}
    if not len(expected):
        return record(**found, figures=None, failure="parts from the stored stream at once")
    figures = measure(expected, answers, target.threshold)
    wrong = shortcomings(figures, target.threshold)
    if not wrong:
        return record(**found, figures=figures)
    bad = first_bad_step(figures, target.threshold)
    layer = None
    # With integer activations every layer differs, and states have scales of their own; where
    # something is decided, the PyTorch model goes its own way.
    plain = target.backend.format != "torch" and target.precision != "int8" and taken is None
    if models is not None and plain:
        reference = replace(target, backend=backend_named("torch"), precision="fp32")
        with target.open(bundle) as stream, reference.open(bundle) as torch_stream:
            frames, limit = islice(source.frames(), bad + 1), target.threshold.max_error
            layer = first_layer(stream, torch_stream, frames, limit)
    failure = f"{'; '.join(wrong)}; first at step {bad}" + (f", in {layer}" if layer else "")
    return record(**found, figures=figures, bad_step=bad, first_layer=layer, failure=failure)


def _followed(
    bundle: Bundle, target: Target, source: Source, models: Models | None, taken: Taken
) -> tuple[np.ndarray, Decisions | None]:
    """The answers to expect of a stream that decided so, and its decisions judged.

    Without the PyTorch model, which follows, they are the stored ones up to where the two part.
    """
    choice = bundle.manifest.plan.choice
    assert choice is not None
    if models is not None:
        (model,) = models.values()
        logits, reference = follow(model, source.frames(), taken.numbers)
        judgement = judged(choice, reference.scores, taken, target.threshold)
        return comparable(bundle, logits), judgement
    if source.taken is None:
        return source.logits, None
    same = source.taken.numbers[: len(taken.numbers)] == taken.numbers
    alike = len(same) if same.all() else int(np.argmin(same))
    scores = source.taken.scores[: alike + 1]
    return source.logits[:alike], judged(choice, scores, taken, target.threshold)


def decisions_check(parity: StreamParity, decisions: Decisions) -> Check:
    wrong = shortcomings(decisions.figures, parity.threshold)
    far = [flip for flip in decisions.flips if not flip.is_close]
    detail = f"{decisions.equal:.2%} of {decisions.decided} equal"
    detail += f", scores within {decisions.figures.max_error:.2e}"
    for flip in (far or decisions.flips)[:1]:
        detail += (
            f"; at step {flip.step} {flip.taken} instead of {flip.best}, whose scores are "
            f"{flip.margin:.2e} apart ({flip.allowed:.2e} may be error)"
        )
    return Check(
        kind="parity",
        subject=parity.subject,
        name=f"decisions on {parity.stream}",
        holds=not wrong,
        detail="; ".join([*wrong, detail]),
    )


def parity_check(parity: StreamParity) -> Check:
    figures = parity.figures
    detail = parity.failure or ""
    if figures is not None and not detail:
        detail = f"error {figures.max_error:.2e}, cosine {figures.min_cosine:.7f}"
    return Check(
        kind="parity",
        subject=parity.subject,
        name=f"parity on {parity.stream}",
        holds=parity.failure is None,
        detail=detail,
    )


def comparable(bundle: Bundle, logits: np.ndarray) -> np.ndarray:
    """Logits as `Answers` gives them."""
    return centred(logits) if bundle.manifest.output == "probabilities" else logits
