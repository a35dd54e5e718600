"""``verify`` of a localization bundle: its encoder, its head, and the segments that they find."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from movinet_edge.bundle import SCORES, Bundle, Threshold
from movinet_edge.errors import BadInput
from movinet_edge.export.facts import graph_facts
from movinet_edge.export.parity import Target, parity_check
from movinet_edge.export.properties import STEPS, check_encoder
from movinet_edge.export.reference import EXTRA
from movinet_edge.export.verify_record import (
    Check,
    StreamParity,
    VerifyRecord,
    concluded,
    first_bad_step,
    measure,
    shortcomings,
)
from movinet_edge.localization.reading import Found, HeadAnswer, read_segments
from movinet_edge.localization.segments import overlap
from movinet_edge.pattern import moving_pattern
from movinet_edge.runtime.segments import Segment, SegmentStream

if TYPE_CHECKING:
    from movinet_edge.models.localizer import Localizer

TOLD = 0.1  # of scores; of a head whose scores are all lower, this part of the highest
ALIKE = 0.99  # tIoU of a segment with that of the reference
SHARE = {"fp32": 0.99, "fp16": 0.99}  # of segments that are alike; other precisions are told only
RESOLUTION = 1e-6  # of scores, which are in 0..1 and computed with some hundred roundings
Golden = dict[str, np.ndarray]


def verify_localizer(
    bundle: Bundle,
    targets: Sequence[Target],
    videos: Sequence[str | Path],
    properties: bool,
    progress: Callable[[str], None],
) -> VerifyRecord:
    """Golden snippets and a golden window through every artefact; arguments as `verify_bundle`."""
    manifest = bundle.manifest
    facts, graph_checks, notes = graph_facts(bundle)
    with np.load(bundle.file(manifest.golden)) as stored:
        golden = {name: stored[name] for name in stored.files}
    model = _reference(bundle, notes)
    checks: list[Check] = []
    if model is not None:
        progress("reference")
        checks += _stored_checks(bundle, model, golden)
    elif videos:
        raise BadInput(f"--video needs PyTorch and the bundle's checkpoint; {EXTRA}")
    expected = {Path(video): _found(bundle, "torch", "fp32", Path(video)) for video in videos}
    parities: list[StreamParity] = []
    engines: dict[str, str] = {}
    for target in targets:
        name = target.backend.name
        progress(f"{name} {target.precision}, golden")
        found, more = _compare(bundle, target, golden)
        parities += found
        engines[name] = found[0].engine
        checks += [*map(parity_check, found), *more]
        for video, reference in expected.items():
            progress(f"{name} {target.precision}, {video.name}")
            got = _found(bundle, name, target.precision, video)
            checks.append(_segments_check(target, video.name, reference, got))
        # PyTorch is the reference; its states are bound by the model itself.
        if properties and target.backend.format != "torch":
            progress(f"{name} {target.precision}, properties")
            checks += _properties(bundle, target)
    checks += graph_checks
    frames = max(graph.frames for graph in manifest.graphs)
    return concluded(manifest, frames, checks, parities, facts, notes, engines)


def _reference(bundle: Bundle, notes: list[str]) -> Localizer | None:
    files = [f for graph in bundle.manifest.graphs for f in graph.files if f.format == "torch"]
    if not files:
        notes.append("the bundle holds no checkpoint: compared with its stored answers only")
        return None
    if importlib.util.find_spec("torch") is None:
        notes.append(f"PyTorch is not installed ({EXTRA}): compared with the stored answers only")
        return None
    from movinet_edge.checkpoints.native import load_checkpoint
    from movinet_edge.models.localizer import Localizer

    model = load_checkpoint(bundle.file(files[0])).model
    assert isinstance(model, Localizer)
    return model


def _stored_checks(bundle: Bundle, model: Localizer, golden: Golden) -> list[Check]:
    """Whether what is stored is what the checkpoint gives, and the checkpoint that of the tale."""
    from movinet_edge.export.localizer import golden_answers
    from movinet_edge.models.registry import weights_sha256

    manifest = bundle.manifest
    limit = min(threshold.max_error for threshold in manifest.thresholds.values())
    fresh = golden_answers(model, golden["frames"])
    errors = [
        float(np.abs(golden[name] - value).max() / (value.std() or 1.0))
        for name, value in fresh.items()
    ]
    found, wanted = weights_sha256(model), manifest.provenance.checkpoint_sha256
    return [
        Check(
            kind="reference",
            subject="golden",
            name="stored answers are the checkpoint's",
            holds=max(errors) <= limit,
            detail=f"error {max(errors):.2e}, limit {limit:g}",
        ),
        Check(
            kind="reference",
            subject="checkpoint",
            name="weights are those of the provenance",
            holds=found == wanted,
            detail=f"{found[:16]}" + ("" if found == wanted else f" instead of {wanted[:16]}"),
        ),
    ]


def _compare(
    bundle: Bundle, target: Target, golden: Golden
) -> tuple[list[StreamParity], list[Check]]:
    """Features of the golden snippets, scores of the golden window, and its segments."""
    manifest, answer = bundle.manifest, bundle.manifest.plan.answer
    rows = {"features": golden["features"]}
    rows |= {name: golden[name][None] for name in SCORES} | {answer: golden[answer]}
    try:
        with _open(bundle, target) as stream:
            snippets = golden["frames"].reshape(
                -1, stream.clock.frames, *golden["frames"].shape[1:]
            )
            got = {"features": np.stack([stream.encoder.encode(images) for images in snippets])}
            scores, logits = stream.head.score(golden["window"])
            got |= {name: part[None] for name, part in zip(SCORES, scores, strict=True)}
            got[answer], engine = logits, stream.version
            anchors, convention = stream.head.anchors, stream.head.convention
    except Exception as error:  # engines share no exception; whatever it is, it does not run
        reason = str(error).strip().splitlines() or [type(error).__name__]
        return [_failed(target, f"does not run: {reason[0]}")], []
    parities = []
    for name, wanted in rows.items():
        limit = target.threshold
        if name != "features" and target.precision != "fp16":
            limit = manifest.thresholds["fp32"]  # a head of floats is judged as such
        if name in SCORES:
            least = RESOLUTION / (float(wanted.std()) or 1.0)
            limit = limit.model_copy(update={"max_error": max(limit.max_error, least)})
        parities.append(_parity(target, f"golden {name}", engine, limit, wanted, got[name]))

    def found(values: Golden) -> list[Segment]:
        answered = HeadAnswer(*(values[name].reshape(-1) for name in SCORES))
        cells = manifest.localization.snippets if manifest.localization else 0
        return _as_segments(
            read_segments([(0, answered)], anchors, 1.0, cells, convention, values[answer])
        )

    check = _segments_check(target, "golden window", found(golden), found(got))
    return parities, [check]


def _failed(target: Target, reason: str) -> StreamParity:
    """Of a file that does not run."""
    return _record(target, "golden", "?", target.threshold, steps=0, figures=None, failure=reason)


def _parity(
    target: Target,
    stream: str,
    engine: str,
    limit: Threshold,
    wanted: np.ndarray,
    got: np.ndarray,
) -> StreamParity:
    figures = measure(wanted, got, limit)
    wrong, found = shortcomings(figures, limit), {"steps": len(wanted), "figures": figures}
    if not wrong:
        return _record(target, stream, engine, limit, **found)
    bad = first_bad_step(figures, limit)
    failure = f"{'; '.join(wrong)}; first at step {bad}"
    return _record(target, stream, engine, limit, **found, bad_step=bad, failure=failure)


def _record(
    target: Target, stream: str, engine: str, limit: Threshold, **found: object
) -> StreamParity:
    return StreamParity.model_validate(
        {
            "backend": target.backend.name,
            "format": target.backend.format,
            "precision": target.precision,
            "engine": engine,
            "stream": stream,
            "reference": "stored answers",
            "threshold": limit,
            **found,
        }
    )


def _open(bundle: Bundle, target: Target) -> SegmentStream:
    return SegmentStream(bundle, target.backend.name, target.precision)


def _found(bundle: Bundle, backend: str, precision: str, video: Path) -> list[Segment]:
    with SegmentStream(bundle, backend, precision, threshold=0.0) as stream:
        return stream.find(video)


def _as_segments(found: Found) -> list[Segment]:
    segments = found.segments
    assert segments is not None
    rows = zip(segments.times.tolist(), segments.labels.tolist(), segments.scores, strict=True)
    return [
        Segment(number, start, end, str(label), label, float(score), "final")
        for number, ((start, end), label, score) in enumerate(rows)
    ]


def alike(reference: Sequence[Segment], found: Sequence[Segment]) -> tuple[int, int]:
    """How many of the reference's clear segments are found, and how many there are.

    Clear ones have a score of `TOLD` and more. Found: one of the same label, tIoU >= `ALIKE`.
    """
    best = max((segment.score for segment in reference), default=0.0)
    limit = min(TOLD, TOLD * best) if best < TOLD else TOLD
    clear = [segment for segment in reference if segment.score >= limit]
    hits = 0
    for segment in clear:
        times = np.array([(o.start, o.end) for o in found if o.index == segment.index])
        if len(times):
            shared = overlap(np.array([(segment.start, segment.end)]), times)
            hits += bool(shared.max() >= ALIKE)
    return hits, len(clear)


def _segments_check(
    target: Target, name: str, reference: Sequence[Segment], found: Sequence[Segment]
) -> Check:
    hits, count = alike(reference, found)
    share = hits / count if count else 1.0
    return Check(
        kind="parity",
        subject=f"{target.backend.name} {target.precision}",
        name=f"segments of {name}",
        holds=share >= SHARE.get(target.precision, 0.0),
        detail=f"{hits} of {count} with tIoU {ALIKE:g} and the same label",
    )


def _properties(bundle: Bundle, target: Target) -> list[Check]:
    contract, encoder = bundle.manifest.preprocessing, bundle.manifest.graphs[0]
    count = max(2 * STEPS, encoder.frames)
    frames = moving_pattern(count, contract.height, contract.width)
    try:
        return check_encoder(lambda changed: _open(changed, target), bundle, frames)
    except Exception as error:  # as in _compare
        subject = f"{target.backend.name} {target.precision}"
        detail = f"does not run: {str(error).splitlines()[0] if str(error) else type(error)}"
        return [Check(kind="property", subject=subject, name="runs", holds=False, detail=detail)]
