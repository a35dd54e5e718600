"""ONNX Runtime on the CPU: one IOBinding per assignment of buffers, so states rotate uncopied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnxruntime

from movinet_edge.bundle import ModelFile, TensorSpec
from movinet_edge.runtime.engines import Buffer, Buffers, Shapes, check_buffers

TYPES = {"tensor(float)": "float32"} | {
    f"tensor({name})": name for name in ("uint8", "int8", "int32", "int64")
}


# x86-64 cores without VNNI add up products of unsigned and signed bytes in 16 bits, which overflow
# in silence; with this ONNX Runtime takes slower products there that are exact.
EXACT = "session.x64quantprecision"


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """How all sessions are opened: quiet, and integers exact on every CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry(EXACT, "1")
    return options


class OrtEngine:
    """An .onnx file in an inference session."""

    def __init__(self, path: Path, file: ModelFile, threads: int):
        self.version = onnxruntime.__version__
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), session_options(threads), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions share no public base class
            raise RuntimeError(str(error)) from error

    def allocate(self, spec: TensorSpec) -> Buffer:
        return Buffer(spec)

    def close(self) -> None:
        del self._session

    def bind(self, inputs: Buffers, outputs: Buffers) -> Callable[[], None]:
        session = self._session
        check_buffers("input", _shapes(session.get_inputs()), inputs)
        check_buffers("output", _shapes(session.get_outputs()), outputs)
        binding = session.io_binding()
        alive = []  # the binding has addresses only
        for buffers, bind in ((inputs, binding.bind_input), (outputs, binding.bind_output)):
            for name, buffer in buffers.items():
                array = buffer.array
                bind(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
                alive.append(array)

        def run(_alive: list[Any] = alive) -> None:
            session.run_with_iobinding(binding)

        return run


def _shapes(tensors: Sequence[Any]) -> Shapes:
    """By name; types are spelt ``tensor(float)``, ``tensor(uint8)``."""
    return {t.name: (tuple(t.shape), TYPES.get(t.type, t.type)) for t in tensors}
