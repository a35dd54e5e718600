"""ONNX step models in fewer bits: how near they stay, and what is integer in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from movinet_edge.errors import BadInput
from movinet_edge.export import onnx_quantize
from movinet_edge.export.onnx_graph import OnnxGraph
from movinet_edge.export.onnx_quantize import Quantization, quantization, static
from movinet_edge.export.step_module import FRAME, LOGITS, StepConfig, StepModule
from movinet_edge.export.to_onnx import to_onnx
from movinet_edge.models.movinet_deploy import DeployMoViNet
from movinet_edge.models.movinet_table import published_arch
from movinet_edge.models.registry import seeded_model
from movinet_edge.pattern import moving_pattern
from movinet_edge.runtime.ort import session_options
from movinet_edge.streaming.deploy import NEW, FormName, StateSpec
from movinet_edge.streaming.spec import describe
from tests.bundles import lone

SIDE = (48, 48)
QDQ = {"QuantizeLinear", "DequantizeLinear"}
Models = Callable[..., Path]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """``models(form="fresh", fold=False, **arch)`` -> an a0-stream in float32; do not change it."""

    @cache
    def make(form: FormName = "fresh", fold: bool = False, **changes: object) -> Path:
        model = seeded_model(published_arch("a0", True, **changes))
        body = DeployMoViNet(model, SIDE)
        if fold:
            body.fold({})
        path = tmp_path_factory.mktemp("onnx") / "step.onnx"
        step = StepModule(body, lone(states(**changes)), StepConfig(form, "NCHW", SIDE))
        to_onnx(step.eval(), path, {"labels": "one\ntwo"})
        return path

    return make


@cache
def states(**changes: object) -> tuple[StateSpec, ...]:
    return describe(seeded_model(published_arch("a0", True, **changes)), SIDE).states


def video(seed: int, count: int = 6) -> list[np.ndarray]:
    frames = moving_pattern(count, *SIDE, seed)
    return [frame[None].astype(np.float32) / 255 for frame in frames]


VIDEOS = [video(seed) for seed in range(2)]


def encode(value: np.ndarray, how: Quantization | None) -> np.ndarray:
    if how is None:
        return value
    return np.clip(np.round(value / how.scale) + how.zero_point, 0, 255).astype(np.uint8)


def run(path: Path, frames: list[np.ndarray], rules: Sequence[StateSpec] = ()) -> np.ndarray:
    """Logits [frames, classes] with the states fed back as they are."""
    session = onnxruntime.InferenceSession(
        str(path), session_options(1), providers=["CPUExecutionProvider"]
    )
    raw, names = quantization(path), [o.name for o in session.get_outputs()]
    inputs = {
        i.name: encode(np.zeros(i.shape, np.float32), raw.get(i.name)) for i in session.get_inputs()
    }
    logits = []
    for frame in frames:
        inputs[FRAME] = encode(frame, raw.get(FRAME))
        out = dict(zip(names, session.run(names, inputs), strict=True))
        for state in rules or states():
            carried = state.carry_input in inputs
            past = [state.carry_input] if carried else state.fresh_inputs
            newer = [*(inputs[name] for name in past[1:]), out[state.carry_input + NEW]]
            inputs.update(zip(past, newer, strict=True))
        logits.append(out[LOGITS][0])
    return np.stack(logits)


def cosine(ours: np.ndarray, reference: np.ndarray) -> float:
    a, b = ours - reference.mean(0), reference - reference.mean(0)
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


def types(path: Path) -> dict[str, str]:
    graph = onnx.load(path).graph
    return {
        v.name: onnx.TensorProto.DataType.Name(v.type.tensor_type.elem_type)
        for v in [*graph.input, *graph.output]
    }


@pytest.mark.parametrize(
    ("quantize", "least_cosine", "most_bytes"),
    [
        (onnx_quantize.half_weights, 0.9999, 0.52),
        (onnx_quantize.integer_weights, 0.95, 0.28),
        (onnx_quantize.dynamic, 0.99, 0.60),
    ],
)
def test_fewer_bits_in_weights_only(
    quantize: Callable[[Path, Path], None],
    least_cosine: float,
    most_bytes: float,
    models: Models,
    tmp_path: Path,
) -> None:
    source, target, again = models(), tmp_path / "q.onnx", tmp_path / "again.onnx"
    quantize(source, target)
    reference = run(source, VIDEOS[0])
    logits = run(target, VIDEOS[0])
    assert cosine(logits, reference) > least_cosine
    assert target.stat().st_size < most_bytes * source.stat().st_size
    assert types(target) == types(source)
    assert onnx.load(target).metadata_props == onnx.load(source).metadata_props
    quantize(source, again)
    assert again.read_bytes() == target.read_bytes()


def optimised(path: Path, tmp_path: Path) -> OnnxGraph:
    """What ONNX Runtime makes of a model."""
    options = session_options(1)
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return OnnxGraph.read(tmp_path / "optimised.onnx")


def kinds(graph: OnnxGraph) -> set[str]:
    return {node.op_type for node in graph.nodes}


def test_engines_convert_weights_once(models: Models, tmp_path: Path) -> None:
    for quantize in (onnx_quantize.half_weights, onnx_quantize.integer_weights):
        quantize(models(), tmp_path / "q.onnx")
        graph = optimised(tmp_path / "q.onnx", tmp_path)
        assert not kinds(graph) & {"Cast", "DequantizeLinear"}
        plain = optimised(models(), tmp_path)
        assert len(graph.nodes) == len(plain.nodes)


def test_dynamic_keeps_convolutions_and_fuses_dense_layers(models: Models, tmp_path: Path) -> None:
    onnx_quantize.dynamic(models(), tmp_path / "q.onnx")
    found = kinds(optimised(tmp_path / "q.onnx", tmp_path))
    assert "DynamicQuantizeMatMul" in found
    assert not found & {"ConvInteger", "MatMulInteger", "MatMul", "Gemm"}


@pytest.mark.parametrize("form", ["fresh", "carry"])
def test_static(form: str, models: Models, tmp_path: Path) -> None:
    source, target, again = models(form, fold=True), tmp_path / "q.onnx", tmp_path / "again.onnx"
    raw = static(source, target, VIDEOS, states())
    assert raw == quantization(target)
    fresh = video(9)
    reference = run(source, fresh)
    logits = run(target, fresh)
    assert cosine(logits, reference) > 0.8  # of untrained weights
    kind, makers = types(target), OnnxGraph.read(target).makers()
    assert raw[FRAME].zero_point == 0
    assert raw[FRAME].scale == pytest.approx(1 / 255)
    for state in states():
        new, names = state.carry_input + NEW, state.fresh_inputs
        names = [state.carry_input] if form == "carry" else names
        shift = state.rule == "shift"
        assert {kind[name] for name in [*names, new]} == {"UINT8" if shift else "FLOAT"}
        assert len({raw.get(name) for name in [*names, new]}) == 1
        if not shift:  # nothing between a mean's old value and its new one is rounded
            assert makers[new].op_type == "Add"
            assert not {makers[x].op_type for x in makers[new].input if x in makers} & QDQ
    assert kind[LOGITS] == "FLOAT"
    assert onnx.load(target).metadata_props == onnx.load(source).metadata_props
    if form == "fresh":
        static(source, again, VIDEOS, states())
        assert again.read_bytes() == target.read_bytes()


def test_static_leaves_nothing_else_in_float(models: Models, tmp_path: Path) -> None:
    """Dense layers and the vectors between them are as those of `dynamic`."""
    static(models(fold=True), tmp_path / "q.onnx", VIDEOS[:1], states())
    found = kinds(optimised(tmp_path / "q.onnx", tmp_path))
    assert {"QLinearConv", "QLinearMul", "DynamicQuantizeMatMul"} <= found
    assert not found & {"Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "HardSigmoid"}


@pytest.mark.parametrize(
    ("form", "changes"),
    [
        ("carry", {"conv": "3d", "positional_encoding": True}),
        ("fresh", {"conv": "3d", "gate": "sigmoid", "activation": "swish"}),
        ("fresh", {"squeeze_excite": "none", "activation": "relu6"}),
    ],
    ids=str,
)
def test_static_of_other_spellings(
    form: str, changes: dict[str, object], models: Models, tmp_path: Path
) -> None:
    source, target, rules = (
        models(form, fold=True, **changes),
        tmp_path / "q.onnx",
        states(**changes),
    )
    raw = static(source, target, VIDEOS[:1], rules)
    assert {s.carry_input + NEW for s in rules if s.rule == "shift"} <= set(raw)
    reference = run(source, VIDEOS[1], rules)
    assert cosine(run(target, VIDEOS[1], rules), reference) > 0.9


def test_keep_float(models: Models, tmp_path: Path) -> None:
    source, target = models(fold=True), tmp_path / "q.onnx"
    names = [n.name for n in OnnxGraph.read(source).nodes if n.op_type == "Gemm"]
    kept = names[-2:]
    static(source, target, VIDEOS[:1], states(), lambda name: name in kept)
    graph = OnnxGraph.read(target)
    floats = [n for n in graph.nodes if n.op_type == "MatMul"]
    assert [n.name for n in floats] == [f"{name}_MatMul" for name in kept]
    assert all(n.input[1] in graph.constants() for n in floats)
    # Both ends of a float mean and the float layer behind it are joined without integers.
    assert floats[0].input[0] == f"head_pool{NEW}"


def test_a_state_half_in_float_is_float(models: Models, tmp_path: Path) -> None:
    source, target = models(fold=True), tmp_path / "q.onnx"
    state = next(s for s in states() if s.rule == "shift")
    graph = OnnxGraph.read(source)
    (window,) = graph.readers(state.fresh_inputs[0])
    raw = static(source, target, VIDEOS[:1], states(), lambda name: name == window.name)
    kind = types(target)
    for name in [*state.fresh_inputs, state.carry_input + NEW]:
        assert name not in raw
        assert kind[name] == "FLOAT"
    run(target, VIDEOS[0])


def changed(source: Path, target: Path, values: Mapping[str, float]) -> Path:
    """A copy with the first element of some constants replaced."""
    graph = OnnxGraph.read(source)
    for name, value in values.items():
        array = graph.value(name).copy()
        array.flat[0] = value
        graph.replace(name, onnx.numpy_helper.from_array(array, name))
    target.write_bytes(graph.model.SerializeToString())
    return target


def test_refusals(models: Models, tmp_path: Path) -> None:
    target, weight = tmp_path / "q.onnx", "body.stem.weight"
    bad = changed(models(fold=True), tmp_path / "bad.onnx", {"body.stem.bias": np.nan})
    for quantize in (
        onnx_quantize.half_weights,
        onnx_quantize.integer_weights,
        onnx_quantize.dynamic,
        lambda a, b: static(a, b, VIDEOS[:1], states()),
    ):
        with pytest.raises(BadInput, match=r"stem\.bias hold NaN or infinity; export a "):
            quantize(bad, target)
    large = changed(models(), tmp_path / "large.onnx", {weight: 1e5})
    with pytest.raises(BadInput, match="beyond float16; export with integer weights"):
        onnx_quantize.half_weights(large, target)
    huge = changed(models(fold=True), tmp_path / "huge.onnx", {weight: 3e38})
    with pytest.raises(BadInput, match="NaN or infinite on the calibration videos; export a"):
        static(huge, target, [[frame * 0 + 1 for frame in VIDEOS[0]]], states())
    for nothing in ([], [[]]):
        with pytest.raises(BadInput, match="no frames to calibrate with; give at least one"):
            static(models(fold=True), target, nothing, states())
    assert not target.exists()
