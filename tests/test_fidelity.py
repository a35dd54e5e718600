"""LoFi's configurations: what they reduce, in which order they come, what is refused."""

from __future__ import annotations

import math

import pytest

from movinet_edge.errors import BadInput
from movinet_edge.train.fidelity import REDUCTIONS, SHARES, fidelity, planned, turn


def test_the_published_table() -> None:
    found = {name: (fidelity(name).r_t, fidelity(name).r_s) for name in SHARES}
    assert found == {"S": (1, 2), "T": (4, 1), "ST": (2, pytest.approx(math.sqrt(2)))}
    sizes = {n: (fidelity(n).snippets(100), fidelity(n).side(224)) for n in SHARES}
    assert sizes == {"S": (100, 112), "T": (25, 224), "ST": (50, 158)}


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_all_reduce_alike(reduction: float) -> None:
    for one in planned("cycle-long", reduction):
        assert one.r_t * one.r_s**2 == pytest.approx(reduction)


def test_cycles() -> None:
    long = [turn("cycle-long", epoch, batch, 20) for epoch in range(4) for batch in (0, 19)]
    assert long == [0, 0, 1, 1, 2, 2, 0, 0]
    short = [turn("cycle-short", *divmod(step, 20), 20) for step in range(64)]
    assert short == [0] * 16 + [1] * 16 + [2] * 16 + [0] * 16
    assert {turn("T", epoch, 3, 20) for epoch in range(5)} == {0}
    assert [f.name for f in planned("T")] == ["T"]


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ("full", "there is no configuration 'full'; choose S, T, ST, cycle-long, cycle-short, or"),
        ("1x1", "the configuration 1x1 does not reduce what a step sees"),
        ("0.5x4", "does not reduce"),
    ],
)
def test_full_fidelity_is_refused(config: str, sentence: str) -> None:
    assert fidelity("2x1.5").r_s == 1.5
    with pytest.raises(BadInput, match=sentence):
        planned(config)


@pytest.mark.parametrize("config", ["1x1.001", "1.001x1"])
def test_a_reduction_that_rounding_undoes_is_refused(config: str) -> None:
    planned(config, snippets=10000, side=10000)
    with pytest.raises(BadInput, match=f"the configuration {config} leaves 100 snippets of 224"):
        planned(config, snippets=100, side=224)
