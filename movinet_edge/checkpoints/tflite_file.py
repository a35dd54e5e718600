"""Published MoViNet-Stream .tflite files, float or quantized: weights are de-quantised.

Batch norm is folded into the convolutions of such a file, so it is imported as an identity that
carries the bias. The architecture is read off the operators.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from movinet_edge.checkpoints.infer import Weights
from movinet_edge.errors import BadInput
from movinet_edge.runtime.quiet import quiet

# Keras scopes in tensor names -> our module; the first that matches wins.
SCOPES = (
    (r"stem/stem/", "stem"),
    (r"block(\d+)_layer(\d+)/bneck/expansion/", "expand"),
    (r"block(\d+)_layer(\d+)/bneck/feature/conv2d_temporal/", "temporal"),
    (r"block(\d+)_layer(\d+)/bneck/feature/conv2d/", "spatial"),
    (r"block(\d+)_layer(\d+)/bneck/se/se_reduce/", "se.reduce"),
    (r"block(\d+)_layer(\d+)/bneck/se/se_expand/", "se.expand"),
    (r"block(\d+)_layer(\d+)/bneck/projection/", "project"),
    (r"block(\d+)_layer(\d+)/bneck/skip/", "skip.project"),
    (r"classifier_head/head/", "head.hidden"),
    (r"classifier_head/classifier/", "head.classify"),
    (r"head/project/", "head.project"),
)
CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")


def is_tflite(path: Path) -> bool:
    """Whether `path` begins as a TFLite flatbuffer."""
    with path.open("rb") as file:
        return file.read(8)[4:] == b"TFL3"


def read_tflite(path: Path) -> tuple[Weights, dict[str, Any]]:
    """Weights in this project's naming, and the architecture fields its operators tell.

    Raises:
        BadInput: damaged, or no MoViNet-Stream.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    try:
        with quiet():
            interpreter = Interpreter(
                str(path),
                experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            )
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise BadInput(f"{path} is damaged or no TFLite model; copy it again") from error
    tensors = {t["index"]: t for t in interpreter.get_tensor_details()}
    ops = interpreter._get_ops_details()
    computed = {int(i) for op in ops for i in op["outputs"]}
    computed |= {d["index"] for d in interpreter.get_input_details()}
    weights: Weights = {}
    gates = set()
    for op in ops:
        name = tensors[op["outputs"][0]]["name"] if len(op["outputs"]) else ""
        stored = [i for i in op["inputs"] if i >= 0 and int(i) not in computed]
        if op["op_name"] in CONVOLUTIONS:
            module = _module(name)
            if module is None or len(stored) != 2:
                raise BadInput(f"{path} does not hold a MoViNet: unknown operator {name!r}")
            kernel, bias = (_constant(interpreter, tensors[i]) for i in stored)
            weights |= _convolution(module, kernel, bias)
        elif op["op_name"] == "MUL" and stored:
            value = _constant(interpreter, tensors[stored[0]])
            block = re.search(r"block(\d+)_layer(\d+)/bneck/rezero", name)
            if block is not None:
                weights[f"b{block[1]}.l{block[2]}.scale"] = _scalar(value, path)
            elif "se_expand" in name:
                gates.add(round(float(value.flat[0]), 4))
    return weights, _fields(weights, {op["op_name"] for op in ops}, gates)


def _fields(weights: Weights, kinds: set[str], gates: set[float]) -> dict[str, Any]:
    """Activations and gate from the operators; puts a gate's folded offset back."""
    if not {"HARD_SWISH", "LOGISTIC"} & kinds:
        return {"activation": "relu6", "classifier_activation": "relu6"}
    if gates != {0.1667}:
        return {}
    # relu6(x + 3) * 0.16667: converters fold the 3 into the bias and fuse the relu6.
    for name, bias in weights.items():
        if name.endswith(".se.expand.bias"):
            weights[name] = bias - 3
    classifier = "swish" if "LOGISTIC" in kinds else "hard_swish"
    return {"gate": "hard_sigmoid", "classifier_activation": classifier}


def _scalar(values: np.ndarray, path: Path) -> torch.Tensor:
    """A ReZero scale; files may hold it broadcast over the activation."""
    if np.ptp(values) > 1e-6 * np.abs(values).max():
        raise BadInput(f"{path} has a ReZero scale that is not one number per block")
    return torch.tensor(float(values.flat[0]))


def _module(names: str) -> str | None:
    """Our module path for the first Keras scope in a (possibly fused) tensor name."""
    for name in names.split(";"):
        for pattern, module in SCOPES:
            if found := re.search(pattern, name):
                place = f"b{found[1]}.l{found[2]}." if found.groups() else ""
                return place + module
    return None


def _constant(interpreter: Any, tensor: dict[str, Any]) -> np.ndarray:
    """A stored tensor as float32."""
    stored = interpreter.get_tensor(tensor["index"])
    parameters = tensor["quantization_parameters"]
    scales, zeros = parameters["scales"], parameters["zero_points"]
    if not len(scales):
        return stored.astype(np.float32)
    shape = [1] * stored.ndim
    shape[parameters["quantized_dimension"]] = -1
    real = (stored.astype(np.float64) - zeros.reshape(shape)) * scales.reshape(shape)
    return real.astype(np.float32)


def _convolution(module: str, kernel: np.ndarray, bias: np.ndarray) -> Weights:
    """Kernel OHWI (depthwise 1HWC) and bias of one operator."""
    if module.startswith(("head.hidden", "head.classify")) or ".se." in module:
        matrix = kernel.reshape(kernel.shape[0], -1)
        return {f"{module}.weight": _tensor(matrix), f"{module}.bias": _tensor(bias)}
    if module.endswith(("spatial", "temporal")):
        depthwise = kernel[0].transpose(2, 0, 1)  # [C, h, w]
        time_first = module.endswith("temporal")
        weight = depthwise[:, None, :, :, None] if time_first else depthwise[:, None, None]
    else:
        weight = kernel.transpose(0, 3, 1, 2)
    ones = np.ones_like(bias)
    return {
        f"{module}.conv.weight": _tensor(weight),
        f"{module}.norm.weight": _tensor(ones),
        f"{module}.norm.bias": _tensor(bias),
        f"{module}.norm.running_mean": _tensor(0 * ones),
        f"{module}.norm.running_var": _tensor(ones - np.float32(1e-3)),  # + epsilon = 1
    }


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(values, np.float32, order="C"))
