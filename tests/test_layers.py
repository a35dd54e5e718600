"""Streaming layers: one forward for clips and streams."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from movinet_edge.streaming.layers import (
    DepthwiseConv,
    PositionalEncoding,
    RunningMean,
    StreamBuffer,
    TemporalShift,
    pad_same,
    same_padding,
    tick,
)
from movinet_edge.streaming.state import CLOCK, State, detach, name_states
from tests.pieces import in_pieces


class CausalConv(nn.Module):
    """A stream buffer in front of a temporal convolution."""

    def __init__(self, time: int, space: int, stride: int = 1):
        super().__init__()
        self.stream = StreamBuffer(time - 1)
        self.conv = DepthwiseConv(4, (time, space), stride)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        window, entry = self.stream(x, state)
        return self.conv(window), entry


class Pooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pool = RunningMean()

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        y, entry = self.pool(x.mean((3, 4)), state)
        return y, entry | tick(state, x)


class Encoded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.position = PositionalEncoding(4)
        nn.init.ones_(self.position.scale)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return self.position(x.mean((3, 4)), state), tick(state, x)


LAYERS = [
    pytest.param(lambda: CausalConv(3, 1), id="temporal-3x1"),
    pytest.param(lambda: CausalConv(5, 1), id="temporal-5x1"),
    pytest.param(lambda: CausalConv(3, 3, stride=2), id="3d-3x3-stride-2"),
    pytest.param(lambda: TemporalShift(4, fold=2), id="temporal-shift"),
    pytest.param(Pooled, id="running-mean"),
    pytest.param(Encoded, id="positional-encoding"),
]
CUTS = [[9], [1] * 9, [1, 3, 5], [4, 1, 4], [2, 7]]


def make(factory: object) -> nn.Module:
    torch.manual_seed(0)
    assert callable(factory)
    layer = factory()
    name_states(layer)
    return layer


@pytest.mark.parametrize("factory", LAYERS)
@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_clip_equals_sub_clips(factory: object, cut: list[int]) -> None:
    layer, x = make(factory), torch.randn(2, 9, 4, 7, 6)
    whole, last = layer(x, {})
    parts, state = in_pieces(layer, x, cut)
    torch.testing.assert_close(parts, whole)
    for name, value in last.items():
        torch.testing.assert_close(state[name], value)


@pytest.mark.parametrize("factory", LAYERS)
def test_future_frames_do_not_matter(factory: object) -> None:
    layer, x = make(factory), torch.randn(1, 6, 4, 5, 5)
    other = torch.cat([x[:, :4], torch.randn(1, 2, 4, 5, 5)], 1)
    torch.testing.assert_close(layer(x, {})[0][:, :4], layer(other, {})[0][:, :4])


@pytest.mark.parametrize("factory", LAYERS)
def test_state_is_a_value_and_matters(factory: object) -> None:
    layer, x = make(factory), torch.randn(1, 3, 4, 5, 5)
    _, state = layer(x, {})
    before = {name: value.clone() for name, value in state.items()}
    y, _ = layer(x, state)
    for name, value in before.items():
        assert torch.equal(state[name], value), "a layer changed the state it was given"
    for name in state:
        changed = dict(state) | {name: state[name] + 1}
        assert not torch.equal(layer(x, changed)[0], y), f"{name} does not matter"


def test_temporal_shift_takes_the_frame_before() -> None:
    layer, x = make(lambda: TemporalShift(8, fold=4)), torch.randn(1, 4, 8, 2, 2)
    y, entry = layer(x, {})
    assert torch.equal(y[:, 1:, :2], x[:, :-1, :2])
    assert not y[:, 0, :2].any()
    assert torch.equal(y[:, :, 2:], x[:, :, 2:])
    assert entry["stream"].shape == (1, 1, 2, 2, 2)


def test_running_mean_does_not_grow() -> None:
    layer, state = make(Pooled), {}
    state = {CLOCK: torch.tensor([1e6]), "pool": torch.full((1, 4), 0.25)}
    y, after = layer(torch.full((1, 1, 4, 2, 2), 0.25), state)
    torch.testing.assert_close(y, torch.full((1, 1, 4), 0.25))
    assert after[CLOCK].item() == 1e6 + 1


def test_gradients_cross_sub_clips_only_where_they_may() -> None:
    layer, x = make(lambda: CausalConv(3, 1)), torch.randn(1, 4, 4, 3, 3, requires_grad=True)
    _, state = layer(x[:, :2], {})
    stopped, _ = layer(x[:, 2:], detach(state))
    (grad,) = torch.autograd.grad(stopped.sum(), x, retain_graph=True)
    assert not grad[:, :2].any()
    kept, _ = layer(x[:, 2:], state)
    (grad,) = torch.autograd.grad(kept.sum(), x)
    assert grad[:, :2].any()


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [
        (172, 3, 2, (0, 1)),
        (43, 3, 2, (1, 1)),
        (86, 5, 2, (1, 2)),
        (43, 5, 2, (2, 2)),
        (11, 3, 1, (1, 1)),
        (6, 5, 1, (2, 2)),
        (7, 1, 1, (0, 0)),
    ],
)
def test_same_padding_is_tensorflows(
    size: int, kernel: int, stride: int, expected: tuple[int, int]
) -> None:
    assert same_padding(size, kernel, stride) == expected
    x = pad_same(torch.zeros(1, 1, size, size), kernel, stride)
    assert (x.shape[2] - kernel) // stride + 1 == -(-size // stride)


def test_depthwise_spellings_agree_with_conv3d() -> None:
    for kernel, stride in [((3, 1), 1), ((5, 1), 1), ((1, 3), 2), ((3, 5), 2)]:
        conv = DepthwiseConv(4, kernel, stride)
        x = torch.randn(2, 6, 4, 9, 8)
        padded = pad_same(x, kernel[1], stride) if kernel[1] > 1 else x
        expected = nn.functional.conv3d(
            padded.transpose(1, 2), conv.weight, stride=(1, stride, stride), groups=4
        ).transpose(1, 2)
        torch.testing.assert_close(conv(x), expected, atol=1e-5, rtol=1e-4)
