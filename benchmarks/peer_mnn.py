"""MNN on our ONNX step, converted by its own tool; tensors go in and out as copies."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import MNN
import numpy as np

from movinet_edge.bundle import Bundle, Graph, ModelFile, TensorSpec
from movinet_edge.child import run_module
from movinet_edge.errors import BadInput
from movinet_edge.runtime.engines import Buffer, Buffers

KINDS = {"float32": MNN.Halide_Type_Float, "int32": MNN.Halide_Type_Int}


def convert(bundle: Bundle, graph: Graph, file: ModelFile, target: Path) -> None:
    """Write `target` from the bundle's .onnx file."""
    words = ["-f", "ONNX", "--modelFile", str(bundle.file(file)), "--MNNModel", str(target)]
    done = run_module("MNN.tools.mnnconvert", *words, "--keepInputFormat", "1")
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()
        raise BadInput(f"MNN cannot convert {file.path}: {said[-1]}")


class HostTensor(Buffer):
    """A tensor of MNN's in host memory, which its sessions copy from and to."""

    def __init__(self, spec: TensorSpec):
        super().__init__(spec)
        if spec.dtype not in KINDS:
            raise ValueError(f"its Python interface takes no states of {spec.dtype}")
        zeros = np.zeros(spec.shape, spec.dtype)
        layout = MNN.Tensor_DimensionType_Caffe
        self.tensor = MNN.Tensor(spec.shape, KINDS[spec.dtype], zeros, layout)

    @cached_property
    def array(self) -> np.ndarray:
        found: np.ndarray = self.tensor.getNumpyData()
        return found


class MnnEngine:
    """A converted file in a session that computes floats in 32 bits."""

    def __init__(self, path: Path, file: ModelFile, threads: int):
        self.version = importlib.metadata.version("MNN")
        self._net = MNN.Interpreter(str(path))
        settings = {"backend": "CPU", "precision": "high", "numThread": threads}
        self._session = self._net.createSession(settings)

    def allocate(self, spec: TensorSpec) -> Buffer:
        return HostTensor(spec)

    def close(self) -> None:
        del self._session, self._net

    def bind(self, inputs: Buffers, outputs: Buffers) -> Callable[[], None]:
        net, session = self._net, self._session
        given = [(net.getSessionInput(session, n), _host(b)) for n, b in inputs.items()]
        taken = [(net.getSessionOutput(session, n), _host(b)) for n, b in outputs.items()]

        def run() -> None:
            for tensor, host in given:
                tensor.copyFrom(host)
            net.runSession(session)
            for tensor, host in taken:
                tensor.copyToHostTensor(host)

        return run


def _host(buffer: Buffer) -> Any:
    assert isinstance(buffer, HostTensor)
    return buffer.tensor
