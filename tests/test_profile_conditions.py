"""What the checkers of profiles ask of single operators, beyond what ONNX Runtime checks itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from movinet_edge.export.profile_checks import Row, coreml_onnx, nnapi_onnx


def one_node(path: Path, kind: str, constants: list[np.ndarray], **attributes: object) -> Path:
    """A graph of one operator on x [1, 4, 9, 9] (matrices: [1, 4]), whose weight comes in as w."""
    shape = [1, 4] if kind in ("Gemm", "MatMul") else [1, 4, 9, 9]
    weight = {"Conv": [4, 4, 1, 1], "Gemm": [4, 4], "MatMul": [4, 4]}.get(kind)
    values = {f"c{i}": value for i, value in enumerate(constants)}
    moving = {"x": shape} | ({"w": weight} if weight and not constants else {})
    node = helper.make_node(kind, [*moving, *values], ["y"], **attributes)  # type: ignore[arg-type]
    graph = helper.make_graph(
        [node, helper.make_node("Relu", ["y"], ["z"])],
        "one",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in moving.items()],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    opset = helper.make_opsetid("", 18)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    return path


def scalars(*values: float) -> list[np.ndarray]:
    return [np.array(value, np.float32) for value in values]


MATRIX = np.ones((4, 4), np.float32)
POOL = {"kernel_shape": [2, 2], "strides": [2, 2]}


@pytest.mark.parametrize(
    ("checker", "kind", "constants", "attributes", "holds"),
    [
        (nnapi_onnx, "Clip", scalars(0, 6), {}, True),
        (nnapi_onnx, "Clip", scalars(0, 1), {}, False),
        (nnapi_onnx, "Clip", scalars(0), {}, False),
        (coreml_onnx, "Clip", scalars(0, 1), {}, True),
        (nnapi_onnx, "AveragePool", [], POOL, True),
        (nnapi_onnx, "AveragePool", [], POOL | {"ceil_mode": 1}, False),
        (coreml_onnx, "AveragePool", [], POOL | {"ceil_mode": 1}, False),
        (coreml_onnx, "AveragePool", [], POOL | {"pads": [1] * 4, "count_include_pad": 1}, False),
        (nnapi_onnx, "Conv", [MATRIX[:, :, None, None]], {}, True),
        (nnapi_onnx, "Conv", [], {}, False),
        (coreml_onnx, "Conv", [], {}, False),
        (nnapi_onnx, "Gemm", [MATRIX, MATRIX[0]], {}, True),
        (nnapi_onnx, "Gemm", [], {}, False),
        (coreml_onnx, "Gemm", [MATRIX], {"alpha": 2.0}, False),
        (nnapi_onnx, "MatMul", [MATRIX], {}, True),
        (nnapi_onnx, "MatMul", [], {}, False),
        (coreml_onnx, "MatMul", [], {}, True),
        (coreml_onnx, "Reciprocal", [], {}, False),
    ],
)
def test_conditions_that_onnx_runtime_does_not_check(
    tmp_path: Path,
    checker: Callable[[Path], list[Row]],
    kind: str,
    constants: list[np.ndarray],
    attributes: dict[str, object],
    holds: bool,
) -> None:
    path = one_node(tmp_path / "one.onnx", kind, constants, **attributes)
    partition, conditions = checker(path)
    assert partition[1], partition
    assert conditions[1] == holds
    assert holds or conditions[2].startswith(kind)


def test_operators_without_support_are_named(tmp_path: Path) -> None:
    path = one_node(tmp_path / "one.onnx", "Reciprocal", [])
    name, holds, detail = nnapi_onnx(path)[0]
    assert (name, holds) == ("one NNAPI partition", False)
    assert detail.startswith("1 with 1 of 2 nodes")
    assert detail.endswith("not Reciprocal")
