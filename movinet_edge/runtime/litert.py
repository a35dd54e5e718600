"""LiteRT's CompiledModel: its own buffers rotate without copies."""

from __future__ import annotations

import atexit
import ctypes
import importlib.metadata
import math
import os
from collections.abc import Callable
from functools import cache, cached_property, partial
from pathlib import Path

import ai_edge_litert
import numpy as np
from ai_edge_litert.compiled_model import CompiledModel, CpuOptions, HardwareAccelerator, Options
from ai_edge_litert.environment import Environment
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tensor_buffer import TensorBuffer

from movinet_edge.bundle import ModelFile, TensorSpec
from movinet_edge.errors import BadInput
from movinet_edge.runtime.engines import Buffer, Buffers, check_buffers
from movinet_edge.runtime.quiet import quiet

# LiteRT logs every accelerator that it meets and leaves, from C++ and without a switch: creation
# is hidden below, and what its destructors print after the last line of Python is sent away.
atexit.register(lambda: os.dup2(os.open(os.devnull, os.O_WRONLY), 2))


@cache
def _environment() -> Environment:
    """One for the whole process, as LiteRT advises."""
    return Environment.create(runtime_path=os.path.dirname(ai_edge_litert.__file__))


class NativeBuffer(Buffer):
    """A LiteRT tensor buffer in host memory, as every buffer of a CPU model is."""

    def __init__(self, spec: TensorSpec, native: TensorBuffer):
        super().__init__(spec)
        self.native = native
        self.array.fill(0)

    @cached_property
    def array(self) -> np.ndarray:
        dtype = np.dtype(self.spec.dtype)
        size = math.prod(self.spec.shape) * dtype.itemsize
        memory = (ctypes.c_uint8 * size).from_address(_address(self.native))
        return np.ctypeslib.as_array(memory).view(dtype).reshape(self.spec.shape)


def _address(native: TensorBuffer) -> int:
    """Where a buffer lies, by LiteRT's C API: its Python methods only copy, frame by frame."""
    function = _library().LiteRtGetTensorBufferHostMemory
    address = ctypes.c_void_p()
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    handle = pointer(native.capsule, b"LiteRtTensorBuffer")
    if function(ctypes.c_void_p(handle), ctypes.byref(address)) or not address.value:
        raise RuntimeError("the tensor buffer does not lie in host memory")
    return address.value


@cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(str(Path(ai_edge_litert.__file__).parent / "libLiteRt.so"))


class CompiledEngine:
    """A .tflite file compiled for the CPU (XNNPACK)."""

    def __init__(self, path: Path, file: ModelFile, threads: int):
        self.version = importlib.metadata.version("ai-edge-litert")
        self._alive: list[TensorBuffer] = []
        options = Options(
            hardware_accelerators=HardwareAccelerator.CPU,
            cpu_options=CpuOptions(num_threads=threads),
        )
        Interpreter(str(path))  # refuses a damaged file, which the compiler would crash on
        with quiet():
            self._model = CompiledModel.from_file(
                str(path), environment=_environment(), options=options
            )
            (self._signature, names), *_ = self._model.get_signature_list().items()
            self._inputs: list[str] = names["inputs"]
            self._outputs: list[str] = names["outputs"]
            # The first run of a process logs once more; better here than in the first step.
            buffers = self._model.create_input_buffers(0), self._model.create_output_buffers(0)
            self._model.run_by_index(0, *buffers)

    @property
    def fully_accelerated(self) -> bool:
        """Whether XNNPACK took the whole graph."""
        return self._model.is_fully_accelerated()

    def allocate(self, spec: TensorSpec) -> NativeBuffer:
        if spec.name in self._inputs:
            native = self._model.create_input_buffer_by_name(self._signature, spec.name)
        elif spec.name in self._outputs:
            native = self._model.create_output_buffer_by_name(self._signature, spec.name)
        else:
            raise BadInput(f"the model has no {spec.name!r}, which the manifest names")
        return NativeBuffer(spec, native)

    def close(self) -> None:
        del self._model

    def bind(self, inputs: Buffers, outputs: Buffers) -> Callable[[], None]:
        model = self._model
        for kind, buffers, details in (
            ("input", inputs, model.get_input_tensor_details(self._signature)),
            ("output", outputs, model.get_output_tensor_details(self._signature)),
        ):
            shapes = {n: (tuple(d["shape"]), d["dtype"]) for n, d in details.items()}
            check_buffers(kind, shapes, buffers)
        bound_in = [_native(inputs[name]) for name in self._inputs]
        bound_out = [_native(outputs[name]) for name in self._outputs]
        index = model.get_signature_index(self._signature)
        # The public call unwraps every buffer again at every step, which costs 1 % of a small
        # model's; what it passes them to is taken directly where this version has it.
        direct = getattr(getattr(model, "_model", None), "RunByIndex", None)
        if direct is None:
            return lambda: model.run_by_index(index, bound_in, bound_out)
        inside = [buffer.capsule for buffer in bound_in]
        outside = [buffer.capsule for buffer in bound_out]
        self._alive += bound_in + bound_out  # a capsule does not keep its buffer alive
        return partial(direct, index, inside, outside)


def _native(buffer: Buffer) -> TensorBuffer:
    assert isinstance(buffer, NativeBuffer)
    return buffer.native
