"""The bundle: a directory (or .zip) with everything a host needs to run a streaming model.

``manifest.json`` (this schema) + model files + ``labels.txt`` + ``golden.npz`` (an input stream
with the expected outputs) + ``parity.json`` + ``report.html``. Hosts bind tensors by name only.
This module needs neither torch nor an engine.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from movinet_edge.errors import BadInput
from movinet_edge.files import MANIFEST, inside, sha256_of, unpack
from movinet_edge.localization_rule import SCORES, Localization, check_localization
from movinet_edge.plan import Action, Arrivals, Choice, Plan, PlanStep, Snippets
from movinet_edge.record import Record
from movinet_edge.tensors import Quantization, StateRule, TensorSpec

__all__ = [
    "SCORES",
    "Action",
    "Arrivals",
    "Choice",
    "Localization",
    "Plan",
    "PlanStep",
    "Quantization",
    "Record",
    "Snippets",
    "StateRule",
    "TensorSpec",
]

# 2 has choices (`Plan.choice`) and frames of several scales, 3 localization; what needs neither is
# written as 1.
SCHEMA_VERSION = 3
FormatName = Literal["onnx", "tflite", "torch"]
Precision = Literal["fp32", "fp16", "int8-weights", "dynamic", "int8"]
ProfileName = Literal["cpu", "nnapi", "gpu", "coreml"]
Rescale = Literal["nearest", "bilinear", "area"]
BundlePath = Annotated[str, AfterValidator(inside)]


class Calibration(Record):
    """What a file with integer activations was made with.

    `equalised` are the sites whose hard-swish has a scale per channel, `keep_float` the patterns
    of what was left in floats.
    """

    videos: int
    frames: int
    equalised: tuple[str, ...] = ()
    keep_float: tuple[str, ...] = ()


class ModelFile(Record):
    """One artefact of a graph. `runtime` is the lowest engine version it was run with.

    `profile` is the accelerator that its operators were chosen for.
    """

    path: BundlePath
    format: FormatName
    precision: Precision
    profile: ProfileName = "cpu"
    sha256: str
    bytes: int
    runtime: str
    calibration: Calibration | None = None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class Graph(Record):
    """One model of the bundle; `frames` frames enter each run (more than 1: a whole clip).

    `checkpoint_sha256` is of its weights, where the bundle has graphs of different ones.
    """

    name: str
    form: Literal["fresh", "carry", "clip"]
    frames: int = Field(1, ge=1)
    macs: int
    checkpoint_sha256: str | None = None
    states: tuple[StateRule, ...]
    files: tuple[ModelFile, ...]

    def state_bytes(self, file: ModelFile) -> int:
        """What a stream keeps of its states between two steps of a file."""
        # Of a delay only the oldest value enters.
        held = {state.name: state.past if state.rule == "delay" else 1 for state in self.states}
        states = (tensor for tensor in file.inputs if tensor.state is not None)
        return sum(tensor.nbytes * held[tensor.state or ""] for tensor in states)

    @model_validator(mode="after")
    def _states_are_bound(self) -> Self:
        known = {state.name for state in self.states}
        for file in self.files:
            for tensors in (file.inputs, file.outputs):
                if len({tensor.name for tensor in tensors}) < len(tensors):
                    raise ValueError(f"{file.path} names a tensor twice")
                for tensor in tensors:
                    if (tensor.state is not None) != (tensor.role == "state"):
                        raise ValueError(f"tensor {tensor.name!r} and its role do not agree")
                    if tensor.state is not None and tensor.state not in known:
                        raise ValueError(f"tensor {tensor.name!r} is of no state of the graph")
        return self


class Preprocessing(Record):
    """From a decoded frame to the model's input.

    Take RGB at `frame_rate` frames per second; `fit` ``crop``: the largest centred rectangle of
    the target's aspect ratio, times `crop_fraction`; ``stretch``: the whole frame. Resize
    bilinearly with half-pixel centres (`antialias`: the filter widens when shrinking; it may reach
    beyond the rectangle, as in Pillow's ``resize(box=...)``), scale bytes by 1/255 into [0, 1]. No
    mean or deviation is subtracted. A frame that has the target's size is taken as it is.

    Graphs whose frames are smaller get that frame made smaller once more, by the rule `rescale`:
    ``nearest`` (pixel floor(i * source / target)), ``bilinear`` (half-pixel centres, no antialias)
    or ``area`` (the mean of all pixels that are at least partly covered).
    """

    height: int = Field(ge=1)
    width: int = Field(ge=1)
    frame_rate: float = Field(gt=0)
    fit: Literal["crop", "stretch"] = "crop"
    crop_fraction: float = Field(1.0, gt=0, le=1)
    antialias: bool = True
    colour: Literal["RGB"] = "RGB"
    value_range: Literal["0..1"] = "0..1"
    rescale: Rescale | None = None


class Threshold(Record):
    """Parity limits of one precision, relative to the deviation of the reference logits."""

    max_error: float
    min_cosine: float
    min_top1_agreement: float


class Provenance(Record):
    """Where a bundle comes from: its model's architecture and weights, the tools that wrote it.

    `checkpoint_sha256` is of the weights; where graphs have different ones, of their hashes.
    """

    architecture: dict[str, Any]
    checkpoint_sha256: str
    tools: dict[str, str]


class Attachment(Record):
    """A file beside the models."""

    path: BundlePath
    sha256: str


class Manifest(Record):
    """Everything a host must know; ``manifest.json``.

    `reference` names the graph that is the whole model in PyTorch, where the plan has several.
    With the task ``localization`` the answer is what `localization` says.
    `scores` says how logits become probabilities: ``sigmoid`` where each class is there or not,
    whatever the others are.
    """

    schema_version: Literal[1, 2, 3] = 1
    name: str
    task: Literal["classification", "localization"] = "classification"
    classes: int
    labels: Attachment | None = None
    golden: Attachment
    preprocessing: Preprocessing
    output: Literal["logits", "probabilities"] = "logits"
    scores: Literal["softmax", "sigmoid"] = "softmax"
    graphs: tuple[Graph, ...]
    plan: Plan
    reference: str | None = None
    localization: Localization | None = None
    thresholds: dict[str, Threshold]
    provenance: Provenance

    @model_validator(mode="after")
    def _plan_gives_an_answer(self) -> Self:
        graphs = {graph.name: graph for graph in self.graphs}
        if len(graphs) < len(self.graphs):
            raise ValueError("two graphs have one name")
        answering = False
        for step in self.plan.steps:
            if step.graph not in graphs:
                raise ValueError(f"the plan names a graph {step.graph!r} that is not there")
            files = graphs[step.graph].files
            answering |= any(o.name == self.plan.answer for f in files for o in f.outputs)
        if not answering:
            raise ValueError(f"no graph of the plan has the answer {self.plan.answer!r}")
        return self

    @model_validator(mode="after")
    def _choice_is_made(self) -> Self:
        choice = self.plan.choice
        newer = choice is not None or self.plan.combine == "looks"
        if self.schema_version == 1 and (newer or self.preprocessing.rescale is not None):
            raise ValueError("a choice between scales needs schema version 2")
        if choice is None:
            return self
        graph = self.graph(choice.graph)
        for file in graph.files:
            shapes = [o.shape for o in file.outputs if o.name == choice.output]
            if shapes != [(1, len(choice.actions))]:
                raise ValueError(
                    f"{file.path} does not score {len(choice.actions)} actions in {choice.output!r}"
                )
        for name in choice.going_on:
            if name not in {state.name for state in graph.states}:
                raise ValueError(f"{choice.graph!r} has no state {name!r}")
        return self

    @model_validator(mode="after")
    def _window_is_filled(self) -> Self:
        check_localization(self)
        return self

    @model_validator(mode="after")
    def _hashes_agree(self) -> Self:
        if self.reference is not None and self.reference not in {g.name for g in self.graphs}:
            raise ValueError(f"the reference {self.reference!r} is not there")
        of_graphs = [g.checkpoint_sha256 for g in self.graphs if g.checkpoint_sha256 is not None]
        if of_graphs and combined_sha256(of_graphs) != self.provenance.checkpoint_sha256:
            raise ValueError("the hashes of the checkpoints do not agree")
        return self

    @model_validator(mode="after")
    def _frames_fit_the_contract(self) -> Self:
        contract = self.preprocessing
        for graph in self.graphs:
            shape = (graph.frames, contract.height, contract.width, 3)
            for file in graph.files:
                for tensor in file.inputs:
                    smaller = contract.rescale is not None and len(tensor.shape) == 4
                    fits = smaller and all(a <= b for a, b in zip(tensor.shape, shape, strict=True))
                    if tensor.role == "frame" and not (fits or tensor.shape == shape):
                        raise ValueError(f"{file.path} takes frames of {list(tensor.shape)}")
        return self

    def plan_for(self, fmt: FormatName) -> Plan:
        """The plan for files of a format: PyTorch may run all in one graph."""
        if self.reference is None or fmt != "torch":
            return self.plan
        return self.plan.whole(self.reference)

    @property
    def renewal(self) -> int:
        """Every how many frames the answer is new, where PyTorch's one graph has one for each."""
        if self.reference is None:
            return 1
        answer = self.plan.answer
        files = {step: self.graph(step.graph).files for step in self.plan.steps}
        return min(
            step.every
            for step, held in files.items()
            if any(output.name == answer for file in held for output in file.outputs)
        )

    def precisions(self, fmt: FormatName) -> list[Precision]:
        """Those that the plan can be run in with files of a format: those of its first graph.

        A graph that lacks one of them runs in floats.
        """
        first = self.graph(self.plan_for(fmt).steps[0].graph)
        return list(dict.fromkeys(f.precision for f in first.files if f.format == fmt))

    def graph(self, name: str) -> Graph:
        return next(g for g in self.graphs if g.name == name)


def combined_sha256(hashes: Sequence[str]) -> str:
    """One hash for the weights of several graphs, in their order; of a single one it is that."""
    if len(hashes) == 1:
        return hashes[0]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


class Bundle:
    """An opened bundle: its manifest and its files on disk, checked against their hashes.

    A zip is unpacked into a temporary directory that lives as long as this object.

    Raises:
        BadInput: not a bundle, damaged, made by a newer version, or unsafe.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._unpacked: tempfile.TemporaryDirectory[str] | None = None
        if not self.path.exists():
            raise BadInput(f"there is no bundle at {self.path}; write one with movinet-edge export")
        if self.path.is_file():
            self._unpacked = tempfile.TemporaryDirectory(prefix="movinet-edge-")
            self.root = Path(self._unpacked.name)
            unpack(self.path, self.root)
        else:
            self.root = self.path
        self.manifest = _read_manifest(self.path, self.root / MANIFEST)
        self._checked: set[str] = set()
        self.labels = self._read_labels()

    def file(self, entry: ModelFile | Attachment) -> Path:
        """The path of a file named by the manifest, after its hash was checked once."""
        path = self.root / entry.path
        if not path.is_file():
            raise BadInput(f"{self.path} lacks {entry.path}; export the bundle again")
        if self.root.resolve() not in path.resolve().parents:
            raise BadInput(f"{entry.path} in {self.path} leads out of it; copy the file there")
        if entry.path not in self._checked:
            if sha256_of(path) != entry.sha256:
                raise BadInput(
                    f"{entry.path} in {self.path} was changed or damaged (its hash differs from "
                    "the manifest's); export or copy the bundle again"
                )
            self._checked.add(entry.path)
        return path

    def check_all(self) -> None:
        """Check every file of the bundle against its hash."""
        for graph in self.manifest.graphs:
            for file in graph.files:
                self.file(file)
        self.file(self.manifest.golden)

    def _read_labels(self) -> list[str]:
        manifest = self.manifest
        if manifest.labels is None:
            return [f"class {i}" for i in range(manifest.classes)]
        try:
            labels = self.file(manifest.labels).read_text("utf-8").splitlines()
        except UnicodeDecodeError:
            raise BadInput(
                f"{manifest.labels.path} in {self.path} is not UTF-8 text; export it again"
            ) from None
        if len(labels) != manifest.classes:
            raise BadInput(
                f"{self.path} has {len(labels)} labels for {manifest.classes} classes; "
                "export it again with a label file of the right length"
            )
        return labels


def _read_manifest(bundle: Path, path: Path) -> Manifest:
    if not path.is_file():
        raise BadInput(
            f"{bundle} is not a bundle: it has no {MANIFEST}; make one with movinet-edge export"
        )
    text = path.read_bytes()
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        if place == "schema_version":
            raise BadInput(
                f"{bundle} was written for schema version {first['input']}, this version reads "
                f"up to {SCHEMA_VERSION}; update movinet-edge"
            ) from None
        raise BadInput(
            f"{bundle} has a damaged manifest ({place or 'json'}: {first['msg']}); export it again"
        ) from None
