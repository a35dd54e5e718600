"""The proof that a file obeys a profile: what accelerators take, read from the file itself.

A checker takes the path of a file and gives rows: a name, whether it holds, and details.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = tuple[str, bool, str]

COVERAGE = 0.99  # of a file's nodes in one partition; ONNX Runtime's own advice begins at 0.75
ANDROID = 29  # dilated depthwise convolutions are of NNAPI 1.2
ANDROID_INT8 = 30  # signed 8-bit tensors are of NNAPI 1.3
ANDROID_RANK = 30  # FULLY_CONNECTED with keep_num_dims, likewise


@dataclass(frozen=True)
class TfliteOperator:
    """The newest version of an operator that is taken, and the Android API that NNAPI has it from.

    `api` is of the NNAPI operation itself: what the delegate spells out for older phones counts as
    absent there.
    """

    version: int
    api: int = 27


# LiteRT 2.3, tflite/delegates/nnapi/nnapi_delegate.cc (NNAPIDelegateKernel::Validate) at commit
# f677457; the API levels also from NeuralNetworksTypes.h (operation codes by feature level).
NNAPI_OPERATORS: dict[str, TfliteOperator] = {
    "ADD": TfliteOperator(2),
    "AVERAGE_POOL_2D": TfliteOperator(2),
    "CAST": TfliteOperator(1, 29),
    "CONCATENATION": TfliteOperator(2),
    "CONV_2D": TfliteOperator(5),
    "DEPTHWISE_CONV_2D": TfliteOperator(3),
    "DEQUANTIZE": TfliteOperator(2, 29),
    "DIV": TfliteOperator(1, 28),
    "EXP": TfliteOperator(1, 29),
    "FULLY_CONNECTED": TfliteOperator(5),
    "HARD_SWISH": TfliteOperator(1, 30),
    "LOGISTIC": TfliteOperator(2),
    "MAXIMUM": TfliteOperator(3, 29),
    "MAX_POOL_2D": TfliteOperator(2),
    "MEAN": TfliteOperator(2, 28),
    "MINIMUM": TfliteOperator(3, 29),
    "MUL": TfliteOperator(2),
    "PAD": TfliteOperator(2, 28),
    "QUANTIZE": TfliteOperator(2, 29),
    "RELU": TfliteOperator(2),
    "RELU6": TfliteOperator(2),
    "RESHAPE": TfliteOperator(1),
    "SIN": TfliteOperator(1, 29),
    "SLICE": TfliteOperator(2, 29),
    "SOFTMAX": TfliteOperator(2),
    "STRIDED_SLICE": TfliteOperator(2, 28),
    "SUB": TfliteOperator(3, 28),
    "TANH": TfliteOperator(2),
    "TRANSPOSE": TfliteOperator(2, 28),
}

# Of these the delegate unpacks 8-bit weights where the input is a float.
NNAPI_HYBRID = {"CONV_2D", "FULLY_CONNECTED"}

# LiteRT 2.3, tflite/delegates/gpu/common/model_builder.cc (CheckMaxSupportedOpVersion of each
# parser) and tflite/tools/versioning/gpu_compatibility.cc at commit f677457, floats only.
GPU_OPERATORS: dict[str, TfliteOperator] = {
    "ADD": TfliteOperator(2),
    "AVERAGE_POOL_2D": TfliteOperator(2),
    "CONCATENATION": TfliteOperator(2),
    "CONV_2D": TfliteOperator(6),
    "COS": TfliteOperator(2),
    "DEPTHWISE_CONV_2D": TfliteOperator(6),
    "DEQUANTIZE": TfliteOperator(3),
    "DIV": TfliteOperator(2),
    "EXP": TfliteOperator(2),
    "FULLY_CONNECTED": TfliteOperator(9),
    "HARD_SWISH": TfliteOperator(1),
    "LOGISTIC": TfliteOperator(2),
    "MAXIMUM": TfliteOperator(2),
    "MAX_POOL_2D": TfliteOperator(2),
    "MEAN": TfliteOperator(1),
    "MINIMUM": TfliteOperator(2),
    "MUL": TfliteOperator(3),
    "PAD": TfliteOperator(2),
    "RELU": TfliteOperator(2),
    "RELU6": TfliteOperator(2),
    "RESHAPE": TfliteOperator(1),
    "SIN": TfliteOperator(2),
    "SLICE": TfliteOperator(2),
    "SOFTMAX": TfliteOperator(2),
    "STRIDED_SLICE": TfliteOperator(4),
    "SUB": TfliteOperator(2),
    "TANH": TfliteOperator(2),
    "TRANSPOSE": TfliteOperator(4),
}

# The conditions that ONNX Runtime's usability checker names but does not check, from
# onnxruntime/core/providers/{nnapi/nnapi_builtin,coreml}/builders/impl/*_op_builder.cc.
Attributes = Mapping[str, Any]
Condition = tuple[Callable[[Attributes, Sequence[Any]], bool], str]


def _relu6(_: Attributes, inputs: Sequence[Any]) -> bool:
    bounds = [None if value is None else float(value) for value in inputs[1:3]]
    return bounds in ([0, 6], [-1, 1])


def _known(_: Attributes, inputs: Sequence[Any]) -> bool:
    return all(value is not None for value in inputs[1:])


def _plain_gemm(attributes: Attributes, inputs: Sequence[Any]) -> bool:
    factors = [attributes.get(name, 1) for name in ("alpha", "beta")]
    return factors == [1, 1] and not attributes.get("transA") and _known(attributes, inputs)


def _plain_pool(attributes: Attributes, _: Sequence[Any]) -> bool:
    return not attributes.get("ceil_mode") and not attributes.get("count_include_pad")


SHARED_CONDITIONS: dict[str, Condition] = {
    "AveragePool": (_plain_pool, "with ceil_mode or padding that counts"),
    "Conv": (_known, "without constant weights"),
    "Gemm": (_plain_gemm, "of another form than x * constant + constant"),
}
NNAPI_CONDITIONS: dict[str, Condition] = SHARED_CONDITIONS | {
    "Clip": (_relu6, "to other bounds than 0 and 6"),
    "MatMul": (_known, "without a constant factor"),
}
COREML_CONDITIONS: dict[str, Condition] = SHARED_CONDITIONS | {
    "Reciprocal": (lambda *_: False, "to which Core ML adds 1e-4"),
}


def nnapi_onnx(path: Path) -> list[Row]:
    """ONNX Runtime's NNAPI execution provider."""
    from onnxruntime.tools.mobile_helpers.usability_checker import check_nnapi_partitions

    model = _optimised(path)
    partitions = check_nnapi_partitions(model, True)
    return _onnx_rows("NNAPI", model, partitions, NNAPI_CONDITIONS)


