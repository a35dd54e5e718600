"""Fewer bits for ONNX step models: float16 or int8 weights, dynamic int8, static int8."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from movinet_edge.bundle import Quantization
from movinet_edge.errors import BadInput
from movinet_edge.export.onnx_graph import OnnxGraph
from movinet_edge.export.onnx_ranges import Ranges, Video, clip, observe, state_inputs, tie
from movinet_edge.export.step_module import FRAME, LOGITS
from movinet_edge.runtime.quiet import quiet
from movinet_edge.streaming.deploy import NEW, StateSpec
from movinet_edge.streaming.state import CLOCK

# What ONNX Runtime computes in 8-bit integers. Means over the frame are not among it.
INTEGER = (
    *("Conv", "Gemm", "MatMul", "Add", "Mul", "Clip", "Relu", "Sigmoid", "Concat"),
    *("AveragePool", "MaxPool", "Transpose", "Reshape", "Unsqueeze", "Squeeze"),
    *("Pad", "Slice", "Split"),
)


def half_weights(source: Path, target: Path) -> None:
    """Store weights in float16 and compute in float32; engines convert them once, at load.

    Raises:
        BadInput: weights that are not finite, or too large for float16.
    """
    graph = _read(source)
    casts = []
    for name in graph.weights():
        weight = graph.value(name)
        if np.abs(weight).max(initial=0) > np.finfo(np.float16).max:
            raise BadInput(f"{name} has weights beyond float16; export with integer weights")
        stored = f"{name}.half"
        graph.replace(name, numpy_helper.from_array(weight.astype(np.float16), stored))
        casts.append(_cast(stored, name))
    graph.prepend(casts)
    graph.write(target, onnx.load(source))


def integer_weights(source: Path, target: Path) -> None:
    """Store weights in int8, one scale per output channel, and compute in float32.

    Written as Cast and Mul, which engines do once, at load; ONNX Runtime keeps a DequantizeLinear
    for every step.

    Raises:
        BadInput: weights that are not finite.
    """
    graph = _read(source)
    nodes = []
    for name, axis in graph.weights().items():
        weight = graph.value(name)
        others = tuple(i for i in range(weight.ndim) if i != axis)
        scale = np.abs(weight).max(others, keepdims=True) / 127
        scale[scale < np.finfo(np.float32).tiny] = 1
        integers = np.round(weight / scale).astype(np.int8)
        stored = f"{name}.int8"
        graph.replace(name, numpy_helper.from_array(integers, stored))
        graph.graph.initializer.append(numpy_helper.from_array(scale, f"{name}.scale"))
        nodes += [
            _cast(stored, f"{name}.cast"),
            helper.make_node("Mul", [f"{name}.cast", f"{name}.scale"], [name], f"{name}.mul"),
        ]
    graph.prepend(nodes)
    graph.write(target, onnx.load(source))


def dynamic(source: Path, target: Path) -> None:
    """Dense layers in 8 bits, their inputs quantized step by step; convolutions stay float32.

    Raises:
        BadInput: weights that are not finite.
    """
    original = _read(source)
    _dense(original.model, target)
    OnnxGraph.read(target).write(target, original.model)


def _dense(model: onnx.ModelProto, target: Path, floats: Iterable[str] = ()) -> None:
    """Write `model` with its dense layers, but for the nodes `floats`, in 8 bits."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    copy = onnx.ModelProto()  # of a path it would write beside the source
    copy.CopyFrom(model)
    with quiet():
        quantize_dynamic(
            copy,
            target,
            op_types_to_quantize=["MatMul"],  # a Gemm becomes one, and an Add
            nodes_to_exclude=[f"{name}{end}" for name in floats for end in ("", "_MatMul")],
            per_channel=True,
            weight_type=QuantType.QInt8,
        )


def static(
    source: Path,
    target: Path,
    streams: Sequence[Video],
    rules: Sequence[StateSpec],
    keep_float: Callable[[str], bool] = lambda _: False,
) -> dict[str, Quantization]:
    """Activations in uint8 by the ranges seen on `streams`, weights in int8 per output channel.

    Dense layers round their inputs step by step instead, as those of `dynamic` do: one clip beyond
    the ranges would be cut off in all that comes after.

    In `target` the frame and the stream states are uint8, each state with one scale and zero
    point for its past, its newest frame and its window, so that hosts keep them as they are. The
    frame's zero point is 0 and its scale 1/255, so RGB bytes go in unchanged. Running means, the
    clock and the logits stay float32.

    Args:
        source: a step model whose hard-swishes are folded (`DeployMoViNet.fold`); others would
            be computed in float.
        streams: as `observe` takes them; hundreds of frames altogether.
        rules: the model's states.
        keep_float: nodes, by name, to leave in float.

    Returns:
        As `quantization` of `target`.

    Raises:
        BadInput: weights that are not finite, or as `observe`.
    """
    original = _read(source)
    ranges = observe(original.model, streams, rules)
    clip(original, ranges)
    tie(original, ranges, rules)
    kept = {node.name for node in original.nodes if keep_float(node.name)}
    floats = float_nodes(original, rules, keep_float) | vectors(original)
    graph = _qdq(original, ranges, floats)
    _strip(graph, _raw_states(graph, rules), floats)
    _bypass(graph, floats)
    _dense(graph.model, target, kept)
    OnnxGraph.read(target).write(target, original.model)
    return quantization(target)


