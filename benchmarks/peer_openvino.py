"""OpenVINO's CPU plugin on our ONNX step: one request per assignment of buffers, none copied."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path

import openvino

from movinet_edge.bundle import ModelFile, TensorSpec
from movinet_edge.runtime.engines import Buffer, Buffers


class OpenVinoEngine:
    """An .onnx file compiled for latency, in the precision that the file has."""

    def __init__(self, path: Path, file: ModelFile, threads: int):
        self.version = importlib.metadata.version("openvino")
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            # On some CPUs it would compute floats in 16 bits.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        self._model = openvino.Core().compile_model(str(path), "CPU", settings)

    def allocate(self, spec: TensorSpec) -> Buffer:
        return Buffer(spec)

    def close(self) -> None:
        del self._model

    def bind(self, inputs: Buffers, outputs: Buffers) -> Callable[[], None]:
        request = self._model.create_infer_request()
        for name, buffer in {**inputs, **outputs}.items():
            request.set_tensor(name, openvino.Tensor(buffer.array, shared_memory=True))

        def run() -> None:
            request.infer(share_inputs=True, share_outputs=True)

        return run
