"""``verify``: proof on whole streams that every artefact computes what the PyTorch model does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, count, islice
from pathlib import Path

import numpy as np

from movinet_edge.bundle import Bundle
from movinet_edge.errors import BadInput
from movinet_edge.export.decisions import Taken
from movinet_edge.export.facts import graph_facts
from movinet_edge.export.parity import (
    Source,
    Target,
    comparable,
    compare,
    decisions_check,
    parity_check,
)
from movinet_edge.export.properties import check_properties
from movinet_edge.export.reference import (
    EXTRA,
    Models,
    clip_frames,
    completed_logits,
    reference_logits,
    reference_models,
)
from movinet_edge.export.verify_record import Check, StreamParity, VerifyRecord, concluded
from movinet_edge.pattern import moving_pattern
from movinet_edge.runtime.choice import decided
from movinet_edge.runtime.engines import backend_named, usable_backends
from movinet_edge.runtime.preprocess import fill

SCENE = 32  # frames of a generated scene
Progress = Callable[[str], None]


def verify_bundle(
    bundle: Bundle,
    backends: Sequence[str] | None = None,
    videos: Sequence[str | Path] = (),
    steps: int | None = None,
    properties: bool = True,
    progress: Progress = lambda _: None,
) -> VerifyRecord:
    """Stream the golden frames and `videos` through every artefact and compare every step.

    Args:
        backends: names; by default every installed one the bundle has files for.
        steps: frames per stream (default: the stored golden stream, whole videos). A clip form
            takes whole clips: the number is rounded up.
        properties: also check what must be true of any streaming artefact.
        progress: told in a few words what is being done.

    Raises:
        BadInput: a damaged bundle, an unknown or absent backend, an unreadable video, or a
            reference that needs PyTorch where there is none.
    """
    if steps is not None and steps < 1:
        raise BadInput(f"--steps {steps} is no stream; give 1 or more")
    bundle.check_all()
    manifest = bundle.manifest
    targets = _targets(bundle, backends)
    if manifest.localization is not None:
        from movinet_edge.export.localizer_verify import verify_localizer

        if steps is not None:
            raise BadInput("--steps is for bundles that classify; leave it out")
        return verify_localizer(bundle, targets, videos, properties, progress)
    facts, graph_checks, notes = graph_facts(bundle)
    models = reference_models(bundle, notes)
    progress("reference")
    sources, checks = _golden_source(bundle, models, steps)
    sources += [_video_source(bundle, models, Path(video), steps) for video in videos]
    parities: list[StreamParity] = []
    engines: dict[str, str] = {}
    for target in targets:
        for source in sources:
            progress(f"{target.backend.name} {target.precision}, {source.name}")
            parity = compare(bundle, target, source, models)
            parities.append(parity)
            engines[target.backend.name] = parity.engine
            checks.append(parity_check(parity))
            if parity.decisions is not None:
                checks.append(decisions_check(parity, parity.decisions))
        if models is not None and manifest.plan.delay:
            checks += _completed(bundle, target, models)
        # PyTorch is the reference; its states are bound by the model itself.
        if properties and target.backend.format != "torch":
            progress(f"{target.backend.name} {target.precision}, properties")
            checks += _properties(bundle, target)
    checks += graph_checks
    if manifest.plan.combine == "mean":
        turns = [f"{s.graph} (every {s.every} frames from {s.offset})" for s in manifest.plan.steps]
        notes.append(f"the answer is the mean of {' and '.join(turns)}")
    frames = clip_frames(manifest)
    return concluded(manifest, frames, checks, parities, facts, notes, engines)


def _targets(bundle: Bundle, names: Sequence[str] | None) -> list[Target]:
    manifest = bundle.manifest
    files = [file for graph in manifest.graphs for file in graph.files]
    if names:
        backends = list({b.name: b for b in map(backend_named, names)}.values())
    else:
        backends = usable_backends({file.format for file in files})
    targets = []
    for backend in backends:
        if not backend.installed:
            raise BadInput(
                f"backend {backend.name} is not installed; pip install "
                f"'movinet-edge[{backend.extra}]'"
            )
        held = {file.precision: file for file in files if file.format == backend.format}
        if not held:
            raise BadInput(
                f"the bundle has no {backend.format} file for backend {backend.name}; "
                f"export it with --format {backend.format}"
            )
        for precision in manifest.precisions(backend.format):
            if precision not in manifest.thresholds:
                raise BadInput(f"the manifest has no threshold for {precision}; export it again")
            targets.append(Target(backend, precision, manifest.thresholds[precision]))
    if not targets:
        raise BadInput("no engine for this bundle is installed; pip install 'movinet-edge[litert]'")
    return targets


def _golden_source(
    bundle: Bundle, models: Models | None, steps: int | None
) -> tuple[list[Source], list[Check]]:
    """The stored stream, longer where `steps` asks, and checks of what is stored."""
    with np.load(bundle.file(bundle.manifest.golden)) as golden:
        stored, logits = golden["frames"], golden["logits"]
    wanted = _whole_clips(bundle, steps or len(stored))
    if models is None:
        if wanted > len(stored):
            raise BadInput(f"--steps {steps} is more than the bundle stores and needs {EXTRA}")
        logits, taken = comparable(bundle, logits[:wanted]), _stored_decisions(bundle)
        frames = stored[:wanted]
        return [Source("golden", lambda: iter(frames), logits, "stored answers", taken)], []
    fresh = _reference(bundle, models, stored)
    stored_logits = comparable(bundle, logits)
    checks = [stored_check(bundle, stored_logits, fresh), *_hash_checks(bundle, models)]
    if wanted <= len(stored):
        logits, origin = stored_logits[:wanted], "stored answers"
    else:
        logits = _reference(bundle, models, _extended(stored, wanted))
        origin = "PyTorch clip"
    return [Source("golden", lambda: _extended(stored, wanted), logits, origin)], checks


def _extended(stored: np.ndarray, wanted: int) -> Iterator[np.ndarray]:
    """`wanted` frames: the stored ones, then generated scenes, made when they are reached."""

    def scenes() -> Iterator[np.ndarray]:
        _, height, width, _ = stored.shape
        for seed in count(1):
            yield moving_pattern(SCENE, height, width, seed)

    return islice(chain(stored, chain.from_iterable(scenes())), wanted)


def _video_source(bundle: Bundle, models: Models | None, path: Path, steps: int | None) -> Source:
    if models is None:
        raise BadInput(f"--video needs PyTorch and the bundle's checkpoint; {EXTRA}")
    contract = bundle.manifest.preprocessing

    def frames() -> Iterator[np.ndarray]:
        from movinet_edge.runtime.video import read_frames

        number = 0
        for frame in read_frames(path, contract.frame_rate):
            if steps is not None and number >= _whole_clips(bundle, steps):
                return
            # Rounded to bytes, so that graphs that take bytes and graphs that take floats see
            # the same numbers.
            image = np.empty((contract.height, contract.width, 3), np.uint8)
            fill(image, frame.image, contract)
            number += 1
            yield image
        if number == 0:
            raise BadInput(f"{path} has no frames")
        for _ in range(_whole_clips(bundle, number) - number):
            yield image

    logits = _reference(bundle, models, frames())
    return Source(path.name, frames, logits, "PyTorch clip")


def _reference(bundle: Bundle, models: Models, frames: Iterable[np.ndarray]) -> np.ndarray:
    """`reference_logits` of the bundle's plan, as `Answers` gives them."""
    manifest = bundle.manifest
    plan, clip = manifest.plan_for("torch"), clip_frames(manifest)
    return comparable(bundle, reference_logits(models, plan, clip, frames, manifest.renewal))


