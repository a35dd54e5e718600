"""A checkpoint becomes the files of one graph, and the graph's record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from torch import Tensor

from movinet_edge import __version__
from movinet_edge.bundle import (
    Calibration,
    FormatName,
    Graph,
    ModelFile,
    Precision,
    ProfileName,
    StateRule,
    TensorSpec,
)
from movinet_edge.checkpoints.native import Checkpoint, write_checkpoint
from movinet_edge.export.calibration import Stream
from movinet_edge.export.equalising import equalised_scales
from movinet_edge.export.feeds import Feed
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
from movinet_edge.export.step_module import FRAME, LOGITS, StepConfig, StepModule
from movinet_edge.models.arch import ModelArch
from movinet_edge.models.arnet_cost import CostTable
from movinet_edge.models.backbone import spell_out
from movinet_edge.models.encoder_deploy import DeployEncoder
from movinet_edge.models.movinet import MoViNet
from movinet_edge.models.movinet_deploy import DeployClassifier, DeployMoViNet
from movinet_edge.models.registry import deploy_parts
from movinet_edge.streaming.deploy import VALID, FormName, Part, StateSpec
from movinet_edge.streaming.spec import describe
from movinet_edge.streaming.state import CLOCK


@dataclass(frozen=True)
class ExportOptions:
    """What to write; `clip_frames` is the length of the clip form (default: the published).

    `calibrate` and the three after it are for precisions whose activations are integers: videos (a
    folder or list), how many frames of them, patterns of module paths that stay in floats, and the
    scales of the hard-swishes to equalise by site (None: those that a simulation demands).
    `head_every`: the classifier is a graph of its own that runs at every so many frames. `costs`
    are of what a model decides between (default: multiply-adds). Of a localizer's stream, a snippet
    begins every `snippet_every` seconds (default: where the last one ends), and the head runs when
    `window_step` new ones are there, which divides its window (default: a quarter or less).
    """

    formats: tuple[FormatName, ...] = ("onnx", "tflite")
    precisions: tuple[Precision, ...] = ("fp32",)
    form: FormName = "fresh"
    in_graph_preprocess: bool = False
    softmax: bool = False
    clip_frames: int | None = None
    verify: bool = True
    calibrate: Path | None = None
    calibration_frames: int = 400
    keep_float: tuple[str, ...] = ()
    equalise: Mapping[str, Tensor] | None = None
    profile: ProfileName = "cpu"
    head_every: int = 1
    costs: CostTable | None = None
    snippet_every: float | None = None
    window_step: int | None = None

    def frames(self, arch: ModelArch) -> int:
        """How many frames enter each run of a graph."""
        return 1 if self.form != "clip" else self.clip_frames or arch.clip_frames


def write_graphs(
    name: str,
    checkpoint: Checkpoint,
    folder: Path,
    options: ExportOptions,
    streams: Sequence[Stream],
    progress: Progress,
) -> list[Graph]:
    """Write ``<name>.safetensors`` and a model file per graph, format and precision into `folder`.

    The checkpoint is the torch file of the graph, or where there are several of one more, `name`.
    `streams` are what integer activations are calibrated on.
    """
    arch, contract = checkpoint.arch, checkpoint.preprocessing
    frames, size = options.frames(arch), (contract.height, contract.width)
    parts = deploy_parts(checkpoint.model, size, frames, options.head_every)
    path = folder / f"{name}.{SUFFIX['torch']}"
    write_checkpoint(checkpoint, path)
    stream = checkpoint.model.as_stream() if frames == 1 else checkpoint.model
    states = describe(stream, size).states if frames == 1 else ()
    checkpoint_file = torch_file(
        path, states, frames, arch, size, flags=any(p.flags for p in parts)
    )
    scales = options.equalise or {}
    if streams and options.equalise is None and isinstance(checkpoint.model, MoViNet):
        scales = equalised_scales(checkpoint, streams, progress)
    floats = {fmt: Floats(options.keep_float) for fmt in options.formats}
    recipe = Recipe(
        streams, calibration_record(streams, options, scales) if streams else None, floats
    )
    graphs, single = [], is_whole(parts)
    for number, part in enumerate(parts):
        called = name if single else part.name
        steps = partial(steps_of, parts[: number + 1], checkpoint, options, scales)
        files = part_files(steps, called, checkpoint, folder, options, recipe, progress)
        own = [checkpoint_file] if single else []
        graphs.append(graph_record(called, options, frames, part.macs, part.states, [*own, *files]))
    for patterns in floats.values() if streams else ():
        patterns.check()
    if not single:
        whole = sum(part.macs for part in parts)
        # PyTorch's states go in and out whole, those of which others read the oldest value, too.
        carried = [replace(s, rule="shift") if s.rule == "delay" else s for s in states]
        graphs.append(graph_record(name, options, frames, whole, carried, [checkpoint_file]))
    return graphs


def is_whole(parts: Sequence[Part]) -> bool:
    """Whether there is one graph only and it is the model, with its states and its answer."""
    return len(parts) == 1 and parts[0].whole


def graph_record(
    name: str,
    options: ExportOptions,
    frames: int,
    macs: int,
    states: Iterable[StateSpec],
    files: Iterable[ModelFile],
) -> Graph:
    return Graph(
        name=name,
        form=options.form,
        frames=frames,
        macs=macs,
        states=tuple(StateRule(name=s.name, rule=s.rule, past=s.past) for s in states),
        files=tuple(files),
    )


def part_files(
    steps: Callable[[FormatName, bool], list[StepModule]],
    name: str,
    checkpoint: Checkpoint,
    folder: Path,
    options: ExportOptions,
    recipe: Recipe,
    progress: Progress,
) -> list[ModelFile]:
    """The files of the last of `steps` in every format and precision."""
    files: list[ModelFile] = []
    for fmt in dict.fromkeys(options.formats):
        own = recipe
        before = steps(fmt, False)
        part = before[-1].part
        if len(before) > 1 or part.flags or part.side is not None:
            rescale = checkpoint.preprocessing.rescale
            fed = [Feed(before, stream, rescale) for stream in recipe.streams]
            own = replace(recipe, streams=fed)
        step = partial(_last, steps, fmt)
        writer = FormatFiles(name, fmt, step, folder, embedded(checkpoint), own, progress)
        made = writer.write(dict.fromkeys(options.precisions))
        files += [file.model_copy(update={"profile": options.profile}) for file in made]
    return files


def _last(
    steps: Callable[[FormatName, bool], list[StepModule]], fmt: FormatName, integers: bool
) -> StepModule:
    return steps(fmt, integers)[-1]


def steps_of(
    parts: Sequence[Part],
    checkpoint: Checkpoint,
    options: ExportOptions,
    scales: Mapping[str, Tensor],
    fmt: FormatName,
    integers: bool,
) -> list[StepModule]:
    """Modules to convert to a format, spelt for integers or not."""
    contract, profile = checkpoint.preprocessing, PROFILES[options.profile]
    size = contract.height, contract.width
    config = StepConfig(
        options.form,
        LAYOUTS[fmt],
        size,
        options.frames(checkpoint.arch),
        checkpoint.arch.causal,
        options.in_graph_preprocess,
        options.softmax,
        profile.separate,
    )
    modules = []
    for part in parts:
        body = part.body()
        respelt = body.body if isinstance(body, DeployEncoder) else body
        if (integers or profile.integers) and isinstance(respelt, DeployMoViNet | DeployClassifier):
            respelt.fold(scales if integers else {})
        elif profile.integers:
            spell_out(body)
        side = size if part.side is None else (part.side, part.side)
        modules.append(StepModule(body, part, replace(config, frame_size=side)).eval())
    return modules


def calibration_record(
    streams: Sequence[Stream], options: ExportOptions, equalised: Iterable[str]
) -> Calibration:
    return Calibration(
        videos=len(streams),
        frames=sum(map(len, streams)),
        equalised=tuple(equalised),
        keep_float=options.keep_float,
    )


def embedded(checkpoint: Checkpoint) -> dict[str, str]:
    """What is embedded in the model files themselves."""
    texts = {
        "movinet_edge": __version__,
        "architecture": checkpoint.arch.model_dump_json(),
        "preprocessing": checkpoint.preprocessing.model_dump_json(),
    }
    if checkpoint.labels is not None:
        texts["labels"] = "\n".join(checkpoint.labels)
    return texts


def torch_file(
    path: Path,
    states: Sequence[StateSpec],
    frames: int,
    arch: ModelArch,
    size: tuple[int, int],
    flags: bool,
) -> ModelFile:
    """The checkpoint as a file of the graph: the reference, whose states are carried whole."""

    def state(spec: StateSpec, **more: object) -> TensorSpec:
        shape = (1,) if spec.name == CLOCK else spec.shape
        if spec.rule != "replace":
            shape = (spec.past, *shape)
        return TensorSpec.model_validate(
            {"name": spec.carry_input, "role": "state", "shape": shape, "state": spec.name, **more}
        )

    answers = frames if arch.causal else 1
    valid = [TensorSpec(name=VALID, role="valid", shape=(1, 1))] if flags else []
    return file_record(
        path,
        "torch",
        "fp32",
        [
            TensorSpec(name=FRAME, role="frame", shape=(frames, *size, 3), layout="NHWC"),
            *valid,
            *(state(s, slot=0) for s in states),
        ],
        [
            TensorSpec(name=LOGITS, role="output", shape=(answers, arch.classes)),
            *(state(s) for s in states),
        ],
    )
