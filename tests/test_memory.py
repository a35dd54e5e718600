"""Peak memory of a model: every tensor that is alive counts, and no other."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from movinet_edge.models.movinet import MoViNet
from movinet_edge.train.memory import peak_memory, weights_bytes
from tests.evaluation import predictor, video

pytestmark = pytest.mark.usefixtures("one_thread")

MEGA = 4 * 1000 * 1000


def floats() -> Tensor:
    return torch.empty(1000, 1000)


def test_peak_of_known_tensors() -> None:
    def kept() -> None:
        held = [floats() for _ in range(3)]
        held.clear()

    def one_after_the_other() -> None:
        for _ in range(3):
            floats()

    def later() -> None:
        first = floats()
        del first
        second, third = floats(), floats()
        del second, third
        torch.empty(500, 1000)

    assert peak_memory(kept) == 3 * MEGA
    assert peak_memory(one_after_the_other) == MEGA
    assert peak_memory(later) == 2 * MEGA
    assert peak_memory(lambda: None) == 0


def test_what_was_there_before_does_not_count() -> None:
    old = [floats(), floats()]

    def exchange() -> None:
        old.pop()
        old.append(floats())
        old[0].zero_()

    assert peak_memory(exchange) == MEGA
    assert peak_memory(lambda: old.clear()) == 0


def test_peak_of_training_has_what_is_saved_for_the_backward_pass() -> None:
    """tanh saves its output: n layers keep n of them; without gradients two are alive."""
    start = floats().normal_().requires_grad_()

    def layers(count: int) -> Callable[[], None]:
        def run() -> None:
            x = start
            for _ in range(count):
                x = x.tanh()
            if x.requires_grad:
                x.sum().backward()
            start.grad = None

        return run

    peaks = [peak_memory(layers(n)) for n in (2, 4, 8)]
    assert peaks[1] - peaks[0] == 2 * MEGA
    assert peaks[2] - peaks[1] == 4 * MEGA
    assert 8 * MEGA < peaks[2] <= 11 * MEGA  # and the gradients under way
    with torch.no_grad():
        assert {peak_memory(layers(n)) for n in (2, 4, 8)} == {2 * MEGA}


def test_gradients_of_the_weights_count() -> None:
    net = nn.Linear(1000, 1000, bias=False)
    x = torch.zeros(1, 1000)
    peak = peak_memory(lambda: net(x).sum().backward())
    assert MEGA <= peak <= 1.01 * MEGA
    assert weights_bytes(net) == MEGA


def test_temporaries_inside_operators_count() -> None:
    """Softmax of a transposed tensor makes a contiguous copy of it first."""
    x = floats().t()
    with torch.no_grad():
        assert peak_memory(lambda: x.contiguous().softmax(1)) == 2 * MEGA
        assert peak_memory(lambda: x.softmax(1)) >= 2 * MEGA


def test_a_failure_is_passed_on() -> None:
    with pytest.raises(ZeroDivisionError):
        peak_memory(lambda: 1 / 0)
    assert peak_memory(floats) == MEGA


def test_a_streams_memory_is_flat(stream_model: MoViNet) -> None:
    long, short = video(24), video(6)
    stream = predictor(stream_model, "stream")
    peaks = [stream.peak_memory(frames) for frames in (short, long)]
    assert peaks[0] == peaks[1] is not None
    clip = predictor(stream_model, "clip", 24)
    small, large = clip.peak_memory(short), clip.peak_memory(long)
    assert small is not None
    assert large is not None
    assert large > 3.5 * small > 3.5 * peaks[0]
    assert large > long.nbytes  # the clip itself is counted
    many = predictor(stream_model, "multi-clip", 6, 4).peak_memory(long)
    assert many == pytest.approx(small, rel=0.01)


@pytest.mark.gpu
def test_peak_on_a_gpu(stream_model: MoViNet) -> None:
    def tensors() -> None:
        held = [torch.empty(1024, 1024, device="cuda") for _ in range(3)]
        held.clear()
        torch.empty(1024, 1024, device="cuda")

    torch.empty(1024, 1024, device="cuda")
    assert peak_memory(tensors, "cuda") == 3 * 4 * 1024 * 1024
