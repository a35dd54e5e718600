"""Other people's streaming models, run the strongest fair ways.

``copies`` is what users of the classic interpreter write: set every tensor, invoke, get every
tensor. ``zero-copy`` gives the states two sets of the engine's own buffers that change places.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from movinet_edge.benchmarks.contestant import EngineClock, Entry, TimedEngine
from movinet_edge.benchmarks.facts import (
    delegate_partitions,
    interpreter_package,
    onnx_signature,
    open_interpreter,
    tensor_indices,
    tflite_signature,
)
from movinet_edge.benchmarks.record import GraphFile, Subject
from movinet_edge.benchmarks.wiring import Tensor, Wiring, wire
from movinet_edge.bundle import (
    FormatName,
    ModelFile,
    Preprocessing,
    TensorSpec,
    sha256_of,
)
from movinet_edge.errors import BadInput
from movinet_edge.runtime.engines import BACKENDS, Buffer
from movinet_edge.runtime.preprocess import fill
from movinet_edge.runtime.quiet import quiet


@dataclass(frozen=True)
class Way:
    """A way to run a peer: `backend` None is the copying interpreter."""

    format: FormatName
    backend: str | None
    title: str


WAYS = {
    "interpreter": Way("tflite", None, "interpreter, copies"),
    "litert": Way("tflite", "litert", "litert, zero-copy"),
    "onnxruntime": Way("onnx", "onnxruntime", "onnxruntime, zero-copy"),
}


def ways_of(path: Path) -> list[str]:
    """The ways to run a file that are installed, the classic one first.

    Raises:
        BadInput: neither .tflite nor .onnx.
    """
    format = path.suffix.lower().lstrip(".")
    ways = [name for name, way in WAYS.items() if way.format == format]
    if not ways:
        raise BadInput(f"{path} is not a peer: give a .tflite or .onnx file, or a bundle")
    backends = {name: WAYS[name].backend for name in ways}
    return [n for n, backend in backends.items() if backend is None or BACKENDS[backend].installed]


def read_wiring(path: Path) -> Wiring:
    """How a peer's states run, from its names.

    Raises:
        BadInput: unreadable file, no engine for it, or names that do not tell.
    """
    if not path.is_file():
        raise BadInput(f"there is no file {path} to compare against")
    with quiet():
        if path.suffix.lower() == ".onnx":
            ends = onnx_signature(path)
        else:
            ends = tflite_signature(open_interpreter(path, interpreter_package(), 1))
    try:
        return wire(*ends)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None


class Peer:
    """What all ways share: the frame goes in as the runtime puts it in."""

    frames_per_step = 1

    def __init__(self, entry: Entry):
        assert entry.wiring is not None
        self.entry = entry
        self.wiring = entry.wiring
        self.clock = EngineClock()
        self.frame_size = self.wiring.frame_size
        height, width = self.frame_size
        self._contract = Preprocessing(height=height, width=width, frame_rate=1)
        self.engine = ""
        self.version = ""
        self.accelerated: bool | None = None

    def describe(self) -> Subject:
        path, way = self.entry.path, WAYS[self.entry.way]
        partitions = None
        if way.format == "tflite":
            partitions = delegate_partitions(path, interpreter_package(), self.entry.threads)
        file = GraphFile(
            graph="step",
            form="carry",
            file=path.name,
            sha256=sha256_of(path),
            bytes=path.stat().st_size,
            delegate="XNNPACK" if partitions else None,
            partitions=partitions,
            fully_accelerated=self.accelerated,
        )
        return Subject(
            label=self.entry.label,
            name=self.entry.name,
            kind="peer",
            backend=self.entry.way,
            engine=self.engine,
            engine_version=self.version,
            files=(file,),
            bytes_per_step=file.bytes + self.wiring.nbytes,
            state_bytes=sum(before.nbytes for before, _ in self.wiring.states),
        )


class InterpreterPeer(Peer):
    """The classic loop: states live in Python between the steps, copied in and out."""

    def __init__(self, entry: Entry):
        super().__init__(entry)
        package = interpreter_package()
        self.engine = package
        self.version = importlib.metadata.version(package.replace("_", "-"))
        self._interpreter: Any = open_interpreter(entry.path, package, entry.threads)
        inputs, outputs = tensor_indices(self._interpreter)
        wiring = self.wiring
        self._frame = np.zeros(wiring.frame.shape, wiring.frame.dtype)
        self._image = image_view(self._frame)
        self._frame_index = inputs[wiring.frame.name]
        self._state_in = [inputs[before.name] for before, _ in wiring.states]
        self._state_out = [outputs[after.name] for _, after in wiring.states]
        self._answer_out = [outputs[answer.name] for answer in wiring.answers]
        self._run = self.clock.timed(self._invoke)
        self.reset()

    def reset(self) -> None:
        self._states = [np.full(t.shape, t.zero, t.dtype) for t, _ in self.wiring.states]

    def close(self) -> None:
        del self._interpreter

    def _invoke(self) -> None:
        interpreter = self._interpreter
        interpreter.set_tensor(self._frame_index, self._frame)
        for index, value in zip(self._state_in, self._states, strict=True):
            interpreter.set_tensor(index, value)
        interpreter.invoke()
        self._states = [interpreter.get_tensor(index) for index in self._state_out]
        self._answers = [interpreter.get_tensor(index) for index in self._answer_out]

    def step(self, clip: Iterable[np.ndarray]) -> np.ndarray | None:
        for frame in clip:
            fill(self._image, frame, self._contract)
            self._run()
        return self._answers[0].reshape(-1)


class BoundPeer(Peer):
    """States change places between two sets of buffers that the engine reads and writes."""

    def __init__(self, entry: Entry):
        super().__init__(entry)
        backend = WAYS[entry.way].backend
        assert backend is not None
        loaded = BACKENDS[backend].load(entry.path, _as_file(entry, self.wiring), entry.threads)
        self.engine, self.version = BACKENDS[backend].needs, loaded.version
        self.accelerated = getattr(loaded, "fully_accelerated", None)
        self._engine = engine = TimedEngine(loaded, self.clock)
        wiring = self.wiring
        self._frame = engine.allocate(_spec(wiring.frame))
        self._image = image_view(self._frame.array)
        self._answers = [engine.allocate(_spec(answer)) for answer in wiring.answers]
        # Either set serves as input and as output: both ends of a state are alike.
        self._sets = [[engine.allocate(_spec(after)) for _, after in wiring.states] for _ in "ab"]
        self._calls = [
            engine.bind(*self._assignment(self._sets[i], self._sets[1 - i])) for i in range(2)
        ]
        self.reset()

    def close(self) -> None:
        self._calls.clear()
        self._engine.close()

    def _assignment(
        self, before: list[Buffer], after: list[Buffer]
    ) -> tuple[dict[str, Buffer], dict[str, Buffer]]:
        names = self.wiring.states
        inputs = {t.name: b for (t, _), b in zip(names, before, strict=True)}
        outputs = {t.name: b for (_, t), b in zip(names, after, strict=True)}
        inputs[self.wiring.frame.name] = self._frame
        return inputs, outputs | {b.spec.name: b for b in self._answers}

    def reset(self) -> None:
        self._number = 0
        for (tensor, _), buffer in zip(self.wiring.states, self._sets[0], strict=True):
            buffer.array.fill(tensor.zero)

    def step(self, clip: Iterable[np.ndarray]) -> np.ndarray | None:
        for frame in clip:
            fill(self._image, frame, self._contract)
            self._calls[self._number % 2]()
            answers = [answer.array.copy() for answer in self._answers]
            self._number += 1
        return answers[0].reshape(-1)


def image_view(frame: np.ndarray) -> np.ndarray:
    """The image [h, w, 3] inside a frame tensor of any layout that `frame_size` knows."""
    if frame.shape[-1] == 3:
        return frame.reshape(frame.shape[-3:])
    return frame.reshape(3, *frame.shape[-2:]).transpose(1, 2, 0)


def _spec(tensor: Tensor) -> TensorSpec:
    # Unvalidated: a peer may hold types that bundles do not, such as int64 frame counters.
    fields: dict[str, Any] = {"name": tensor.name, "shape": tensor.shape, "dtype": tensor.dtype}
    return TensorSpec.model_construct(**fields)


def _as_file(entry: Entry, wiring: Wiring) -> ModelFile:
    """A peer in the words that engines are loaded with; they bind by the tensors' own names."""
    inputs = [wiring.frame, *(before for before, _ in wiring.states)]
    outputs = [*wiring.answers, *(after for _, after in wiring.states)]
    fields: dict[str, Any] = {
        "path": entry.path.name,
        "format": WAYS[entry.way].format,
        "inputs": tuple(_spec(tensor) for tensor in inputs),
        "outputs": tuple(_spec(tensor) for tensor in outputs),
    }
    return ModelFile.model_construct(**fields)
