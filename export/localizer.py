"""``export`` of a localizer: an encoder of snippets and a head on windows of their features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from movinet_edge.bundle import (
    SCORES,
    Arrivals,
    Attachment,
    FormatName,
    Graph,
    Localization,
    Manifest,
    ModelFile,
    Plan,
    PlanStep,
    Precision,
    Snippets,
    TensorSpec,
)
from movinet_edge.checkpoints.native import Checkpoint, write_checkpoint
from movinet_edge.errors import BadInput
from movinet_edge.export.calibration import Stream, calibration_streams
from movinet_edge.export.equalising import equalised_scales
from movinet_edge.export.exporter import (
    calibrates,
    check_options,
    prove,
    provenance,
    thresholds,
    write_labels,
    write_manifest,
)
from movinet_edge.export.golden import golden_frames
from movinet_edge.export.graph_files import (
    ExportOptions,
    calibration_record,
    embedded,
    graph_record,
    part_files,
    steps_of,
    torch_file,
)
from movinet_edge.export.load_check import check_loads
from movinet_edge.export.model_files import (
    LAYOUTS,
    SUFFIX,
    Floats,
    FormatFiles,
    Progress,
    Recipe,
    file_record,
)
from movinet_edge.export.profiles import PROFILES
from movinet_edge.export.step_module import LOGITS, StepConfig, StepModule
from movinet_edge.files import atomic_output, sha256_of, write_npz
from movinet_edge.localization.conventions import convention_of
from movinet_edge.models.encoder import Encoder
from movinet_edge.models.encoder_deploy import FEATURES
from movinet_edge.models.gtad_deploy import head_part
from movinet_edge.models.localizer import Localizer
from movinet_edge.models.movinet import MoViNet
from movinet_edge.models.registry import snippet_part
from movinet_edge.streaming.deploy import Part
from movinet_edge.streaming.spec import describe

if TYPE_CHECKING:
    from movinet_edge.export.verify_record import VerifyRecord

ENCODER, HEAD, WHOLE = "encoder", "head", "localizer"
GOLDEN_SNIPPETS = 4
NOISE = 0.3  # of features' deviation, in the golden window


def export_localizer(
    checkpoint: Checkpoint,
    out: Path,
    options: ExportOptions | None = None,
    progress: Progress = lambda _: None,
) -> VerifyRecord | None:
    """Write a bundle of a localizer to `out` (a directory, or a .zip); see `write_bundle`.

    Raises:
        BadInput: it lacks an encoder or classes, options that do not go with it, or an `out` that
            cannot be written.
    """
    from movinet_edge.bundle import Bundle

    model = _localizer(checkpoint)
    assert model.encoder is not None
    options = _fitting(model.encoder, options or ExportOptions())
    encoder = Checkpoint(model.encoder, checkpoint.preprocessing, None)
    check_options(encoder, options)
    plan = _plan(model, checkpoint, options)
    with atomic_output(out) as folder:
        _write(checkpoint, encoder, plan, folder, options, progress)
        progress("loading in a process apart")
        check_loads(Bundle(folder))
        return prove(folder, progress) if options.verify else None


def _localizer(checkpoint: Checkpoint) -> Localizer:
    model = checkpoint.model
    assert isinstance(model, Localizer)
    if model.encoder is None:
        raise BadInput(
            f"{model.arch.name} has no encoder, and a bundle sees frames; train one that has "
            "(movinet-edge train --task localization --stage head)"
        )
    if model.classify is None:
        raise BadInput(f"{model.arch.name} knows no classes; train it with segments' classes")
    if checkpoint.labels is not None and len(checkpoint.labels) != model.arch.classes:
        raise BadInput(
            f"{len(checkpoint.labels)} labels for {model.arch.classes} classes; "
            "give a label file with one line per class"
        )
    return model


def _fitting(encoder: Encoder, options: ExportOptions) -> ExportOptions:
    """The options in the form of the encoder: steps, or whole snippets."""
    if options.softmax or options.head_every > 1 or options.clip_frames is not None:
        raise BadInput(
            "--softmax, --head-every and --clip-frames are for classifiers; leave them out"
        )
    if options.profile != "cpu":
        raise BadInput("localizers are for CPUs so far; leave out --profile")
    if options.form == "carry":
        raise BadInput("the encoder of a localizer has the form fresh or clip; leave out --form")
    causal = encoder.arch.causal
    return replace(options, form="fresh" if causal else "clip")


def _plan(model: Localizer, checkpoint: Checkpoint, options: ExportOptions) -> Plan:
    assert model.encoder is not None
    frames, window = model.encoder.arch.clip_frames, model.arch.head.snippets
    rate = checkpoint.preprocessing.frame_rate
    hop = frames if options.snippet_every is None else round(options.snippet_every * rate)
    if hop < 1:
        raise BadInput(
            f"--snippet-every {options.snippet_every:g} is less than a frame; at {rate:g} frames "
            f"per second take {1 / rate:g} or more"
        )
    if model.encoder.arch.causal and hop < frames:
        raise BadInput(
            f"snippets of {model.encoder.arch.name} cannot overlap; take --snippet-every "
            f"{frames / rate:g} or more"
        )
    dividing = [n for n in range(1, window + 1) if window % n == 0]
    step = options.window_step or [n for n in dividing if n == 1 or 4 * n <= window][-1]
    if step not in dividing:
        raise BadInput(
            f"the window has {window} snippets, which --window-step {step} does not divide; take "
            f"one of {', '.join(map(str, dividing))}"
        )
    return Plan(
        steps=(
            PlanStep(graph=ENCODER, snippets=Snippets(frames=frames, hop=hop)),
            PlanStep(graph=HEAD, after=Arrivals(feature=FEATURES, count=step)),
        ),
        answer=LOGITS,
    )


def _write(
    checkpoint: Checkpoint,
    encoder: Checkpoint,
    plan: Plan,
    folder: Path,
    options: ExportOptions,
    progress: Progress,
) -> None:
    model, contract = checkpoint.model, checkpoint.preprocessing
    assert isinstance(model, Localizer)
    clock = plan.steps[0].snippets
    assert clock is not None
    streams: list[Stream] = []
    if options.calibrate is not None and calibrates(options):
        progress("reading calibration videos")
        videos = calibration_streams(options.calibrate, contract, options.calibration_frames)
        streams = in_snippets(videos, clock.frames)
    progress("golden stream")
    images = golden_frames(contract, GOLDEN_SNIPPETS * clock.frames, streams)
    write_npz(folder / "golden.npz", frames=images, **golden_answers(model, images))
    path = folder / f"{WHOLE}.{SUFFIX['torch']}"
    write_checkpoint(checkpoint, path)
    graphs = (
        _encoder_graph(encoder, path, folder, options, streams, progress),
        _head_graph(checkpoint, path, folder, options, progress),
    )
    head, convention = model.arch.head, convention_of(model.arch.head.label)
    write_manifest(
        folder,
        Manifest(
            schema_version=3,
            name=model.arch.name,
            task="localization",
            classes=model.arch.classes,
            labels=write_labels(folder, checkpoint.labels),
            golden=Attachment(path="golden.npz", sha256=sha256_of(folder / "golden.npz")),
            preprocessing=contract,
            graphs=graphs,
            plan=plan,
            localization=Localization(
                snippets=head.snippets,
                durations=head.durations,
                peaks=convention.peaks,
                theta=convention.theta,
                keep=convention.keep,
                longest=convention.longest,
                whole=not convention.windowed,
            ),
            thresholds=thresholds(options),
            provenance=provenance([model]),
        ),
    )


def in_snippets(videos: Sequence[Stream], frames: int) -> list[Stream]:
    """Videos cut into whole snippets, each a stream of its own."""
    return [
        Stream(video.images[first : first + frames])
        for video in videos
        for first in range(0, len(video) - frames + 1, frames)
    ]


def golden_answers(model: Localizer, images: np.ndarray) -> dict[str, np.ndarray]:
    """What PyTorch gives for the snippets in uint8 images [K * F, H, W, 3], and for a window.

    `features` [K, C]; a `window` [T, C] on a way past them, with noise, so that no two places are
    equally like a third; its `SCORES`, of anchors [N] and places [T]; `logits` [T, classes].
    """
    assert model.encoder is not None
    frames, places = model.encoder.arch.clip_frames, model.arch.head.snippets
    clips = torch.from_numpy(images).permute(0, 3, 1, 2).float() * (1 / 255)
    with torch.inference_mode():
        features = model.encoder.snippets(clips.unflatten(0, (-1, frames))).numpy()
    at = np.linspace(0, len(features) - 1, places)
    low = np.minimum(at.astype(np.int64), max(len(features) - 2, 0))
    high = np.minimum(low + 1, len(features) - 1)
    share = (at - low)[:, None]
    noise = np.random.default_rng(0).standard_normal((places, features.shape[1]))
    window = features[low] * (1 - share) + features[high] * share
    window = (window + NOISE * features.std() * noise).astype(np.float32)
    return {"features": features, "window": window, **head_answers(model, window)}


def head_answers(model: Localizer, window: np.ndarray) -> dict[str, np.ndarray]:
    """`SCORES` and logits that PyTorch gives for a window [T, C]."""
    x = torch.from_numpy(window.T.copy())[None]
    with torch.inference_mode():
        found, logits = model.find(x), model.place_logits(x)
    scores = (found.overlap, found.action, found.start, found.end)
    named = {name: score[0].numpy() for name, score in zip(SCORES, scores, strict=True)}
    return named | {LOGITS: logits[0].numpy()}


def _encoder_graph(
    checkpoint: Checkpoint,
    path: Path,
    folder: Path,
    options: ExportOptions,
    streams: Sequence[Stream],
    progress: Progress,
) -> Graph:
    model, contract = checkpoint.model, checkpoint.preprocessing
    size, frames = (contract.height, contract.width), options.frames(checkpoint.arch)
    part = snippet_part(model, size, frames)
    scales = options.equalise or {}
    if streams and options.equalise is None and isinstance(model, MoViNet):
        scales = equalised_scales(checkpoint, streams, progress)
    floats = {fmt: Floats(options.keep_float) for fmt in options.formats}
    calibration = calibration_record(streams, options, scales) if streams else None
    recipe = Recipe(streams, calibration, floats)
    steps = partial(steps_of, [part], checkpoint, options, scales)
    files = part_files(steps, ENCODER, checkpoint, folder, options, recipe, progress)
    for patterns in floats.values() if streams else ():
        patterns.check()
    states = describe(model, size).states if frames == 1 else ()
    whole = torch_file(path, states, frames, checkpoint.arch, size, flags=False)
    width = model.arch.features if isinstance(model, Encoder) else 0
    feature = TensorSpec(name=FEATURES, role="feature", shape=(1, width))
    kept = tuple(spec for spec in whole.outputs if spec.role == "state")
    reference = whole.model_copy(update={"outputs": (feature, *kept)})
    return graph_record(ENCODER, options, frames, part.macs, part.states, [reference, *files])


def head_precisions(precisions: Sequence[Precision]) -> list[Precision]:
    """What the head is written in: floats of 16 bits where that is asked for, else of 32."""
    return list(dict.fromkeys("fp16" if p == "fp16" else "fp32" for p in precisions))


def _head_graph(
    checkpoint: Checkpoint, path: Path, folder: Path, options: ExportOptions, progress: Progress
) -> Graph:
    model = checkpoint.model
    assert isinstance(model, Localizer)
    files: list[ModelFile] = []
    recipe = Recipe([], None, {})
    for fmt in dict.fromkeys(options.formats):
        step = partial(_head_spelt, head_step(model, fmt))
        writer = FormatFiles(HEAD, fmt, step, folder, embedded(checkpoint), recipe, progress)
        files += writer.write(head_precisions(options.precisions))
    head, classes = model.arch.head, model.arch.classes
    maps, curve = (1, head.durations, head.snippets), (1, head.snippets)
    shapes = dict(zip(SCORES, (maps, maps, curve, curve), strict=True))
    shapes[LOGITS] = (1, head.snippets, classes)
    shape = (1, head.snippets, head.features)
    window = TensorSpec(
        name=FEATURES,
        role="feature",
        shape=shape,
        feature=FEATURES,
        age=0,
        window=head.snippets,
    )
    outputs = [TensorSpec(name=name, role="output", shape=s) for name, s in shapes.items()]
    reference = file_record(path, "torch", "fp32", [window], outputs)
    fresh = replace(options, form="fresh")
    return graph_record(HEAD, fresh, 1, head_macs(model), (), [reference, *files])


def _head_spelt(step: StepModule, integers: bool) -> StepModule:
    """The head's one module: it is in floats always."""
    return step


def head_step(model: Localizer, fmt: FormatName) -> StepModule:
    """The head's module to convert to a format."""
    layout = LAYOUTS[fmt]
    part: Part = head_part(model.head, model.classify, layout)
    config = StepConfig("fresh", layout, (1, 1), separate=PROFILES["cpu"].separate)
    return StepModule(part.body(), part, config).eval()


def head_macs(model: Localizer) -> int:
    """Multiply-accumulates of a window, in the form that samples what it needs only."""
    step = head_step(model, "onnx")
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        step(**step.sample())
    return counter.get_total_flops() // 2
