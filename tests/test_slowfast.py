"""SlowFast: published sizes, and streams that compute what whole clips do."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from movinet_edge.models.slowfast import NonLocal, SlowFast
from movinet_edge.models.slowfast_clip import clip_features, clip_logits
from movinet_edge.models.slowfast_stream import DelayedSlowFast, stream_features
from movinet_edge.models.slowfast_table import SlowFastArch, slowfast_arch
from movinet_edge.models.slowfast_timing import timing
from movinet_edge.streaming.state import State

SIDE = 32
SLOW: dict[str, Any] = {"pathways": ("slow",), "fusion": "none"}
FAST: dict[str, Any] = {"pathways": ("fast",), "fusion": "none", "beta_inverse": 2}
CASES = {
    "t-conv": {},
    "t-conv-7": {"fusion_kernel": 7},
    "t-conv-1": {"fusion_kernel": 1},
    "alpha-1": {"alpha": 1},
    "alpha-2": {"alpha": 2},
    "alpha-3": {"alpha": 3, "fusion_kernel": 7},
    "ttoc-sum": {"fusion": "ttoc-sum"},
    "ttoc-concat": {"fusion": "ttoc-concat"},
    "ttoc-concat-2": {"fusion": "ttoc-concat", "alpha": 2},
    "t-sample": {"fusion": "t-sample"},
    "none": {"fusion": "none"},
    "slow-waits": {"slow_temporal": (1, 1, 1, 1), "alpha": 8},
    "slow": SLOW,
    "fast": FAST,
}
every_case = pytest.mark.parametrize("changes", CASES.values(), ids=CASES.keys())


def tiny_arch(**changes: Any) -> SlowFastArch:
    record: dict[str, Any] = {
        "width": 8,
        "blocks": (1, 1, 1, 1),
        "slow_temporal": (0, 0, 1, 1),
        "fast_temporal": (1, 1, 1, 1),
        "classes": 5,
        "resolution": SIDE,
    }
    return slowfast_arch("small", **(record | changes))


def random_model(arch: SlowFastArch, seed: int = 0) -> SlowFast:
    """In float64, with batch norms that matter."""
    torch.manual_seed(seed)
    model = SlowFast(arch).double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, std=0.1)
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    nn.init.normal_(model.head.classify.weight, std=0.3)
    return model.eval()


def clip(frames: int, seed: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, frames, 3, SIDE, SIDE, generator=generator, dtype=torch.float64)


def same(got: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-11)


def flushed(arch: SlowFastArch, x: Tensor) -> tuple[Tensor, Tensor]:
    """The video with `delay` more frames of anything, and their flags."""
    delay = timing(arch).delay
    more = clip(delay, seed=7)
    valid = torch.cat([torch.ones(x.shape[1]), torch.zeros(delay)]).double()
    return torch.cat([x, more], 1), valid


def ticks(arch: SlowFastArch, frames: int) -> list[int]:
    return list(range(0, frames, arch.every))


def size(arch: SlowFastArch, side: int = 256) -> tuple[int, float]:
    """Parameters, and multiply-adds of one clip in units of 10^9."""
    with torch.device("meta"):
        model = SlowFast(arch).eval()
        x = torch.empty(1, arch.clip_frames, 3, side, side)
    macs = 0

    def count(module: nn.Module, _: object, output: Tensor) -> None:
        nonlocal macs
        weight = module.weight
        assert isinstance(weight, Tensor)
        macs += output.numel() * weight[0].numel()

    for module in model.modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor) and weight.dim() > 1:
            module.register_forward_hook(count)
    model(x)
    return sum(p.numel() for p in model.parameters()), macs / 1e9


@pytest.mark.parametrize(
    ("label", "parameters", "macs"),
    [
        ("4x16-r50", 34_480_216, 36.10),
        ("8x8-r50", 34_566_488, 65.71),
        ("8x8-r101", 53_774_808, 106.51),
        ("16x8-r101", 53_774_808, 213.02),
        ("8x8-r101-full", 62_826_968, 125.9),
    ],
)
def test_published_sizes(label: str, parameters: int, macs: float) -> None:
    counted = size(slowfast_arch(label))
    assert counted[0] == parameters
    assert counted[1] == pytest.approx(macs, abs=0.05 if label.endswith("full") else 0.005)


@pytest.mark.parametrize(
    ("label", "changes", "macs"),
    [
        ("slow-4x16-r50", {}, 27.3),
        ("4x16-r50", {"fusion": "t-sample"}, 34.9),
        ("4x16-r50", {"fusion": "ttoc-sum"}, 34.2),
        ("4x16-r50", {"fusion": "ttoc-concat"}, 39.8),
        ("4x16-r50", {"beta_inverse": 16}, 30.6),
        ("4x16-r50", {"beta_inverse": 32}, 28.6),
        # With lateral kernels of 5, which fit the others better, 1/4 has 1.7 % less.
        ("4x16-r50", {"beta_inverse": 4, "fusion_kernel": 7}, 54.5),
        ("4x16-r50", {"beta_inverse": 6}, 41.8),
        ("4x16-r50", {"beta_inverse": 12}, 32.8),
    ],
)
def test_published_ablations(label: str, changes: dict[str, Any], macs: float) -> None:
    assert size(slowfast_arch(label, **changes))[1] == pytest.approx(macs, rel=0.01)


@pytest.mark.parametrize(
    ("frames", "alpha"), [(32, 8), (32, 4), (64, 4), (64, 8), (16, 4), (8, 4), (48, 4), (128, 8)]
)
def test_slow_frames_are_a_truncated_linspace(frames: int, alpha: int) -> None:
    index = slowfast_arch("4x16-r50", alpha=alpha).slow_index(frames)
    assert index == torch.linspace(0, frames - 1, frames // alpha).long().tolist()


def test_slow_frames_of_8x8_and_of_one_pathway() -> None:
    assert slowfast_arch("8x8-r50").slow_index(32) == [0, 4, 8, 13, 17, 22, 26, 31]
    assert slowfast_arch("slow-4x16-r50").slow_index(4) == [0, 1, 2, 3]
    assert slowfast_arch("4x16-r50").slow_index(5) == [0]


@every_case
def test_delayed_features_are_those_of_the_whole_video(changes: dict[str, Any]) -> None:
    check_delayed_features(tiny_arch(**changes))


@pytest.mark.parametrize("label", ["8x8-r50", "small"])
def test_delayed_features_of_whole_models(label: str) -> None:
    check_delayed_features(slowfast_arch(label, classes=5, resolution=SIDE))


def check_delayed_features(arch: SlowFastArch) -> None:
    """At every time step, to the rounding of doubles."""
    model, x = random_model(arch), clip(26)
    frames, valid = flushed(arch, x)
    with torch.no_grad():
        whole = clip_features(model, x, ticks(arch, 26))
        found, _, _ = stream_features(model, frames, {}, valid)
    for pathway, wanted in zip(arch.pathways, whole, strict=True):
        assert wanted.std() > 0.01
        late = timing(arch).fast_frames if pathway == "fast" else timing(arch).slow_ticks
        same(found[pathway][1][:, late : late + wanted.shape[1]], wanted)


@every_case
@pytest.mark.parametrize("pool", ["cumulative", "window"])
def test_delayed_logits_are_of_the_means_known(pool: str, changes: dict[str, Any]) -> None:
    """After every step: of all frames known by then, or of the last ones."""
    arch = tiny_arch(pool=pool, frames=3, **changes)
    model, x = random_model(arch), clip(21)
    frames, valid = flushed(arch, x)
    with torch.no_grad():
        logits, _ = model.as_stream()(frames, None, valid)
        features = clip_features(model, x, ticks(arch, 21))
        for step in range(frames.shape[1]):
            means = []
            for pathway, values in zip(arch.pathways, features, strict=True):
                slow = pathway == "slow"
                run = step // arch.every if slow else step
                known = run - (timing(arch).slow_ticks if slow else timing(arch).fast_frames) + 1
                window = (3 if slow else arch.clip_frames) if pool == "window" else known
                part = values[:, max(known - window, 0) : max(known, 0)].mean((3, 4))
                means.append(part.mean(1) if part.shape[1] else part.sum(1))
            same(logits[:, step], model.head(means))
        if pool == "cumulative":
            same(logits[:, -1:], clip_logits(model, x, ticks(arch, 21)))


def in_chunks(stream: nn.Module, x: Tensor, sizes: list[int], valid: Tensor | None) -> Tensor:
    state: State | None = None
    parts = []
    ends = [0]
    for length in sizes:
        ends.append(ends[-1] + length)
    for start, end in pairwise([*ends, x.shape[1]]):
        flags = () if valid is None else (valid[start:end],)
        logits, state = stream(x[:, start:end], state, *flags)
        parts.append(logits)
    return torch.cat(parts, 1)


@every_case
@pytest.mark.parametrize("sizes", [[1, 1, 3, 5, 1, 1, 7], [1] * 12])
def test_chunks_of_any_length(sizes: list[int], changes: dict[str, Any]) -> None:
    arch = tiny_arch(**changes)
    model = random_model(arch)
    frames, valid = flushed(arch, clip(13))
    with torch.no_grad():
        stream = model.as_stream()
        same(in_chunks(stream, frames, sizes, valid), stream(frames, None, valid)[0])


@every_case
def test_no_smaller_delay_suffices(changes: dict[str, Any]) -> None:
    """Features of the middle depend on the frames that they wait for, and on none beyond."""
    arch, frames = tiny_arch(**changes), 96
    met = timing(arch)
    model = random_model(arch).requires_grad_(False)
    x = clip(frames)[:1].requires_grad_()
    features = clip_features(model, x, ticks(arch, frames))
    for pathway, values in zip(arch.pathways, features, strict=True):
        step = arch.every if pathway == "slow" else 1
        late = met.slow_ticks if pathway == "slow" else met.fast_frames
        waits = []
        # Some slopes vanish behind a ReLU: over several steps.
        for middle in range(values.shape[1] // 3, values.shape[1] // 3 + 3):
            (slope,) = torch.autograd.grad(values[:, middle].sum(), x, retain_graph=True)
            last = int(slope.abs().sum((0, 2, 3, 4)).nonzero().max())
            # A run of the Slow pathway has the frames up to its own.
            waits.append(-(-last // step) - middle)
        assert max(waits) == late
    assert met.delay == max(met.fast_frames, met.slow_ticks * arch.every)


def test_answers_do_not_change_later() -> None:
    arch = tiny_arch()
    stream = DelayedSlowFast(random_model(arch))
    x, other = clip(18), clip(18)
    other[:, 11:] = clip(7, seed=9)
    with torch.no_grad():
        first, second = stream(x)[0], stream(other)[0]
    same(second[:, :11], first[:, :11])
    assert (second[:, 11:] - first[:, 11:]).abs().max() > 1e-6


def test_delays_of_the_published_models() -> None:
    """Frames of the Fast pathway; worked out from the kernels by hand."""
    # Fast: 2 of the stem and 3 + 4 + 6 + 3 blocks. Slow: the third lateral connection waits for
    # 9 frames and 2 of its own, 2 ticks of 8; res4 adds 6 ticks (the fourth connection would be
    # there after 3), res5 adds 3.
    met = timing(slowfast_arch("4x16-r50"))
    assert (met.fast_frames, met.slow_ticks, met.delay) == (18, 2 + 6 + 3, 88)
    assert timing(slowfast_arch("fast-32x2-r50")).delay == 18
    assert timing(slowfast_arch("slow-4x16-r50")).delay == 9
    assert timing(slowfast_arch("4x16-r50", causal=True)).delay == 0


@every_case
@pytest.mark.parametrize("pool", ["cumulative", "window"])
def test_causal_models_see_no_later_frame(pool: str, changes: dict[str, Any]) -> None:
    arch = tiny_arch(causal=True, pool=pool, **changes)
    model, x = random_model(arch), clip(14)
    assert model.as_stream() is model
    with torch.no_grad():
        logits, _ = model(x)
        assert logits.shape == (2, 14, 5)
        same(model(x[:, :9])[0], logits[:, :9])
        same(in_chunks(model, x, [1] * 13, None), logits)
        same(in_chunks(model, x, [2, 5, 1], None), logits)


def test_models_that_look_ahead_take_no_state() -> None:
    model = random_model(tiny_arch())
    with pytest.raises(ValueError, match="whole clips; it takes no state"):
        model(clip(8), {"x": torch.zeros(1)})


def test_larger_frames_are_answered_place_by_place() -> None:
    """Softmax where the training window fits, then the mean."""
    model = random_model(tiny_arch(resolution=32))
    x = clip(8).repeat(1, 1, 1, 2, 2)  # 64 px: 2 x 2 places
    with torch.no_grad():
        features = clip_features(model, x, model.arch.slow_index(8))
        logits, state = model(x)
        places = [
            model.head([part[..., i, j].mean(1) for part in features]).softmax(-1)
            for i in range(2)
            for j in range(2)
        ]
    assert state == {}
    same(logits[:, 0].softmax(-1), torch.stack(places).mean(0))
    same(logits.exp().sum(-1), torch.ones(2, 1, dtype=torch.float64))


def test_non_local_block_is_the_plain_computation() -> None:
    torch.manual_seed(0)
    block = NonLocal(6).double()
    nn.init.ones_(block.norm.weight)
    block.eval()
    x = torch.randn(4, 6, 3, 5, dtype=torch.float64)
    with torch.no_grad():
        theta, phi, g = (
            part(x).permute(1, 0, 2, 3).reshape(3, 4 * 3 * 5)
            for part in (block.theta, block.phi, block.g)
        )
        affinity = theta.T @ phi / (4 * 3 * 5)
        y = (affinity @ g.T).T.reshape(3, 4, 3, 5).permute(1, 0, 2, 3)
        same(block.added(x), block.norm(block.out(y)))


def test_non_local_models_run_clips_and_refuse_to_stream() -> None:
    arch = tiny_arch(nonlocal_blocks=((), (0,), (0,), ()))
    model, plain = random_model(arch), random_model(tiny_arch())
    plain.load_state_dict(model.state_dict(), strict=False)
    x = clip(8)
    assert not arch.streams
    with torch.no_grad():
        logits = model(x)[0]
        assert logits.shape == (2, 1, 5)
        assert (logits - plain(x)[0]).abs().max() > 1e-6
        with pytest.raises(ValueError, match="does not stream"):
            model.as_stream()(x)
        for module in model.modules():
            if isinstance(module, NonLocal):  # as they begin
                nn.init.zeros_(module.norm.weight)
                nn.init.zeros_(module.norm.bias)
        same(model(x)[0], plain(x)[0])
