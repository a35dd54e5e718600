"""One graph of a bundle on one engine: its buffers, and the rotation of its states."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from movinet_edge.bundle import Bundle, Graph, ModelFile, StateRule, TensorSpec
from movinet_edge.errors import BadInput
from movinet_edge.runtime.engines import Backend, Buffer, Engine

# States with different rings repeat together after the least common multiple of their lengths.
# Up to this many assignments are bound; beyond, every ring gets the longest one's length.
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
        return past, {self.output.name: self.buffers[(phase + len(self.inputs)) % length]}

    def reset(self) -> None:
        value = self.rule.initial
        quantization = self.output.quantization
        if quantization is not None:
            value = round(value / quantization.scale) + quantization.zero_point
        for buffer in self.buffers:
            buffer.array.fill(value)


class GraphRunner:
    """Runs a graph step by step.

    `frame` is the input array to fill (None where the graph takes only features); `outputs` names
    the answers that `read` returns; `steps` counts the runs since the last reset. States rotate by
    exchanging buffers, never by copying, where the engine binds buffers. `features` are shared
    between the graphs of a plan by name.
    """

    def __init__(
        self,
        bundle: Bundle,
        graph: Graph,
        backend: Backend,
        precision: str,
        threads: int,
        features: dict[str, Buffer],
    ):
        self.graph = graph
        self.file = find_file(graph, backend, precision)
        self.engine = backend.load(bundle.file(self.file), self.file, threads)
        self.rings = self._make_rings()
        self._inputs: dict[str, Buffer] = {}
        self._outputs: dict[str, Buffer] = {}
        self._frame: Buffer | None = None
        for spec in self.file.inputs:
            if spec.role == "feature":
                self._inputs[spec.name] = _shared(features, self.engine, spec)
            elif spec.role == "frame":
                self._frame = self._inputs[spec.name] = self.engine.allocate(spec)
        for spec in self.file.outputs:
            if spec.role == "feature":
                self._outputs[spec.name] = _shared(features, self.engine, spec)
            elif spec.role == "output":
                self._outputs[spec.name] = self.engine.allocate(spec)
        self.frame = None if self._frame is None else self._frame.array
        self.outputs = frozenset(s.name for s in self.file.outputs if s.role == "output")
        self._period = math.lcm(*(len(ring.buffers) for ring in self.rings), 1)
        self._calls: dict[int, Callable[[], None]] = {}
        self.steps = 0
        self.reset()

    def run(self) -> None:
        """One step on the present frame; outputs and states are new afterwards."""
        phase = self.steps % self._period
        call = self._calls.get(phase)
        if call is None:
            call = self._calls[phase] = self._bind(phase)
        call()
        self.steps += 1

    def read(self, output: str) -> np.ndarray:
        """The newest value of an output as real numbers, as a copy."""
        return _real(self._outputs[output])

    def close(self) -> None:
        """Release the engine."""
        self._calls.clear()
        self.engine.close()

    def reset(self) -> None:
        """Forget the stream."""
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
        for ring in self.rings:
            past, new = ring.at(phase)
            inputs |= past
            outputs |= new
        return self.engine.bind(inputs, outputs)

    def _make_rings(self) -> list[Ring]:
        rings = []
        for rule in self.graph.states:
            slots = [s for s in self.file.inputs if s.state == rule.name]
            slots.sort(key=lambda s: s.slot or 0)
            outs = [s for s in self.file.outputs if s.state == rule.name]
            if not slots or len(outs) != 1:
                raise BadInput(f"the manifest does not say how state {rule.name!r} is bound")
            if any(_kind(slot) != _kind(outs[0]) for slot in slots):
                raise BadInput(
                    f"the manifest gives state {rule.name!r} more than one shape, type or scale"
                )
            rings.append(Ring(rule, slots, outs[0], []))
        lengths = [len(ring.inputs) + 1 for ring in rings]
        longest = max(lengths, default=1)
        uniform = math.lcm(*lengths, 1) > MAX_PERIOD
        for ring, length in zip(rings, lengths, strict=True):
            count = longest if uniform else length
            ring.buffers = [self.engine.allocate(ring.output) for _ in range(count)]
        return rings


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


def _shared(features: dict[str, Buffer], engine: Engine, spec: TensorSpec) -> Buffer:
    if spec.name not in features:
        features[spec.name] = engine.allocate(spec)
    return features[spec.name]


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
