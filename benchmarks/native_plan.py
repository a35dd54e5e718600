"""A bundle as the native runner reads it: model files, raw frames and ``plan.txt``.

The plan is the manifest with its rules worked out. Everything that outlives a run of a graph is a
ring of buffers: at run number n of its clock (a graph), a tensor bound with offset o uses buffer
(n + o) mod length. States count the runs of their own graph, features those of their writer; frames
and answers are rings of one buffer.
"""

from __future__ import annotations

import shutil
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from movinet_edge.bundle import Bundle, Graph, ModelFile, TensorSpec
from movinet_edge.errors import BadInput
from movinet_edge.files import new_folder, write_errors
from movinet_edge.runtime.engines import Backend, backend_named
from movinet_edge.runtime.graph import (
    FeatureRing,
    Features,
    feature_rings,
    find_file,
    ring_lengths,
    state_rings,
)

VERSION = 1
PLAN, FRAMES = "plan.txt", "frames.rgb"


@dataclass(frozen=True)
class Prepared:
    """A folder for the native runner; it goes to the device as it is."""

    folder: Path
    bundle: Bundle
    backend: Backend
    files: dict[str, ModelFile]  # by graph, in the plan's order
    precision: str

    @property
    def frames_per_step(self) -> int:
        return max(self.bundle.manifest.graph(name).frames for name in self.files)


def prepare(bundle: Bundle, engine: str, folder: Path, precision: str = "fp32") -> Prepared:
    """Write what a device needs to replay the bundle's golden stream on an engine.

    Raises:
        BadInput: the bundle has no such files, is damaged, or `folder` cannot be written.
    """
    if bundle.manifest.plan.combine == "looks":
        raise BadInput(
            f"{bundle.path} decides what to run at each frame, which the native runner cannot; "
            "time it on this machine, without --device"
        )
    backend = backend_named(engine)
    files = files_by_graph(bundle, backend, precision)
    graphs = [bundle.manifest.graph(name) for name in files]
    writer = _Writer(bundle, graphs, list(files.values()))
    with new_folder(folder) as work, write_errors(folder):
        for file in files.values():
            shutil.copyfile(bundle.file(file), work / Path(file.path).name)
        (work / FRAMES).write_bytes(writer.frames.tobytes())
        (work / PLAN).write_text(writer.text(backend), encoding="utf-8")
    return Prepared(folder, bundle, backend, files, precision)


def files_by_graph(bundle: Bundle, backend: Backend, precision: str) -> dict[str, ModelFile]:
    """The files that a backend runs, in the plan's order.

    Raises:
        BadInput: the bundle lacks one.
    """
    steps = bundle.manifest.plan_for(backend.format).steps
    graphs = [bundle.manifest.graph(name) for name in dict.fromkeys(s.graph for s in steps)]
    return {graph.name: find_file(graph, backend, precision) for graph in graphs}


