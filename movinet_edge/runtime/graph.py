"""One graph of a bundle on one engine: its buffers, and the rotation of its states."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from movinet_edge.bundle import Bundle, Graph, Manifest, ModelFile, StateRule, TensorSpec
from movinet_edge.errors import BadInput
from movinet_edge.runtime.engines import Backend, Buffer, Engine

# States with different rings repeat together after the least common multiple of their lengths.
# Up to this many assignments are bound; beyond, lengths are rounded up to powers of two, and if
# that is not enough, every ring gets the longest one's.
MAX_PERIOD = 64


@dataclass
class Ring:
    """The buffers of one state: its input slots, oldest first, then the one to be written."""

    rule: StateRule
    inputs: list[TensorSpec]
    output: TensorSpec
    buffers: list[Buffer]

    def at(self, phase: int) -> tuple[dict[str, Buffer], dict[str, Buffer]]:
        """The buffers bound by name at step number `phase`."""
        length = len(self.buffers)
        past = {
            spec.name: self.buffers[(phase + slot) % length]
            for slot, spec in enumerate(self.inputs)
        }
        return past, {self.output.name: self.buffers[(phase + self.past) % length]}

    @property
    def past(self) -> int:
        """How many values there are before the new one."""
        return self.rule.past if self.rule.rule == "delay" else len(self.inputs)

    @property
    def initial(self) -> float:
        """The first value, as it is stored."""
        value, quantization = self.rule.initial, self.output.quantization
        if quantization is None:
            return value
        return round(value / quantization.scale) + quantization.zero_point

    def reset(self) -> None:
        for buffer in self.buffers:
            buffer.array.fill(self.initial)


class FeatureRing:
    """The newest values of what one graph hands to others; `runs` counts those of the writer."""

    def __init__(self, length: int):
        self.length = length
        self.buffers: list[Buffer] = []
        self.runs = 0

    def allocate(self, engine: Engine, spec: TensorSpec) -> None:
        """Make the buffers, unless another graph has done so."""
        if not self.buffers:
            self.buffers = [engine.allocate(spec) for _ in range(self.length)]
        if spec.shape != self.buffers[0].spec.shape:
            raise BadInput(f"the manifest gives feature {spec.name!r} more than one shape")

    @property
    def next(self) -> Buffer:
        """Where the writer puts its next value."""
        return self.buffers[self.runs % self.length]

    def aged(self, age: int) -> Buffer:
        """The value of `age` runs before the last."""
        return self.buffers[(self.runs - 1 - age) % self.length]

    def reset(self) -> None:
        self.runs = 0
        for buffer in self.buffers:
            buffer.array.fill(0)


Features = dict[str, FeatureRing]


def feature_rings(manifest: Manifest) -> Features:
    """Rings for all features of a bundle by name, long enough for their oldest reader.

    Their lengths are multiples of the readers' periods, so that few assignments repeat.
    """
    oldest: dict[str, int] = {}
    for graph in manifest.graphs:
        for file in graph.files:
            oldest |= {s.name: 0 for s in file.outputs if s.role == "feature"} | oldest
    every: dict[str, int] = dict.fromkeys(oldest, 1)
    for step in manifest.plan.steps:
        for file in manifest.graph(step.graph).files:
            for spec in file.inputs:
                if spec.role == "feature" and spec.window is None:
                    name = spec.feature or spec.name
                    oldest[name] = max(oldest.get(name, 0), spec.age or 0)
                    every[name] = step.every
    return {
        name: FeatureRing(-(-(age + 1) // every[name]) * every[name] if age else 1)
        for name, age in oldest.items()
    }


class GraphRunner:
    """Runs a graph step by step.

    `frame` is the input array to fill (None where the graph takes only features); `outputs` names
    the answers that `read` returns; `steps` counts the runs since the last reset. States rotate by
    exchanging buffers, never by copying, where the engine binds buffers. `features` are shared
    between the graphs of a plan by name; `windows` are the inputs to fill with many of them,
    [1, window, ...] by the feature's name.
    """

    def __init__(
        self,
        bundle: Bundle,
        graph: Graph,
        backend: Backend,
        precision: str,
        threads: int,
        features: Features,
    ):
        self.graph = graph
        self.file = find_file(graph, backend, precision)
        self.engine = backend.load(bundle.file(self.file), self.file, threads)
        self._read: dict[str, tuple[FeatureRing, int]] = {}
        self._written: dict[str, FeatureRing] = {}
        self._inputs: dict[str, Buffer] = {}
        self._outputs: dict[str, Buffer] = {}
        self._frame: Buffer | None = None
        self.valid: np.ndarray | None = None
        self.windows: dict[str, np.ndarray] = {}
        for spec in self.file.inputs:
            if spec.window is not None:
                self._inputs[spec.name] = self.engine.allocate(spec)
                self.windows[spec.feature or spec.name] = self._inputs[spec.name].array
            elif spec.role == "feature":
                ring = features[spec.feature or spec.name]
                ring.allocate(self.engine, spec)
                self._read[spec.name] = ring, spec.age or 0
            elif spec.role == "frame":
                self._frame = self._inputs[spec.name] = self.engine.allocate(spec)
            elif spec.role == "valid":
                self._inputs[spec.name] = self.engine.allocate(spec)
                self.valid = self._inputs[spec.name].array
        for spec in self.file.outputs:
            if spec.role == "feature":
                ring = self._written[spec.name] = features[spec.name]
                ring.allocate(self.engine, spec)
            elif spec.role == "output":
                self._outputs[spec.name] = self.engine.allocate(spec)
        read = (ring for ring, _ in self._read.values())
        self._rings = list(dict.fromkeys([*read, *self._written.values()]))
        self.rings = state_rings(graph, self.file)
        lengths = ring_lengths(
            [ring.past for ring in self.rings], [ring.length for ring in self._rings]
        )
        for state, length in zip(self.rings, lengths, strict=True):
            state.buffers = [self.engine.allocate(state.output) for _ in range(length)]
        self.frame = None if self._frame is None else self._frame.array
        self.outputs = frozenset(s.name for s in self.file.outputs if s.role == "output")
        self._period = math.lcm(*(len(ring.buffers) for ring in self.rings), 1)
        self._calls: dict[tuple[int, ...], Callable[[], None]] = {}
        self.steps = 0
        self.reset()

    def run(self) -> None:
        """One step on the present frame; outputs and states are new afterwards."""
        phase = (self.steps % self._period, *(ring.runs % ring.length for ring in self._rings))
        call = self._calls.get(phase)
        if call is None:
            call = self._calls[phase] = self._bind(self.steps)
        call()
        self.steps += 1
        for ring in self._written.values():
            ring.runs += 1

    def hold(self, going_on: Collection[str] = ()) -> None:
        """Undo the last run for all states but those `going_on`; each is of one value."""
        for ring in self.rings:
            if ring.rule.name not in going_on:
                past, new = ring.at(self.steps - 1)
                (before,) = past.values()
                new[ring.output.name].array[...] = before.array

    def read(self, output: str) -> np.ndarray:
        """The newest value of an output or feature as real numbers, as a copy."""
        ring = self._written.get(output)
        return _real(self._outputs[output] if ring is None else ring.aged(0))

    def close(self) -> None:
        """Release the engine."""
        self._calls.clear()
        self.engine.close()

    @property
    def features(self) -> frozenset[str]:
        """What it hands to other graphs."""
        return frozenset(self._written)

    @property
    def state_bytes(self) -> int:
        """What it keeps between two steps."""
        return self.graph.state_bytes(self.file)

    @property
    def feature_bytes(self) -> int:
        """Memory of what it hands to other graphs."""
        rings = self._written.values()
        return sum(buffer.array.nbytes for ring in rings for buffer in ring.buffers)

    def reset(self) -> None:
        """Forget the stream, and what was handed to other graphs."""
        if self.valid is not None:
            self.valid.fill(1)
        for feature in self._written.values():
            feature.reset()
        self.begin()

    def begin(self) -> None:
        """Begin anew with empty states; what was handed to other graphs stays theirs."""
        self.steps = 0
        for ring in self.rings:
            ring.reset()

    def states(self) -> dict[str, np.ndarray]:
        """The newest value of every state (for ``shift`` in fresh form: the newest frame).

        Real numbers, whatever they are stored as.
        """
        newest = {}
        for ring in self.rings:
            buffer = ring.at(self.steps - 1)[1][ring.output.name]
            newest[ring.rule.name] = _real(buffer)
        return newest

    def _bind(self, phase: int) -> Callable[[], None]:
        inputs, outputs = dict(self._inputs), dict(self._outputs)
        inputs |= {name: ring.aged(age) for name, (ring, age) in self._read.items()}
        outputs |= {name: ring.next for name, ring in self._written.items()}
        for ring in self.rings:
            past, new = ring.at(phase)
            inputs |= past
            outputs |= new
        return self.engine.bind(inputs, outputs)


def state_rings(graph: Graph, file: ModelFile) -> list[Ring]:
    """The rings of a graph's states in one of its files, yet without buffers.

    Raises:
        BadInput: the manifest does not say how a state is bound.
    """
    rings = []
    for rule in graph.states:
        slots = [s for s in file.inputs if s.state == rule.name]
        slots.sort(key=lambda s: s.slot or 0)
        outs = [s for s in file.outputs if s.state == rule.name]
        if not slots or len(outs) != 1:
            raise BadInput(f"the manifest does not say how state {rule.name!r} is bound")
        if any(_kind(slot) != _kind(outs[0]) for slot in slots):
            raise BadInput(
                f"the manifest gives state {rule.name!r} more than one shape, type or scale"
            )
        rings.append(Ring(rule, slots, outs[0], []))
    return rings


def ring_lengths(pasts: Sequence[int], others: Sequence[int]) -> list[int]:
    """How many buffers each state needs, given its past values.

    `others` are the lengths of the rings of features that rotate beside them.
    """

    def period(lengths: Sequence[int]) -> int:
        return math.lcm(*lengths, *others, 1)

    lengths = [past + 1 for past in pasts]
    if period(lengths) > MAX_PERIOD:
        lengths = [1 << (length - 1).bit_length() for length in lengths]
    if period(lengths) > MAX_PERIOD:
        lengths = [max(lengths)] * len(lengths)
    return lengths


def _kind(spec: TensorSpec) -> tuple[object, ...]:
    """What the buffers of a state must have in common to change places."""
    return spec.shape, spec.dtype, spec.quantization


def _real(buffer: Buffer) -> np.ndarray:
    """A copy of the values, integers as the numbers they stand for."""
    quantization = buffer.spec.quantization
    if quantization is None:
        return buffer.array.copy()
    return (buffer.array.astype(np.float32) - quantization.zero_point) * np.float32(
        quantization.scale
    )


def find_file(graph: Graph, backend: Backend, precision: str) -> ModelFile:
    """The graph's file for a backend and precision.

    Raises:
        BadInput: the bundle holds none.
    """
    for file in graph.files:
        if file.format == backend.format and file.precision == precision:
            return file
    held = ", ".join(f"{f.format} {f.precision}" for f in graph.files)
    raise BadInput(
        f"the bundle has no {precision} {backend.format} file for backend {backend.name} "
        f"(it holds {held}); export it with --format {backend.format} --precision {precision}"
    )
