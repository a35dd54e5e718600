"""Protocols of evaluation: which frames a model sees, its answers and its arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from movinet_edge.bundle import Graph, Plan, PlanStep
from movinet_edge.errors import BadInput
from movinet_edge.models.movinet import MoViNet
from movinet_edge.streaming.spec import describe
from movinet_edge.train.protocols import EvalProtocol, TorchPredictor, combined, plan_macs
from tests.evaluation import CPU, SIDE, predictor, video

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("protocol", "length", "windows"),
    [
        (EvalProtocol("stream"), 9, [(0, 9)]),
        (EvalProtocol("clip", 4), 9, [(2, 6)]),
        (EvalProtocol("clip", 4), 10, [(3, 7)]),
        (EvalProtocol("clip", 1), 9, [(4, 5)]),
        (EvalProtocol("clip", 50), 9, [(0, 9)]),
        (EvalProtocol("clip"), 9, [(0, 9)]),
        (EvalProtocol("multi-clip", 4, 3), 12, [(0, 4), (4, 8), (8, 12)]),
        (EvalProtocol("multi-clip", 4, 3), 7, [(0, 4), (1, 5), (3, 7)]),
        (EvalProtocol("multi-clip", 4, 10), 5, [(0, 4), (1, 5)]),
        (EvalProtocol("multi-clip", 4, 10), 3, [(0, 3)]),
        (EvalProtocol("multi-clip", 4, 1), 9, [(2, 6)]),
    ],
)
def test_windows(protocol: EvalProtocol, length: int, windows: list[tuple[int, int]]) -> None:
    assert [(w.start, w.stop) for w in protocol.windows(length)] == windows


def test_clips_are_spread_over_the_video() -> None:
    for length in range(1, 40):
        for frames in (1, 2, 5, 39):
            for clips in (2, 3, 10):
                windows = EvalProtocol("multi-clip", frames, clips).windows(length)
                starts = [w.start for w in windows]
                assert all(w.stop - w.start == min(frames, length) for w in windows)
                assert starts[0] == 0
                assert windows[-1].stop == length
                assert len(set(starts)) == len(starts) == min(clips, max(length - frames, 0) + 1)
                gaps = np.diff(starts)
                assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1


def test_probabilities_are_averaged() -> None:
    logits = torch.randn(4, 7, generator=torch.Generator().manual_seed(0)) * 5
    expected = logits.softmax(1).mean(0)
    torch.testing.assert_close(combined(logits).softmax(0), expected)
    torch.testing.assert_close(combined(logits).exp(), expected)
    assert torch.equal(combined(logits[:1]), logits[0])


def test_a_stream_is_the_step_by_step_loop(stream_model: MoViNet) -> None:
    frames = video(19)
    state = None
    with torch.no_grad():
        for frame in frames:
            logits, state = stream_model(frame[None, None], state)
        whole, _ = stream_model(frames[None])
    answer = predictor(stream_model, "stream").predict(frames)
    torch.testing.assert_close(answer, logits[0, 0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(answer, whole[0, -1], atol=1e-4, rtol=1e-4)


def test_chunks_do_not_matter(stream_model: MoViNet) -> None:
    frames, streaming = video(19), predictor(stream_model, "stream")
    reference = streaming._logits(frames, 19)
    for chunk in (1, 3, 8, 18, 100):
        answer = streaming._logits(frames, chunk)
        torch.testing.assert_close(answer, reference, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("causal", [True, False])
def test_clips_are_the_loop_over_windows(
    stream_model: MoViNet, base_model: MoViNet, causal: bool
) -> None:
    model, frames = stream_model if causal else base_model, video(14)
    with torch.no_grad():
        passes = [model(frames[None, s : s + 6])[0][0, -1] for s in (0, 4, 8)]
    answer = predictor(model, "clip", 6).predict(frames)
    torch.testing.assert_close(answer, passes[1])
    answer = predictor(model, "multi-clip", 6, 3).predict(frames)
    mean = torch.stack([p.softmax(0) for p in passes]).mean(0)
    torch.testing.assert_close(answer.softmax(0), mean)


@pytest.mark.parametrize("causal", [True, False])
def test_one_clip_of_everything_is_the_clip(
    stream_model: MoViNet, base_model: MoViNet, causal: bool
) -> None:
    model, frames = stream_model if causal else base_model, video(9)
    whole = predictor(model, "clip", 9).predict(frames)
    assert torch.equal(predictor(model, "multi-clip", 9, 1).predict(frames), whole)
    assert torch.equal(predictor(model, "multi-clip", 30, 10).predict(frames), whole)
    assert torch.equal(predictor(model, "clip").predict(frames), whole)  # 50 frames by default
    if causal:
        streamed = predictor(model, "stream").predict(frames)
        torch.testing.assert_close(streamed, whole, atol=1e-4, rtol=1e-4)


def test_the_default_clip_is_the_architectures(base_model: MoViNet) -> None:
    assert predictor(base_model, "clip").protocol == EvalProtocol("clip", 50, 1)
    assert predictor(base_model, "multi-clip").protocol == EvalProtocol("multi-clip", 50, 10)


def test_half_precision_is_close(stream_model: MoViNet) -> None:
    frames = video(6)
    exact = predictor(stream_model, "stream")
    half = TorchPredictor(
        stream_model, (SIDE, SIDE), EvalProtocol("stream"), CPU, amp=torch.bfloat16
    )
    one, two = exact.predict(frames), half.predict(frames)
    assert two.dtype == torch.float32
    assert 0 < (one - two).abs().max() < 0.2 * one.std()


@pytest.mark.parametrize("causal", [True, False])
def test_macs(stream_model: MoViNet, base_model: MoViNet, causal: bool) -> None:
    model = stream_model if causal else base_model

    def macs(frames: int) -> int:
        return describe(model, (SIDE, SIDE), frames).macs

    clip, many = predictor(model, "clip", 9), predictor(model, "multi-clip", 6, 4)
    for length in (1, 2, 5, 9):
        assert clip.macs(length) == macs(length)
    assert clip.macs(20) == macs(9)
    assert many.macs(20) == 4 * macs(6)
    assert many.macs(7) == 2 * macs(6)
    assert clip.state_bytes == 0
    if causal:
        stream = predictor(model, "stream")
        assert stream.macs(20) == 20 * macs(1)
        assert stream.state_bytes == describe(model, (SIDE, SIDE)).state_bytes


def test_macs_of_plans() -> None:
    def graph(name: str, macs: int, frames: int = 1) -> Graph:
        form: Any = "clip" if frames > 1 else "fresh"
        return Graph(name=name, form=form, frames=frames, macs=macs, states=(), files=())

    graphs = {g.name: g for g in (graph("a", 100), graph("b", 7), graph("c", 1000, 4))}
    steps = (PlanStep(graph="a", every=1), PlanStep(graph="b", every=3, offset=1))
    alternating = Plan(steps=steps)
    assert plan_macs(alternating, graphs, 1) == 100
    assert plan_macs(alternating, graphs, 2) == 200 + 7
    assert plan_macs(alternating, graphs, 9) == 900 + 3 * 7
    clips = Plan(steps=(PlanStep(graph="c", every=1),))
    # A first clip that is not full is completed; a later one is left out.
    assert [plan_macs(clips, graphs, n) for n in (1, 4, 7, 8)] == [1000, 1000, 1000, 2000]


def test_protocols_that_cannot_be(base_model: MoViNet) -> None:
    with pytest.raises(BadInput, match=r"sees whole clips and does not stream; use --protocol cl"):
        predictor(base_model, "stream")
    with pytest.raises(BadInput, match="unknown protocol 'strem'; choose stream, clip, multi-clip"):
        EvalProtocol("strem")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="at least 1 frame, not 0; change --frames"):
        EvalProtocol("clip", 0)
    with pytest.raises(BadInput, match="at least 1 clip, not 0; change --clips"):
        EvalProtocol("multi-clip", 4, 0)
