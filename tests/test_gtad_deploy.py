"""G-TAD's graph for phones: equal to the model in both spellings, and in files of both formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from movinet_edge.bundle import SCORES, FormatName
from movinet_edge.export.facts import graph_facts_of
from movinet_edge.export.litert_graph import LitertGraph
from movinet_edge.export.model_files import LAYOUTS, SUFFIX
from movinet_edge.export.step_module import LOGITS, StepConfig, StepModule
from movinet_edge.export.to_litert import distinct
from movinet_edge.localization.anchors import Anchors
from movinet_edge.models.gtad import GTad
from movinet_edge.models.gtad_blocks import Blocks
from movinet_edge.models.gtad_deploy import FEATURES, Nearest, head_part
from movinet_edge.models.gtad_sampling import sampling
from movinet_edge.models.gtad_table import GTadArch, gtad_arch
from movinet_edge.streaming.deploy import Layout
from tests.gtad_reference import neighbours, picked

CLASSES = 3
SMALL = {"features": 8, "snippets": 10, "durations": 10, "bins": 8, "context_bins": 4}
# Places that are no multiple of a block, fewer durations, bins without quarters, both kernels.
SIZES: list[dict[str, object]] = [
    SMALL,
    {**SMALL, "snippets": 21, "durations": 13},
    {**SMALL, "snippets": 21, "durations": 13, "bins": 16, "context_bins": 16, "kernel": 3},
    {**SMALL, "bins": 6, "context_bins": 3},
    {**SMALL, "snippets": 3, "durations": 1, "bins": 5, "context_bins": 2, "kernel": 3},
    {**SMALL, "snippets": 60, "durations": 60},
]


def head(**changes: object) -> tuple[GTad, nn.Linear]:
    torch.manual_seed(0)
    arch = gtad_arch("activitynet", **changes)
    return GTad(arch).eval(), nn.Linear(arch.features, CLASSES)


def step(model: GTad, classify: nn.Linear, layout: Layout) -> StepModule:
    part = head_part(model, classify, layout)
    return StepModule(part.body(), part, StepConfig("fresh", layout, (1, 1))).eval()


def expected(model: GTad, classify: nn.Linear, features: Tensor) -> dict[str, np.ndarray]:
    """What the model gives for features [1, T, C], maps as rows of anchors."""
    with torch.no_grad():
        scores, logits = model(features.transpose(1, 2)), classify(features)
    return {n: s.numpy() for n, s in zip((*SCORES, LOGITS), (*scores, logits), strict=True)}


def worst(got: dict[str, np.ndarray], wanted: dict[str, np.ndarray], arch: GTadArch) -> float:
    anchors = arch.anchors()
    assert set(got) == set(wanted)
    rows = {n: anchors.as_rows(x) if n in SCORES[:2] else x for n, x in got.items()}
    return max(float(np.abs(rows[name] - wanted[name]).max()) for name in wanted)


@pytest.mark.parametrize("durations", [3, 8, 40])
@pytest.mark.parametrize("size", [(20, 20, 8, 4), (21, 13, 16, 16), (5, 2, 3, 1)], ids=str)
def test_blocks_are_the_sampling(size: tuple[int, int, int, int], durations: int) -> None:
    """Bands of an endless video and what its ends lack are the whole sparse matrix."""
    places, longest, *bins = size
    anchors, starts = Anchors(places, longest), 4
    blocks = Blocks(anchors, (bins[0], bins[1]), durations, starts)
    rng = np.random.default_rng(0)
    own, context = (rng.standard_normal((places, n)) for n in bins)
    full = sampling(anchors, *bins, False).dense() @ np.concatenate([own.ravel(), context.ravel()])
    values = np.concatenate([own, context], 1)
    ends = blocks.ends() @ np.concatenate([values[0], values[-1]])
    got, row = np.zeros((longest, places)), 0
    for lengths in blocks.bands:
        band = blocks.band(lengths)
        for block in range(blocks.count(lengths)):
            for number, length in enumerate(lengths):
                for start in range(block * starts, (block + 1) * starts):
                    at = start + band.first + np.arange(band.weights.shape[1])
                    inside = (at >= 0) & (at < places)
                    value = (band.weights[number][inside] * values[at[inside]]).sum() + ends[row]
                    if start + length <= places:
                        got[length - 1, start] = value
                    row += 1
    assert row == blocks.rows == len(ends)
    assert np.abs(anchors.as_rows(got) - full).max() < 1e-5


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("size", SIZES, ids=range(len(SIZES)))
def test_the_deploy_form_is_the_model(size: dict[str, object], layout: Layout) -> None:
    model, classify = head(**size)
    features = torch.randn(1, model.arch.snippets, model.arch.features)
    with torch.no_grad():
        got = {n: x.numpy() for n, x in step(model, classify, layout)(features=features).items()}
    assert worst(got, expected(model, classify, features), model.arch) < 1e-6


def test_neighbours_are_those_of_the_model() -> None:
    """Also where a window is filled up with zeros, which are all equally near."""
    x = torch.randn(1, 256, 12)
    x[:, :, 7:] = 0
    values = torch.randn(1, 5, 12)
    wanted = picked(values, neighbours(x))
    chosen = Nearest(12)(x.transpose(1, 2))
    got = torch.stack([best @ values.transpose(1, 2) for best in chosen], 3).transpose(1, 2)
    assert (got - wanted).abs().max() < 1e-6
    assert all((best.sum(2) == 1).all() for best in chosen)


@pytest.mark.parametrize("fmt", ["onnx", "tflite"])
def test_files_are_the_model(tmp_path: Path, fmt: FormatName) -> None:
    """Converted, run by its engine: equal scores; operators, ranks and partitions of a phone."""
    from movinet_edge.benchmarks.gtad_head import ENGINES, convert, loaded

    model, classify = head(**SMALL, kernel=3)
    path = tmp_path / f"head.{SUFFIX[fmt]}"
    file = convert(head_part(model, classify, LAYOUTS[fmt]), fmt, path)
    facts = graph_facts_of(path, file)
    assert facts.max_rank <= 4
    assert not any(name.startswith("custom:") for name in facts.operators)
    assert facts.partitions in (None, 1)
    rng = np.random.default_rng(1)
    for _ in range(2):
        window = rng.standard_normal((1, 10, 8)).astype(np.float32)
        window[:, 8:] = 0
        one = loaded(path, file, ENGINES[fmt], window)
        one.run()
        got = {name: buffer.array.copy() for name, buffer in one.outputs.items()}
        wanted = expected(model, classify, torch.from_numpy(window))
        assert worst(got, wanted, model.arch) < 1e-5
    assert FEATURES in {spec.name for spec in file.inputs}
    if fmt == "tflite":  # or the quantizer refuses it
        names = [tensor.name for tensor in LitertGraph(path).graph.tensors]
        assert len(set(names)) == len(names)


def test_names_of_tensors_are_told_apart() -> None:
    names = distinct(["a", "b", "a", "a;2", "a"])
    assert names == ["a", "b", "a;2", "a;2;2", "a;3"]


def test_the_committed_times_keep_what_is_promised() -> None:
    """Against the published way, on both engines; see docs/localization.md."""
    from movinet_edge.benchmarks.gtad_head import ENGINES, read

    record = read()
    assert (record.snippets, record.durations, record.bins) == (100, 100, (32, 4))
    assert {pair.engine for pair in record.pairs} == set(ENGINES.values())
    for pair in record.pairs:
        assert pair.faster >= 12
        assert pair.ours.held_bytes <= 150e6
        assert max(pair.ours.difference, pair.naive.difference) < 1e-5
        assert pair.ours.max_rank <= 4
        assert pair.ours.partitions in (None, 1)
