"""The classic TFLite interpreter, of LiteRT or of tflite-runtime: states are copied."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from movinet_edge.bundle import ModelFile, TensorSpec
from movinet_edge.runtime.engines import Buffer, Buffers, check_buffers
from movinet_edge.runtime.quiet import quiet


class InterpreterEngine:
    """A .tflite file in an `Interpreter`, whose tensors have fixed places."""

    def __init__(self, interpreter: Any, version: str):
        self.version = version
        self._interpreter = interpreter
        with quiet():  # it tells of its delegates
            interpreter.allocate_tensors()
        # The public runner gives names to tensors in both packages; the mapping it holds is what
        # set_tensor needs, and calling the runner itself costs 10 % more.
        signature = interpreter._get_full_signature_list()
        (found,) = signature.values()
        self._inputs: dict[str, int] = found["inputs"]
        self._outputs: dict[str, int] = found["outputs"]

    def allocate(self, spec: TensorSpec) -> Buffer:
        return Buffer(spec)

    def close(self) -> None:
        del self._interpreter

    def bind(self, inputs: Buffers, outputs: Buffers) -> Callable[[], None]:
        interpreter = self._interpreter
        shapes = {
            d["index"]: (tuple(d["shape"]), np.dtype(d["dtype"]).name)
            for d in [*interpreter.get_input_details(), *interpreter.get_output_details()]
        }
        check_buffers("input", {n: shapes[i] for n, i in self._inputs.items()}, inputs)
        check_buffers("output", {n: shapes[i] for n, i in self._outputs.items()}, outputs)
        feeds = [(index, inputs[name].array) for name, index in self._inputs.items()]
        fetches = [(index, outputs[name].array) for name, index in self._outputs.items()]

        def run() -> None:
            for index, array in feeds:
                interpreter.set_tensor(index, array)
            interpreter.invoke()
            for index, array in fetches:
                array[...] = interpreter.get_tensor(index)

        return run


def litert_engine(path: Path, file: ModelFile, threads: int) -> InterpreterEngine:
    from ai_edge_litert.interpreter import Interpreter

    version = importlib.metadata.version("ai-edge-litert")
    return InterpreterEngine(Interpreter(str(path), num_threads=threads), version)


def tflite_runtime_engine(path: Path, file: ModelFile, threads: int) -> InterpreterEngine:
    from tflite_runtime.interpreter import Interpreter

    version = importlib.metadata.version("tflite-runtime")
    return InterpreterEngine(Interpreter(str(path), num_threads=threads), version)