def coreml_onnx(path: Path) -> list[Row]:
    """ONNX Runtime's Core ML execution provider with MLProgram."""
    from onnxruntime.tools.mobile_helpers.usability_checker import check_coreml_partitions

    model = _optimised(path)
    partitions = check_coreml_partitions(model, True, "coreml_supported_mlprogram_ops.md")
    return _onnx_rows("Core ML", model, partitions, COREML_CONDITIONS)


def _optimised(path: Path) -> Any:
    """The graph as an execution provider is offered it, with the shapes of all values."""
    from onnxruntime.tools.onnx_model_utils import ModelProtoWithShapeInfo, optimize_model

    with tempfile.TemporaryDirectory() as work:
        target = Path(work) / "optimised.onnx"
        optimize_model(path, target)
        return ModelProtoWithShapeInfo(target).model_with_shape_info


def _onnx_rows(
    engine: str, model: Any, found: Any, conditions: Mapping[str, Condition]
) -> list[Row]:
    import onnx
    import onnxruntime

    taken, nodes = found.num_supported_nodes, found.num_nodes
    detail = f"{found.num_partitions} with {taken} of {nodes} nodes, by ONNX Runtime "
    detail += onnxruntime.__version__
    if found.unsupported_ops:
        names = sorted(name.removeprefix("ai.onnx:") for name in found.unsupported_ops)
        detail += f", not {', '.join(names)}"
    constants = {w.name: w for w in model.graph.initializer}
    scalars = {name: onnx.numpy_helper.to_array(w) for name, w in constants.items() if not w.dims}
    broken: dict[str, None] = {}
    for node in model.graph.node:
        holds, reason = conditions.get(node.op_type, (None, ""))
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        # A scalar's value is of interest, of others only that there is one.
        inputs = [scalars.get(name, constants.get(name)) for name in node.input if name]
        if holds is not None and not holds(attributes, inputs):
            broken[f"{node.op_type} {reason}"] = None
    one = found.num_partitions == 1 and taken >= COVERAGE * nodes
    return [
        (f"one {engine} partition", one, detail),
        (f"{engine}'s conditions", not broken, ", ".join(broken) or f"{len(conditions)} hold"),
    ]


