"""G-TAD's layers: sampling against plain loops, sizes, neighbours, gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from movinet_edge.localization.anchors import Anchors
from movinet_edge.models.gtad import GTad, as_map, as_rows
from movinet_edge.models.gtad_align import SGAlign
from movinet_edge.models.gtad_graph import nearest
from movinet_edge.models.gtad_sampling import sampling
from movinet_edge.models.gtad_table import gtad_arch
from tests.gtad_reference import neighbours, picked, region, samples

slow = pytest.mark.slow


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("label", "changes", "count"),
    [
        ("activitynet", {}, 5_563_268),
        ("first", {}, 9_495_428),
        ("thumos", {"features": 400}, 5_563_268 - 256 * 4 * 512 + 2 * 8 * 128 * 128),
    ],
)
def test_parameters(label: str, changes: dict[str, object], count: int) -> None:
    model = GTad(gtad_arch(label, **changes))
    assert sum(parameter.numel() for parameter in model.parameters()) == count


@pytest.mark.parametrize(
    ("snippets", "durations", "bins"),
    [
        (25, 25, (32, 4)),
        (25, 7, (16, 16)),
        (50, 50, (32, 4)),
        pytest.param(100, 100, (32, 4), marks=slow),
        pytest.param(256, 64, (16, 16), marks=slow),
    ],
)
def test_anchors_are_sampled_as_by_plain_loops(
    snippets: int, durations: int, bins: tuple[int, int]
) -> None:
    arch = gtad_arch(
        "activitynet",
        snippets=snippets,
        durations=durations,
        bins=bins[0],
        context_bins=bins[1],
    )
    torch.manual_seed(1)
    align, anchors = SGAlign(arch), arch.anchors()
    x, around = random(1, 256, snippets), random(1, 256, snippets, seed=2)
    with torch.no_grad():
        found = align(x, around, anchors, outside=True)[0]
        weight = torch.cat([align.features, align.context], 1).flatten(0, 1)
        regions = [
            region(start, length - 1, snippets)
            for start, length in zip(anchors.starts, anchors.lengths, strict=True)
        ]
        for first in range(0, len(regions) + 1, 500):
            rows = [
                samples(x[0].numpy(), around[0].numpy(), at, bins)
                for at in [*regions, (0.0, 0.0)][first : first + 500]
            ]
            expected = torch.from_numpy(np.array(rows)).float() @ weight + align.bias
            torch.testing.assert_close(found[first : first + 500], expected, atol=1e-5, rtol=0)


def test_gradients_are_those_of_the_whole_matrix() -> None:
    arch = gtad_arch("activitynet", snippets=12, durations=9, bins=3, context_bins=2)
    torch.manual_seed(3)
    align, anchors = SGAlign(arch).double(), arch.anchors()
    matrix = torch.from_numpy(sampling(anchors, 3, 2, True).dense()).double()
    x, around = (random(2, 256, 12, seed=k).double().requires_grad_() for k in (4, 5))
    inputs = [x, around, *align.parameters()]
    out = align(x, around, anchors, outside=True)
    target = random(*out.shape, seed=6).double()
    found = torch.autograd.grad((out * target).sum(), inputs)

    parts = zip((x, around), (align.features, align.context), strict=True)
    each = [torch.einsum("bct,cpo->btpo", values, weight).flatten(1, 2) for values, weight in parts]
    whole = matrix @ torch.cat(each, 1) + align.bias
    torch.testing.assert_close(out, whole)
    expected = torch.autograd.grad((whole * target).sum(), inputs)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_neighbours_are_the_nearest_places() -> None:
    x = random(2, 256, 30)
    found = nearest(x)(x)
    expected = picked(x, neighbours(x))
    torch.testing.assert_close(found, expected)


def test_equal_places_count_one_by_one() -> None:
    x = random(1, 8, 10)
    x[:, :, 4:] = 0  # as windows behind the end of a video are
    found = nearest(x)(x)
    assert found[0, :, 5:].count_nonzero() == 0
    torch.testing.assert_close(found[:, :, :4], picked(x, neighbours(x))[:, :, :4])


def test_weights_serve_videos_in_fewer_snippets() -> None:
    model = GTad(gtad_arch("thumos", features=16, snippets=32, durations=8)).eval()
    scores = model(random(1, 16, 16))
    assert model.arch.anchors(16) == Anchors(16, 4)
    assert scores.overlap.shape == scores.action.shape == (1, 16 + 15 + 14 + 13)
    assert scores.start.shape == scores.end.shape == (1, 16)


def test_maps_and_rows_are_the_same_anchors() -> None:
    anchors = Anchors(5, 3)
    rows = random(2, 4, len(anchors))
    full = as_map(rows, anchors)
    assert full.shape == (2, 4, 3, 5)
    assert full[0, 0].count_nonzero() == len(anchors) == 5 + 4 + 3
    assert torch.equal(as_rows(full, anchors), rows)
    np.testing.assert_array_equal(anchors.as_map(rows.numpy()), full.numpy())
    np.testing.assert_array_equal(anchors.as_rows(full.numpy()), rows.numpy())
    for row, (start, end) in enumerate(anchors.segments.astype(int)):
        assert full[1, 2, end - start - 1, start] == rows[1, 2, row]


@pytest.mark.parametrize("kernel", [1, 3])
def test_half_precision_has_full_probabilities(kernel: int) -> None:
    torch.manual_seed(0)
    model = GTad(gtad_arch("activitynet", features=16, snippets=20, durations=20, kernel=kernel))
    x = random(2, 16, 20)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(x)
    sum(part.sum() for part in half).backward()  # type: ignore[union-attr]
    for ours, theirs in zip(half, model(x), strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, atol=0.01, rtol=0)
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(
    "changes",
    [{"snippets": 10, "durations": 11}, {"kernel": 2}, {"features": 6}, {"snippets": 2}],
)
def test_sizes_that_are_none(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        gtad_arch("activitynet", **changes)
