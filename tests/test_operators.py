"""Profiles per operator. Nothing here asserts a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from movinet_edge.benchmarks.operators import TOP, OperatorReport, measure, operators_table, summed
from movinet_edge.bundle import Bundle
from movinet_edge.errors import BadInput
from tests.conftest import BundleFactory


def test_kinds_are_added_up_and_medians_taken() -> None:
    runs = [[("a", 1.0), ("b", 5.0), ("a", 2.0)], [("a", 1.0), ("b", 9.0), ("a", 4.0)]]
    assert [(f.operator, f.count, f.ms) for f in summed(runs)] == [("a", 2, 4.0), ("b", 1, 7.0)]


def test_onnxruntime_tells_of_its_nodes(small_bundle: Path) -> None:
    pytest.importorskip("onnxruntime")
    report = measure(Bundle(small_bundle), "onnxruntime", runs=3)
    assert OperatorReport.model_validate_json(report.model_dump_json()) == report
    counts = {row.operator: row.count for row in report.operators}
    # The classifier's two dense layers, and two of every squeeze-excite.
    assert counts["Gemm"] == 2 + 2 * 15
    assert all(row.ms > 0 for row in report.operators[:TOP])
    times = [row.ms for row in report.operators]
    assert times == sorted(times, reverse=True)
    table = operators_table([report])
    assert f"{len(times) - TOP} others" in table
    assert table.count("\n") == TOP + 4


def test_litert_tells_of_what_xnnpack_runs(bundles: BundleFactory) -> None:
    pytest.importorskip("ai_edge_litert")
    bundle = bundles("movinet-a0-stream", side=64, formats=("tflite",))
    report = measure(Bundle(bundle), "litert", runs=3)
    counts = {row.operator: row.count for row in report.operators}
    # One in every block, and one more for every temporal convolution.
    depthwise = sum(n for name, n in counts.items() if name.endswith("DWConv"))
    assert depthwise == 15 + 11
    assert report.operators[0].ms > 0


def test_engines_without_a_profile(small_bundle: Path) -> None:
    with pytest.raises(BadInput, match="torch has no profile; take one of litert, onnxruntime"):
        measure(Bundle(small_bundle), "torch")
    with pytest.raises(BadInput, match="has no fp32 tflite file"):
        measure(Bundle(small_bundle), "litert")