def float_nodes(
    graph: OnnxGraph, rules: Sequence[StateSpec], keep_float: Callable[[str], bool]
) -> set[str]:
    """Names of the nodes to leave in float: what is asked for, clock, running means, the rest."""
    paths = graph.depending_only_on(CLOCK)
    for state in rules:
        if state.rule == "replace":
            name = state.carry_input
            paths |= graph.downstream(name) & graph.upstream(name + NEW)
    return {
        node.name
        for node in graph.nodes
        if node.op_type not in INTEGER or keep_float(node.name) or paths.intersection(node.output)
    }


def vectors(graph: OnnxGraph) -> set[str]:
    """Names of the nodes without space: dense layers, and what lies between and behind them."""
    inferred = onnx.shape_inference.infer_shapes(graph.model).graph
    values = [*inferred.value_info, *inferred.output]
    flat = {v.name for v in values if len(v.type.tensor_type.shape.dim) <= 2}
    return {node.name for node in graph.nodes if flat.issuperset(node.output)}


def quantization(path: Path) -> dict[str, Quantization]:
    """How the raw integer inputs and outputs of a file are to be read, by name."""
    graph = OnnxGraph.read(path)
    constants, found = graph.constants(), {}
    for node in graph.nodes:
        raw, outer = {
            "DequantizeLinear": (node.input[0], graph.inputs),
            "QuantizeLinear": (node.output[0], graph.outputs),
        }.get(node.op_type, ("", []))
        if raw in outer:
            scale, zero = (numpy_helper.to_array(constants[name]) for name in node.input[1:3])
            found[raw] = Quantization(scale=float(scale), zero_point=int(zero))
    return {name: found[name] for name in [*graph.inputs, *graph.outputs] if name in found}


def _read(source: Path) -> OnnxGraph:
    """A model whose constants are all finite.

    Raises:
        BadInput: some are not.
    """
    graph = OnnxGraph.read(source)
    for name in graph.constants():
        if not np.isfinite(graph.value(name)).all():
            raise BadInput(
                f"the weights {name} hold NaN or infinity; export a checkpoint without them"
            )
    return graph


def _cast(stored: str, name: str) -> NodeProto:
    return helper.make_node("Cast", [stored], [name], f"{name}.cast", to=TensorProto.FLOAT)


def _qdq(original: OnnxGraph, ranges: Ranges, floats: set[str]) -> OnnxGraph:
    """ONNX Runtime's quantizer with given ranges: Q and DQ around all nodes but `floats`."""
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import TensorData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    if FRAME in original.inputs:
        low, high = ranges.get(FRAME, (0.0, 1.0))
        ranges = ranges | {FRAME: (min(low, 0.0), max(high, 1.0))}
    model = onnx.ModelProto()
    model.CopyFrom(original.model)
    # ONNX Runtime cannot make products exact (`session_options`) where two nodes share a weight.
    OnnxGraph(model).unshare()
    with quiet():
        quantizer = QDQQuantizer(
            model,
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range={
                name: TensorData(lowest=np.float32(low), highest=np.float32(high))
                for name, (low, high) in ranges.items()
            },
            nodes_to_quantize=[],
            nodes_to_exclude=sorted(floats),
            op_types_to_quantize=list(INTEGER),
            extra_options={"ForceQuantizeNoInputCheck": True},
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
    return OnnxGraph(quantizer.model.model)


def _raw_states(graph: OnnxGraph, rules: Sequence[StateSpec]) -> set[str]:
    """Inputs and outputs of the states that are integers all around."""
    makers, raw = graph.makers(), set()
    for state in rules:
        names, new = state_inputs(state, graph.inputs), state.carry_input + NEW
        ends = [node.op_type for name in names for node in graph.readers(name)]
        integer = set(ends) == {"QuantizeLinear"} and makers[new].op_type == "DequantizeLinear"
        if state.rule == "shift" and integer:
            raw |= {*names, new}
    return raw


def _strip(graph: OnnxGraph, raw: set[str], floats: set[str]) -> None:
    """Open the edges: integers where `raw`, the floats themselves where float nodes make them."""
    makers = graph.makers()
    for value in graph.graph.input:
        readers = graph.readers(value.name)
        if value.name in raw | {FRAME} and [r.op_type for r in readers] == ["QuantizeLinear"]:
            value.type.tensor_type.elem_type = TensorProto.UINT8
            graph.rename(readers[0].output[0], value.name)
            graph.remove(readers[0])
    for value in graph.graph.output:
        name, dequantize = value.name, makers[value.name]
        if dequantize.op_type != "DequantizeLinear":
            continue
        quantize = makers[dequantize.input[0]]
        inner = quantize.input[0]
        if name in raw:
            value.type.tensor_type.elem_type = TensorProto.UINT8
            inner = quantize.output[0]
        elif name != LOGITS and makers[inner].name not in floats:
            continue
        graph.rename(name, f"{name}.float")
        graph.rename(inner, name)


def _bypass(graph: OnnxGraph, floats: set[str]) -> None:
    """Let float nodes read what float nodes make as it is, and drop Q and DQ that nobody reads."""
    makers, inputs = graph.makers(), set(graph.inputs)
    for node in graph.nodes:
        for i, name in enumerate(node.input if node.name in floats else ()):
            dequantize = makers.get(name)
            if dequantize is None or dequantize.op_type != "DequantizeLinear":
                continue
            quantize = makers.get(dequantize.input[0])
            if quantize is None:  # a raw state, or a constant
                continue
            origin = quantize.input[0]
            if origin in inputs or makers[origin].name in floats:
                node.input[i] = origin
    for kind in ("DequantizeLinear", "QuantizeLinear"):
        read = {name for node in graph.nodes for name in node.input} | set(graph.outputs)
        for node in graph.nodes:
            if node.op_type == kind and node.output[0] not in read:
                graph.remove(node)
