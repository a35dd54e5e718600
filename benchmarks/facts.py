"""What the engines themselves know about a model file."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from movinet_edge.benchmarks.wiring import Tensor
from movinet_edge.errors import BadInput
from movinet_edge.runtime.quiet import quiet

INTERPRETERS = ("ai_edge_litert", "tflite_runtime")
ONNX_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}
Signature = tuple[list[Tensor], list[Tensor]]


def interpreter_package() -> str:
    """The installed package that has the classic interpreter.

    Raises:
        BadInput: none is installed.
    """
    for package in INTERPRETERS:
        if importlib.util.find_spec(package) is not None:
            return package
    raise BadInput("no TFLite engine is installed; pip install 'movinet-edge[litert]'")


def open_interpreter(path: Path, package: str, threads: int) -> Any:
    """An allocated classic interpreter.

    Raises:
        BadInput: it cannot load the file.
    """
    interpreter_class = importlib.import_module(f"{package}.interpreter").Interpreter
    try:
        interpreter = interpreter_class(str(path), num_threads=threads)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise BadInput(f"{path} cannot be loaded: {first_line(error)}") from error
    return interpreter


def delegate_partitions(path: Path, package: str, threads: int) -> int:
    """Into how many parts XNNPACK took a .tflite file; 0 if none of it."""
    with quiet():
        interpreter = open_interpreter(path, package, threads)
    return sum(op["op_name"] == "DELEGATE" for op in interpreter._get_ops_details())


def tensor_indices(interpreter: Any) -> tuple[dict[str, int], dict[str, int]]:
    """Inputs and outputs by signature name (by tensor name in files without signatures)."""
    signatures = interpreter._get_full_signature_list()
    if signatures:
        found = next(iter(signatures.values()))
        return found["inputs"], found["outputs"]
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    return {d["name"]: d["index"] for d in inputs}, {d["name"]: d["index"] for d in outputs}


def tflite_signature(interpreter: Any) -> Signature:
    """Inputs and outputs of a .tflite file."""
    details = {d["index"]: d for d in interpreter.get_tensor_details()}
    # A list of all tensors leaves out some that are outputs of delegates; the ends have their own.
    ends = interpreter.get_input_details() + interpreter.get_output_details()
    details |= {d["index"]: d for d in ends}

    def describe(name: str, index: int) -> Tensor:
        found = details[index]
        return Tensor(
            name=name,
            shape=tuple(int(n) for n in found["shape"]),
            dtype=np.dtype(found["dtype"]).name,
            zero=int(found["quantization"][1]),
        )

    inputs, outputs = tensor_indices(interpreter)
    return [describe(*i) for i in inputs.items()], [describe(*o) for o in outputs.items()]


def onnx_signature(path: Path) -> Signature:
    """Inputs and outputs of an .onnx file.

    Raises:
        BadInput: it cannot be loaded, a shape is not fixed, or a type is unknown.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        raise BadInput(
            f"{path} needs onnxruntime, which is not installed; "
            "pip install 'movinet-edge[onnxruntime]'"
        )
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no public base class
        raise BadInput(f"{path} cannot be loaded: {first_line(error)}") from error

    def describe(argument: Any) -> Tensor:
        if not all(isinstance(n, int) for n in argument.shape):
            raise BadInput(
                f"{argument.name!r} of {path} has no fixed shape {argument.shape}; "
                "export the model with fixed shapes"
            )
        if argument.type not in ONNX_DTYPES:
            raise BadInput(f"{argument.name!r} of {path} has type {argument.type}: not supported")
        return Tensor(
            name=argument.name, shape=tuple(argument.shape), dtype=ONNX_DTYPES[argument.type]
        )

    return [describe(i) for i in session.get_inputs()], [describe(o) for o in session.get_outputs()]


def first_line(error: Exception) -> str:
    """The first line of an error's message."""
    return (str(error).strip() or "no reason given").splitlines()[0]
