"""Quantized .tflite files, by AI Edge Quantizer, from the float file of a step model.

Static quantization is of streams: ranges are the extremes over whole videos run in order; all
tensors of a stream buffer share one scale and zero point, so that hosts rotate raw integers; what
counts and averages over time stays float, and so does what has no space: dense layers have weights
in 8 bits and round their inputs on the way.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from ai_edge_quantizer import qtyping
from ai_edge_quantizer.quantizer import Quantizer
from ai_edge_quantizer.recipe import AlgorithmName
from ai_edge_quantizer.recipe import TFLOperationName as Op

from movinet_edge.bundle import Quantization
from movinet_edge.errors import BadInput
from movinet_edge.export.feeds import Carried, Inputs, named
from movinet_edge.export.litert_graph import LitertGraph, Operator
from movinet_edge.export.step_module import FRAME
from movinet_edge.runtime.quiet import quiet
from movinet_edge.streaming.deploy import NEW, StateSpec
from movinet_edge.streaming.state import CLOCK

Ranges = dict[int, tuple[float, float]]  # by the number of a tensor
Streams = Sequence[Iterable[np.ndarray | Inputs]]
# Where x * relu6(x + 3) begins to be constant, for x and for x divided by a scale of at least 3.
CONSTANT_BELOW = {"ADD": -3.0, "DEPTHWISE_CONV_2D": -1.0}


def half_weights(source: Path, target: Path) -> None:
    """Weights in 16 bits (fp16); engines widen them when they load."""
    quantizer = Quantizer(str(source))
    quantizer.update_quantization_recipe(
        ".*",
        Op.ALL_SUPPORTED,
        op_config=qtyping.OpQuantizationConfig(
            weight_tensor_config=qtyping.TensorQuantizationConfig(
                num_bits=16, dtype=qtyping.TensorDataType.FLOAT
            ),
            compute_precision=qtyping.ComputePrecision.FLOAT,
            explicit_dequantize=True,
        ),
        algorithm_key=AlgorithmName.FLOAT_CASTING,
    )
    _export(quantizer, target)


def integer_weights(source: Path, target: Path) -> None:
    """Weights in 8 bits, with a scale per channel; computation in floats."""
    quantizer = Quantizer(str(source))
    quantizer.add_weight_only_config(".*", Op.ALL_SUPPORTED, num_bits=8)
    _export(quantizer, target)


def dynamic(source: Path, target: Path) -> None:
    """Dense layers (squeeze-excite and classifier) in 8 bits; their inputs are rounded on the way.

    Not the convolutions: depthwise ones would leave XNNPACK, and the others gain nothing.
    """
    quantizer = Quantizer(str(source))
    quantizer.add_dynamic_config(".*", Op.FULLY_CONNECTED, num_bits=8)
    _export(quantizer, target)


def static(
    source: Path,
    target: Path,
    streams: Streams,
    rules: Sequence[StateSpec],
    keep_float: Callable[[str], bool] = lambda name: False,
) -> None:
    """Weights and activations in 8 bits; the frame and stream buffers enter and leave as int8.

    Args:
        source: the float file, hard-swish respelt (`fold` of the deploy form).
        streams: videos to calibrate on, each its frames float32 [1, H, W, 3] in [0, 1] in order,
            or all inputs but the states by name.
        rules: the states of the graph (none: whole clips).
        keep_float: which operators stay float, by their module's path (``body/b1_l0/expand``).

    Raises:
        BadInput: weights or activations are not finite, or there are no frames.
    """
    graph = LitertGraph(source)
    ranges = tied(graph, clipped(graph, observe(source, streams, rules)), rules)
    if FRAME in graph.inputs:
        ranges[graph.inputs[FRAME]] = (0.0, 1.0)
    floats = over_time(graph, rules)
    floats |= vectors(graph)
    quantizer = Quantizer(str(source))
    quantizer.add_static_config(".*", Op.ALL_SUPPORTED, activation_num_bits=8, weight_num_bits=8)
    quantizer.add_dynamic_config(".*", Op.FULLY_CONNECTED, num_bits=8)
    chosen = {t for op in graph.operators for t in op.outputs if keep_float(graph.label(op))}
    for tensors in (floats, chosen):
        if tensors:
            names = "|".join(re.escape(graph.name(t)) for t in sorted(tensors))
            _leave_float(quantizer, rf"^(?:{names});?$")
    # Both ends stay float here, for the quantizer treats all inputs (and outputs) alike; those
    # that shall be integers are opened up afterwards.
    for end in (Op.INPUT, Op.OUTPUT):
        _leave_float(quantizer, ".*", end)
    shapes = {t: [1] * len(graph.graph.tensors[t].shape) for t in ranges}
    qsv = {
        graph.name(t): {
            "min": np.full(shapes[t], low, np.float32),
            "max": np.full(shapes[t], high, np.float32),
        }
        for t, (low, high) in ranges.items()
    }
    _export(quantizer, target, qsv)
    _open_ends(target, rules)


def observe(source: Path, streams: Streams, rules: Sequence[StateSpec]) -> Ranges:
    """The extremes of every activation over whole streams, states carried by the float model.

    Raises:
        BadInput: an activation is not finite, or there are no frames.
    """
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that keeping all tensors costs memory
        interpreter = Interpreter(
            str(source),
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        interpreter.allocate_tensors()
    graph = LitertGraph(source)
    tensors, inputs, outputs = graph.activations(), graph.inputs, graph.outputs
    low, high = (np.full(len(tensors), sign * np.inf) for sign in (1, -1))
    for stream in streams:
        zeros = {n: np.zeros_like(interpreter.get_tensor(t)) for n, t in inputs.items()}
        states = Carried(rules, zeros)
        for item in stream:
            for name, value in {**named(item), **states.inputs()}.items():
                interpreter.set_tensor(inputs[name], value)
            interpreter.invoke()
            values = [interpreter.get_tensor(t) for t in tensors]
            low = np.minimum(low, [v.min() for v in values])
            high = np.maximum(high, [v.max() for v in values])
            states.take({n: interpreter.get_tensor(t) for n, t in outputs.items()})
    if np.isinf(low).all():
        raise BadInput("there are no frames to calibrate on; give videos with --calibrate")
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise BadInput("the model gives NaN or infinity on the calibration videos; retrain it")
    return {t: (float(a), float(b)) for t, a, b in zip(tensors, low, high, strict=True)}


def clipped(graph: LitertGraph, ranges: Ranges) -> Ranges:
    """Ranges without what hard-swish maps to a constant: below -3 its product is 0."""
    found = dict(ranges)
    for op in graph.operators:
        if op.kind == "MUL" and len(op.inputs) == 2:
            for x, other in (op.inputs, op.inputs[::-1]):
                floor = _constant_below(graph.producer(other), x)
                if floor is not None:
                    low, high = found[x]
                    found[x] = max(low, floor), max(high, 0.0)
    return found


def _constant_below(gate: Operator | None, x: int) -> float | None:
    relu6 = schema.ActivationFunctionType.RELU6
    if gate is None or gate.activation != relu6 or gate.inputs[0] != x:
        return None
    return CONSTANT_BELOW.get(gate.kind)


def tied(graph: LitertGraph, ranges: Ranges, rules: Sequence[StateSpec]) -> Ranges:
    """Ranges with one for all frames of a stream buffer and for what they are joined to."""
    found, inputs, outputs = dict(ranges), graph.inputs, graph.outputs
    for rule in rules:
        if rule.rule != "shift":
            continue
        group = {inputs[n] for n in (*rule.fresh_inputs, rule.carry_input) if n in inputs}
        group |= {outputs[n] for n in (rule.carry_input + NEW, rule.carry_input) if n in outputs}
        joins = [op for op in graph.operators if op.kind == "CONCATENATION"]
        for op in joins:
            if group.intersection(op.inputs):
                group.update(op.inputs, op.outputs)
        low, high = min(found[t][0] for t in group), max(found[t][1] for t in group)
        found |= dict.fromkeys(group, (low, high))
    return found


def vectors(graph: LitertGraph) -> set[int]:
    """Activations without space behind the means: cheap, and 8 bits would be most of the error.

    Of the squeeze-excites' means themselves 8 bits are enough, and their inputs are large; the
    classifier's is not.
    """
    found: set[int] = set()
    for op in graph.operators:
        flat = all(len(graph.graph.tensors[t].shape) <= 2 for t in op.outputs)
        large = op.kind == "MEAN" and not graph.label(op).startswith("body/head")
        if flat and not large and op.kind != "FULLY_CONNECTED":
            found.update(op.outputs)
    return found


def over_time(graph: LitertGraph, rules: Sequence[StateSpec]) -> set[int]:
    """What counts and averages over time: from every running mean to its next value, and alpha.

    In 8 bits they would stand still once 1/n is below half a step.
    """
    inputs, outputs = graph.inputs, graph.outputs
    found: set[int] = set()
    for rule in rules:
        if rule.rule != "replace" or rule.name == CLOCK:
            continue
        ends = outputs.get(rule.carry_input + NEW, outputs.get(rule.carry_input))
        assert ends is not None
        found |= graph.after({inputs[rule.carry_input]}) & graph.before({ends})
    if CLOCK in inputs:
        varying = graph.after(set(inputs.values()) - {inputs[CLOCK]})
        found |= graph.after({inputs[CLOCK]}) - varying
    return found - set(inputs.values())


def _leave_float(quantizer: Quantizer, regex: str, operation: Op = Op.ALL_SUPPORTED) -> None:
    quantizer.update_quantization_recipe(regex, operation, algorithm_key=AlgorithmName.NO_QUANTIZE)


def _export(
    quantizer: Quantizer, target: Path, qsv: dict[str, dict[str, np.ndarray]] | None = None
) -> None:
    with quiet():
        result = quantizer.quantize(qsv, enable_progress_bar=False, enable_progress_report=False)
    target.write_bytes(result.quantized_model)


def _open_ends(path: Path, rules: Sequence[StateSpec]) -> None:
    """Let the frame and stream buffers enter and leave as the integers they are inside."""
    graph = LitertGraph(path)
    listed = set(map(int, graph.graph.outputs))
    for name, tensor in graph.outputs.items():
        if tensor not in listed:
            # The quantizer lists the integer copy of a float output instead of itself.
            copies = [op for op in graph.users(tensor) if listed.intersection(op.outputs)]
            graph.move_output(name, tensor, copies[0].outputs[0])
            graph.remove([op for op in copies if not graph.is_used(op.outputs[0])])
    if FRAME in graph.inputs:
        _open(graph, [FRAME], [])
    for rule in rules:
        if rule.rule == "shift":
            names = rule.fresh_inputs, [rule.carry_input], [rule.carry_input + NEW]
            inputs = [n for n in (*names[0], *names[1]) if n in graph.inputs]
            _open(graph, inputs, [n for n in (*names[1], *names[2]) if n in graph.outputs])
    graph.write(path)


def _open(graph: LitertGraph, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Strip what converts at these ends, if all of them are integers inside."""
    readers = {name: list(graph.users(graph.inputs[name])) for name in inputs}
    makers = {name: graph.producer(graph.outputs[name]) for name in outputs}
    if all([op.kind for op in ops] == ["QUANTIZE"] for ops in readers.values()) and all(
        op is not None and op.kind == "DEQUANTIZE" for op in makers.values()
    ):
        for name, (reader,) in readers.items():
            graph.move_input(name, reader.outputs[0])
            graph.remove([reader])
        for name, maker in makers.items():
            assert maker is not None
            emitted = graph.outputs[name]
            graph.move_output(name, maker.inputs[0])
            if not graph.is_used(emitted):
                graph.remove([maker])


def quantization(path: Path) -> dict[str, Quantization]:
    """How the integer inputs and outputs of a file are to be read, by name."""
    graph = LitertGraph(path)
    found = {n: graph.quantization(t) for n, t in (graph.inputs | graph.outputs).items()}
    return {n: Quantization(scale=q[0], zero_point=q[1]) for n, q in found.items() if q is not None}
