"""Facts of model files, and the checks on them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from movinet_edge.bundle import Bundle, ModelFile, TensorSpec, sha256_of
from movinet_edge.export.facts import graph_facts, onnx_facts
from movinet_edge.export.verify_record import Check


def failed(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.detail for check in checks if not check.holds}


def test_facts_of_a_good_bundle(a0_bundle: Path) -> None:
    facts, checks, notes = graph_facts(Bundle(a0_bundle))
    assert not notes
    assert not failed(checks)
    found = {fact.format: fact for fact in facts}
    onnx_file, tflite = found["onnx"], found["tflite"]
    assert onnx_file.opset == 18
    assert {"architecture", "preprocessing"} <= set(onnx_file.embedded)
    assert onnx_file.operators["Conv"] > 60
    assert tflite.partitions == 1
    assert tflite.fully_accelerated is True
    assert tflite.transposes == 0
    assert tflite.max_rank == onnx_file.max_rank == 4
    assert "metadata.json" in tflite.embedded
    assert tflite.operators["HARD_SWISH"] == onnx_file.operators["HardSwish"]
    assert "DELEGATE" not in tflite.operators


def test_census_is_the_interpreters(a0_bundle: Path) -> None:
    """The file's own operators are what the engine sees without delegates."""
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    facts, _, _ = graph_facts(Bundle(a0_bundle))
    (tflite,) = [fact for fact in facts if fact.format == "tflite"]
    plain = interpreter.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    engine = interpreter.Interpreter(
        str(a0_bundle / tflite.path), experimental_op_resolver_type=plain
    )
    names = [op["op_name"] for op in engine._get_ops_details()]
    assert {name: names.count(name) for name in set(names)} == tflite.operators


def test_bad_onnx_graph_fails_every_check(tmp_path: Path) -> None:
    video = helper.make_tensor_value_info("video", TensorProto.FLOAT, [1, 3, 4, 8, 8])
    result = helper.make_tensor_value_info("result", TensorProto.FLOAT, None)
    weight = onnx.numpy_helper.from_array(np.zeros((2, 3, 1, 1, 1), np.float32), "weight")
    nodes = [
        helper.make_node("Conv", ["video", "weight"], ["y"]),
        helper.make_node("Fancy", ["y"], ["result"], domain="acme"),
    ]
    graph = helper.make_graph(nodes, "bad", [video], [result], [weight])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("acme", 1)]
    path = tmp_path / "bad.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets), path)
    frame = TensorSpec(name="frame", role="frame", shape=(1, 3, 4, 8, 8))
    file = ModelFile(
        path="bad.onnx",
        format="onnx",
        precision="fp32",
        sha256=sha256_of(path),
        bytes=path.stat().st_size,
        runtime="any",
        inputs=(frame,),
        outputs=(TensorSpec(name="result", role="output", shape=(1, 2)),),
    )
    facts, checks = onnx_facts(path, file)
    assert facts.operators == {"Conv": 1, "custom:acme.Fancy": 1}
    assert failed(checks) == {
        "rank at most 4": "highest rank 5",
        "no 3-D convolution": "1 of them",
        "no custom operator": "custom:acme.Fancy",
        "names as in the manifest": "differ: frame, video",
    }


def test_damaged_file_is_a_failed_check(a0_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Bundle(a0_bundle)
    damaged = a0_bundle / "golden.npz"
    monkeypatch.setattr(bundle, "file", lambda entry: damaged)
    facts, checks, _ = graph_facts(bundle)
    assert not facts
    assert {(check.name, check.holds) for check in checks} == {("readable", False)}


def test_missing_package_is_said(a0_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "onnx" else find(name, *a)
    )
    facts, _, notes = graph_facts(Bundle(a0_bundle))
    assert [fact.format for fact in facts] == ["tflite"]
    assert notes == ["no graph facts of step.onnx: onnx is not installed"]