@dataclass(frozen=True)
class TfliteFile:
    """The graph of a .tflite file: operators with their kind and version, types of its tensors."""

    operators: list[tuple[str, int, Any]]
    tensors: list[str]
    constants: frozenset[int]
    inputs: frozenset[int]
    outputs: dict[int, str]

    def types(self, numbers: Iterable[int]) -> set[str]:
        """The types of tensors; -1 stands for an input that is left out."""
        return {self.tensors[number] for number in numbers if number >= 0}


def _read_tflite(path: Path) -> TfliteFile:
    from ai_edge_litert import schema_py_generated as schema

    kinds, types = (
        {number: name for name, number in vars(names).items() if isinstance(number, int)}
        for names in (schema.BuiltinOperator, schema.TensorType)
    )
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    graph = model.subgraphs[0]
    codes = [
        # Old files hold the code in a byte, new ones in a word; the larger is the right one.
        (kinds.get(max(code.builtinCode, code.deprecatedBuiltinCode), "?"), code.version)
        for code in model.operatorCodes
    ]
    made = {int(t) for op in graph.operators for t in op.outputs}
    inputs = frozenset(int(t) for t in graph.inputs)
    return TfliteFile(
        [(*codes[op.opcodeIndex], op) for op in graph.operators],
        [types[tensor.type] for tensor in graph.tensors],
        frozenset(range(len(graph.tensors))) - made - inputs,
        inputs,
        {int(t.tensorIndex): t.name.decode() for t in model.signatureDefs[0].outputs},
    )


def _taken(
    file: TfliteFile, operators: Mapping[str, TfliteOperator], more: Callable[[str, Any], str]
) -> tuple[bool, str]:
    """Whether a delegate takes every operator; `more` says what else is wrong with one."""
    wrong: dict[str, None] = {}
    for kind, version, operator in file.operators:
        known = operators.get(kind)
        if known is None:
            reason = "is not taken"
        elif version > known.version:
            reason = f"is taken up to version {known.version}, not {version}"
        else:
            reason = more(kind, operator)
        if reason:
            wrong[f"{kind} {reason}"] = None
    return not wrong, "; ".join(wrong) or f"all {len(file.operators)}"


def nnapi_tflite(path: Path) -> list[Row]:
    """LiteRT's NNAPI delegate."""
    file = _read_tflite(path)
    integers = any("INT8" in file.types(op.outputs) for _, _, op in file.operators)
    api = ANDROID_INT8 if integers else ANDROID

    def more(kind: str, operator: Any) -> str:
        if NNAPI_OPERATORS[kind].api > api:
            return f"is of Android API {NNAPI_OPERATORS[kind].api}"
        if getattr(operator.builtinOptions, "keepNumDims", False) and api < ANDROID_RANK:
            return f"that keeps its rank is of Android API {ANDROID_RANK}"
        weights = file.types(file.constants.intersection(map(int, operator.inputs)))
        mixed = "INT8" in weights and "FLOAT32" in file.types(operator.outputs)
        if mixed and kind not in NNAPI_HYBRID:
            return "computes in floats with weights in 8 bits"
        if kind == "CONV_2D" and len(operator.inputs) < 3:
            return "has no bias"
        return ""

    taken, detail = _taken(file, NNAPI_OPERATORS, more)
    return [("NNAPI takes every operator", taken, f"{detail}, from Android API {api}")]


def gpu_tflite(path: Path) -> list[Row]:
    """LiteRT's GPU delegate."""
    file = _read_tflite(path)

    def more(_: str, operator: Any) -> str:
        # INT32 are shapes and axes.
        others = file.types([*operator.inputs, *operator.outputs]) - {"FLOAT32", "FLOAT16", "INT32"}
        return f"is of {', '.join(sorted(others))}" if others else ""

    used = {int(t) for _, _, op in file.operators for t in op.inputs}
    doubled = sorted(name for t, name in file.outputs.items() if t in used | file.inputs)
    return [
        ("the GPU delegate takes every operator", *_taken(file, GPU_OPERATORS, more)),
        # The delegate may overwrite such tensors, or emit another: LiteRT #8599, TensorFlow #53781.
        (
            "nothing emitted is used again",
            not doubled,
            f"{len(doubled)} of {len(file.outputs)}" + "".join(f", {n} first" for n in doubled[:1]),
        ),
        _analysed(path),
    ]


def _analysed(path: Path) -> Row:
    """The word of TFLite's own analyser."""
    # A private module, but the only way to it without TensorFlow.
    from ai_edge_litert._pywrap_analyzer_wrapper import ModelAnalyzer

    said = [line for line in ModelAnalyzer(str(path), True, True).splitlines() if "GPU" in line]
    good = any("looks compatible with GPU delegate" in line for line in said)
    return ("TFLite's analyser finds it fit for GPUs", good, said[0] if said else "says nothing")
