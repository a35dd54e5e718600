"""Engines by name, and the one interface they share.

An engine loads a model file, allocates buffers and binds them by tensor name. `bind` is called
once for every assignment of buffers that the host rotates through; the returned call then runs
the model on them without naming, checking or (where the engine can) copying anything.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from movinet_edge.bundle import FormatName, ModelFile, TensorSpec
from movinet_edge.errors import BadInput

ALIGNMENT = 64


class Buffer:
    """Memory of one tensor that an engine reads and writes in place; `array` is a view of it."""

    def __init__(self, spec: TensorSpec):
        self.spec = spec

    @cached_property
    def array(self) -> np.ndarray:
        """Zeros at an aligned address, with room behind that vectorised kernels may read."""
        dtype = np.dtype(self.spec.dtype)
        size = math.prod(self.spec.shape) * dtype.itemsize
        raw = np.zeros(size + 3 * ALIGNMENT, np.uint8)
        start = -raw.ctypes.data % ALIGNMENT
        return raw[start : start + size].view(dtype).reshape(self.spec.shape)


Buffers = Mapping[str, Buffer]


class Engine(Protocol):
    """A loaded model."""

    version: str

    def allocate(self, spec: TensorSpec) -> Buffer:
        """A buffer that can be bound to an input or an output of this description."""

    def bind(self, inputs: Buffers, outputs: Buffers) -> Callable[[], None]:
        """A call that runs the model on these buffers, bound by tensor name, and keeps them alive.

        Raises:
            BadInput: a tensor of the model has no buffer or one of another shape.
        """

    def close(self) -> None:
        """Release the model; its buffers and calls are not used any more."""


class EngineFactory(Protocol):
    def __call__(self, path: Path, file: ModelFile, threads: int) -> Engine: ...


@dataclass(frozen=True)
class Backend:
    """A way to run one format: `factory` is "module:name", imported when first used."""

    name: str
    format: FormatName
    needs: str  # the importable package
    extra: str  # what to install
    factory: str

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(self.needs) is not None

    def load(self, path: Path, file: ModelFile, threads: int) -> Engine:
        """Load a model file.

        Raises:
            BadInput: the engine is not installed, or cannot load the file.
        """
        if not self.installed:
            raise BadInput(
                f"backend {self.name} is not installed; pip install 'movinet-edge[{self.extra}]'"
            )
        module, name = self.factory.split(":")
        factory: EngineFactory = getattr(importlib.import_module(module), name)
        try:
            return factory(path, file, threads)
        except (ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
            raise BadInput(f"{self.name} cannot load {file.path}: {reason}") from error


_RUNTIME = "movinet_edge.runtime"
BACKENDS: dict[str, Backend] = {
    backend.name: backend
    for backend in (
        Backend(
            "litert", "tflite", "ai_edge_litert", "litert", f"{_RUNTIME}.litert:CompiledEngine"
        ),
        Backend(
            "litert-interpreter",
            "tflite",
            "ai_edge_litert",
            "litert",
            f"{_RUNTIME}.interpreter:litert_engine",
        ),
        Backend("onnxruntime", "onnx", "onnxruntime", "onnxruntime", f"{_RUNTIME}.ort:OrtEngine"),
        Backend(
            "tflite-runtime",
            "tflite",
            "tflite_runtime",
            "tflite-runtime",
            f"{_RUNTIME}.interpreter:tflite_runtime_engine",
        ),
        # The reference. Named by string: the runtime itself never imports torch.
        Backend(
            "torch", "torch", "torch", "export", "movinet_edge.checkpoints.engine:torch_engine"
        ),
    )
}
ALIASES = {"ort": "onnxruntime", "onnx": "onnxruntime", "tflite": "litert"}


def backend_named(name: str) -> Backend:
    """The backend `name`.

    Raises:
        BadInput: there is none of that name.
    """
    found = BACKENDS.get(ALIASES.get(name, name))
    if found is None:
        raise BadInput(f"unknown backend {name!r}; choose one of {', '.join(BACKENDS)}")
    return found


def usable_backends(formats: set[FormatName]) -> list[Backend]:
    """The installed backends that run one of `formats`, preferred first."""
    return [b for b in BACKENDS.values() if b.format in formats and b.installed]


Shapes = Mapping[str, tuple[tuple[int, ...], str]]  # tensor name -> shape, dtype


def check_buffers(kind: str, tensors: Shapes, buffers: Buffers) -> None:
    """Raise `BadInput` unless every tensor has a buffer of its shape and type."""
    for name, (shape, dtype) in tensors.items():
        if name not in buffers:
            raise BadInput(f"the model has an {kind} {name!r} that the manifest does not name")
        manifest_shape = buffers[name].spec.shape
        if manifest_shape != tuple(shape):
            raise BadInput(
                f"{kind} {name!r} has shape {tuple(shape)} in the model and "
                f"{manifest_shape} in the manifest"
            )
        if buffers[name].spec.dtype != dtype:
            raise BadInput(
                f"{kind} {name!r} is {dtype} in the model and {buffers[name].spec.dtype} in the "
                "manifest"
            )
    left = set(buffers) - set(tensors)
    if left:
        raise BadInput(f"the manifest names {kind}s the model lacks: {', '.join(sorted(left))}")