def stored_check(bundle: Bundle, stored: np.ndarray, fresh: np.ndarray) -> Check:
    threshold = min(bundle.manifest.thresholds.values(), key=lambda t: t.max_error)
    error = float("inf")
    if stored.shape == fresh.shape:
        error = float(np.abs(stored - fresh).max() / (fresh.std() or 1.0))
    return Check(
        kind="reference",
        subject="golden",
        name="stored answers are the checkpoint's",
        holds=error <= threshold.max_error,
        detail=f"error {error:.2e}, limit {threshold.max_error:g}",
    )


def _hash_checks(bundle: Bundle, models: Models) -> list[Check]:
    """Whether the weights of every graph are those that the manifest tells of."""
    from movinet_edge.models.registry import weights_sha256

    manifest, checks = bundle.manifest, []
    for graph in manifest.graphs:
        if graph.name not in models:
            continue
        found = weights_sha256(models[graph.name])
        wanted = graph.checkpoint_sha256 or manifest.provenance.checkpoint_sha256
        checks.append(
            Check(
                kind="reference",
                subject="checkpoint" if len(models) == 1 else graph.name,
                name="weights are those of the provenance",
                holds=found == wanted,
                detail=f"{found[:16]}" + ("" if found == wanted else f" instead of {wanted[:16]}"),
            )
        )
    return checks


def _stored_decisions(bundle: Bundle) -> Taken | None:
    choice = bundle.manifest.plan.choice
    with np.load(bundle.file(bundle.manifest.golden)) as golden:
        if choice is None or "actions" not in golden:
            return None
        skips = [action.skip for action in choice.actions]
        actions = golden["actions"]
        return Taken(actions, golden["scores"], np.array(decided(actions.tolist(), skips), bool))


def _completed(bundle: Bundle, target: Target, models: Models) -> list[Check]:
    """Whether a stream that looks ahead, completed, answers as one clip of all its frames does."""
    with np.load(bundle.file(bundle.manifest.golden)) as golden:
        frames, logits = golden["frames"], golden["logits"]
    expected = completed_logits(models, frames)
    if expected is None:
        return []
    with target.open(bundle) as stream:
        for frame in frames:
            stream.step(frame)
        answer = stream.finish()
    assert answer is not None
    got, wanted = (comparable(bundle, x[None]) for x in (answer.logits, expected))
    error = float(np.abs(got - wanted).max() / (logits.std() or 1.0))
    return [
        Check(
            kind="parity",
            subject=f"{target.backend.name} {target.precision}",
            name="the completed stream answers as the whole clip",
            holds=error <= target.threshold.max_error,
            detail=f"error {error:.2e} after {bundle.manifest.plan.delay} frames more",
        )
    ]


def _properties(bundle: Bundle, target: Target) -> list[Check]:
    contract = bundle.manifest.preprocessing
    # Drawn, for real ones may leave a state without effect: a saturated gate hides what it reads.
    count = max(SCENE, clip_frames(bundle.manifest)) + bundle.manifest.plan.delay
    frames = moving_pattern(count, contract.height, contract.width)
    try:
        return check_properties(target.open, bundle, frames)
    except Exception as error:  # as in _compare
        subject = f"{target.backend.name} {target.precision}"
        detail = f"does not run: {str(error).splitlines()[0] if str(error) else type(error)}"
        return [Check(kind="property", subject=subject, name="runs", holds=False, detail=detail)]


def _whole_clips(bundle: Bundle, frames: int) -> int:
    clip = clip_frames(bundle.manifest)
    return -(-frames // clip) * clip