@dataclass
class _Writer:
    bundle: Bundle
    graphs: list[Graph]
    files: list[ModelFile]
    features: Features = field(init=False)
    frames: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.features = feature_rings(self.bundle.manifest)
        with np.load(self.bundle.file(self.bundle.manifest.golden)) as golden:
            frames = golden["frames"]
        # Where a clip is longer than the golden stream, its last frame repeats.
        missing = max(graph.frames for graph in self.graphs) - len(frames)
        last = np.repeat(frames[-1:], max(missing, 0), axis=0)
        self.frames = np.concatenate([frames, last])
        self._rings: list[str] = []
        self._feature_numbers: dict[str, int] = {}
        self._graph_lines: list[str] = []

    def text(self, backend: Backend) -> str:
        manifest = self.bundle.manifest
        plan = manifest.plan_for(backend.format)
        for clock, (graph, file) in enumerate(zip(self.graphs, self.files, strict=True)):
            self._graph(clock, graph, file)
        numbers = {graph.name: number for number, graph in enumerate(self.graphs)}
        count, height, width, _ = self.frames.shape
        lines = [
            f"movinet-edge-plan {VERSION}",
            f"format {backend.format}",
            f"frames {count} {height} {width}",
            f"classes {manifest.classes}",
            f"delay {plan.delay}",
            f"mean {int(plan.combine == 'mean')}",
            f"probabilities {int(manifest.output == 'probabilities')}",
            *self._rings,
            *self._graph_lines,
            *(f"turn {numbers[step.graph]} {step.every} {step.offset}" for step in plan.steps),
        ]
        return "\n".join(lines) + "\n"

    def _graph(self, clock: int, graph: Graph, file: ModelFile) -> None:
        data = self.bundle.file(file).read_bytes()
        head = ("graph", _word(graph.name), _word(Path(file.path).name), len(data))
        self._say(*head, zlib.crc32(data), graph.frames)
        for tensors, kind in ((file.inputs, "input"), (file.outputs, "output")):
            for spec in tensors:
                if spec.role == "feature":
                    self._feature(kind, spec)
                elif spec.role != "state":
                    self._single(kind, clock, spec)
        self._states(clock, graph, file)

    def _single(self, kind: str, clock: int, spec: TensorSpec) -> None:
        """A tensor that has one buffer: the frame, `valid`, an answer."""
        number = self._ring(1, clock, spec, float(spec.role == "valid"))
        self._bind(kind, spec, number, 0)
        if spec.role in ("frame", "valid"):
            self._say(spec.role, number)
        elif spec.name == self.bundle.manifest.plan.answer:
            known = spec.quantization
            scale = (known.scale, known.zero_point) if known else (0, 0)
            self._say("answer", number, *scale)

    def _feature(self, kind: str, spec: TensorSpec) -> None:
        name = spec.feature or spec.name
        if name not in self._feature_numbers:
            clock = self._writer_of(name)
            self._feature_numbers[name] = self._ring(self.features[name].length, clock, spec, 0)
        offset = 0 if kind == "output" else -1 - (spec.age or 0)
        self._bind(kind, spec, self._feature_numbers[name], offset)

    def _writer_of(self, feature: str) -> int:
        for number, file in enumerate(self.files):
            if any(s.role == "feature" and s.name == feature for s in file.outputs):
                return number
        raise BadInput(f"no graph of the plan makes the feature {feature!r}")

    def _states(self, clock: int, graph: Graph, file: ModelFile) -> None:
        rings = state_rings(graph, file)
        beside = [ring.length for ring in self._features_of(file)]
        lengths = ring_lengths([ring.past for ring in rings], beside)
        for ring, length in zip(rings, lengths, strict=True):
            number = self._ring(length, clock, ring.output, ring.initial)
            for slot, spec in enumerate(ring.inputs):
                self._bind("input", spec, number, slot)
            self._bind("output", ring.output, number, ring.past)

    def _features_of(self, file: ModelFile) -> list[FeatureRing]:
        specs = [s for s in (*file.inputs, *file.outputs) if s.role == "feature"]
        return [self.features[name] for name in dict.fromkeys(s.feature or s.name for s in specs)]

    def _ring(self, length: int, clock: int, spec: TensorSpec, initial: float) -> int:
        values = (length, clock, spec.dtype, f"{initial:.9g}", *spec.shape)
        self._rings.append(" ".join(map(str, ("ring", *values))))
        return len(self._rings) - 1

    def _bind(self, kind: str, spec: TensorSpec, ring: int, offset: int) -> None:
        self._say(kind, _word(spec.name), ring, offset)

    def _say(self, *words: str | float) -> None:
        self._graph_lines.append(" ".join(map(str, words)))


def _word(text: str) -> str:
    """`text`, as one word of the plan."""
    if not text or any(c.isspace() for c in text):
        raise BadInput(f"the native runner reads no names with blanks, such as {text!r}")
    return text
