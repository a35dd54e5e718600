"""The ranges static int8 in ONNX rounds to: seen on videos, cut where nothing is lost, shared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto

from movinet_edge.errors import BadInput
from movinet_edge.export.feeds import Carried, Inputs, named
from movinet_edge.export.onnx_graph import OnnxGraph
from movinet_edge.export.step_module import FRAME
from movinet_edge.runtime.ort import session_options
from movinet_edge.streaming.deploy import NEW, StateSpec

Video = Iterable[NDArray[np.float32] | Inputs]
Ranges = dict[str, tuple[float, float]]


def observe(model: onnx.ModelProto, streams: Sequence[Video], rules: Sequence[StateSpec]) -> Ranges:
    """The least and greatest value of every float tensor while `model` follows the streams.

    Args:
        model: a step model in float32, fresh or carry form.
        streams: each of frames [1, height, width, 3] in [0, 1], or of all inputs but the states by
            name, in order; every one begins with empty states.
        rules: the model's states.

    Raises:
        BadInput: there are no frames, or activations that are not finite.
    """
    graph = OnnxGraph(onnx.ModelProto())
    graph.model.CopyFrom(model)
    _watch(graph)
    session = onnxruntime.InferenceSession(
        graph.model.SerializeToString(),
        session_options(threads=1),  # the same ranges on every machine of a kind
        providers=["CPUExecutionProvider"],
    )
    entering = {i.name: i for i in session.get_inputs()}
    bytes_in = FRAME in entering and entering[FRAME].type == "tensor(uint8)"
    names = [o.name for o in session.get_outputs()]
    ranges: Ranges = {}
    for video in streams:
        zeros = {name: np.zeros(i.shape, np.float32) for name, i in entering.items()}
        carried = Carried(rules, zeros)
        for item in video:
            given = dict(named(item)) | carried.inputs()
            fed = given
            if bytes_in:
                fed = given | {FRAME: np.round(given.pop(FRAME) * 255).astype(np.uint8)}
            values = dict(zip(names, session.run(names, fed), strict=True))
            _widen(ranges, values | given)
            carried.take(values)
    if not ranges:
        raise BadInput("there are no frames to calibrate with; give at least one video")
    return ranges


def clip(graph: OnnxGraph, ranges: Ranges) -> None:
    """Raise the least value of what enters a folded hard-swish to where the result is 0.

    x * relu6(scale * x + offset) is 0 for all x below -offset / scale: no bits need be spent there.
    """
    makers, constants = graph.makers(), graph.constants()
    for product in graph.nodes:
        if product.op_type != "Mul":
            continue
        for x, gate in (product.input, product.input[::-1]):
            relu6 = makers.get(gate)
            inner = makers.get(relu6.input[0]) if relu6 and relu6.op_type == "Clip" else None
            if inner is None or inner.input[0] != x or len(graph.readers(x)) != 2:
                continue
            if inner.op_type == "Add" and inner.input[1] in constants:
                least = -float(graph.value(inner.input[1]).min())
            elif inner.op_type == "Conv" and len(inner.input) == 3:
                slope, offset = (graph.value(name).ravel() for name in inner.input[1:])
                if len(slope) != len(offset):  # no 1x1 depthwise convolution
                    continue
                least = -float((offset / slope).max())
            else:
                continue
            low, high = ranges[x]
            ranges[x] = max(low, least), high


def tie(graph: OnnxGraph, ranges: Ranges, rules: Sequence[StateSpec]) -> None:
    """One range for all tensors of a stream state and for all that is concatenated with them."""
    groups = [{*node.input, *node.output} for node in graph.nodes if node.op_type == "Concat"]
    for state in rules:
        if state.rule == "shift":
            own = {*state_inputs(state, ranges), state.carry_input + NEW}
            groups = [g | own if g & own else g for g in groups]
    for group in groups:
        names = group & ranges.keys()
        low, high = min(ranges[n][0] for n in names), max(ranges[n][1] for n in names)
        ranges.update(dict.fromkeys(names, (low, high)))


def state_inputs(state: StateSpec, names: Iterable[str]) -> list[str]:
    """A state's inputs, oldest first, in whatever form has the tensors `names`."""
    return [state.carry_input] if state.carry_input in names else state.fresh_inputs


def _watch(graph: OnnxGraph) -> None:
    """Make outputs of all float tensors."""
    inferred = onnx.shape_inference.infer_shapes(graph.model).graph
    made, outputs = graph.makers(), set(graph.outputs)
    for value in inferred.value_info:
        if (
            value.name in made
            and value.name not in outputs
            and value.type.tensor_type.elem_type == TensorProto.FLOAT
        ):
            graph.graph.output.append(value)


def _widen(ranges: Ranges, values: Mapping[str, NDArray[np.float32]]) -> None:
    for name, value in values.items():
        low, high = float(value.min()), float(value.max())
        if not np.isfinite([low, high]).all():
            raise BadInput(
                f"{name} becomes NaN or infinite on the calibration videos; "
                "export a checkpoint whose training did not diverge"
            )
        least, greatest = ranges.get(name, (low, high))
        ranges[name] = min(least, low), max(greatest, high)
