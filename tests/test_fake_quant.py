"""Simulated static int8: what is rounded, on which grids, and that nothing else changes."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from movinet_edge.bundle import Bundle
from movinet_edge.checkpoints.importer import read_checkpoint
from movinet_edge.data.motion import MotionConfig, make_motion
from movinet_edge.export.calibration import calibration_streams
from movinet_edge.export.exporter import export
from movinet_edge.export.graph_files import ExportOptions
from movinet_edge.export.step_module import StepConfig, StepModule
from movinet_edge.models.movinet import MoViNet
from movinet_edge.models.movinet_deploy import DeployMoViNet
from movinet_edge.models.movinet_quant import attach
from movinet_edge.models.movinet_table import published_arch
from movinet_edge.models.registry import seeded_model
from movinet_edge.pattern import moving_pattern
from movinet_edge.runtime import Stream
from movinet_edge.streaming.deploy import Activation
from movinet_edge.streaming.fake_quant import FakeQuant, fake_int8
from movinet_edge.streaming.spec import describe
from tests.bundles import lone
from tests.simulated import calibrated

SIDE = 32
SIZE = (SIDE, SIDE)


def clip_of(frames: int = 6) -> Tensor:
    video = moving_pattern(frames, SIDE, SIDE)
    return torch.from_numpy(video.copy()).permute(0, 3, 1, 2)[None].float() / 255


def small_model(**changes: object) -> MoViNet:
    return seeded_model(published_arch("a0", True, classes=5, hidden=16, **changes))


@pytest.fixture(scope="module")
def seeded() -> MoViNet:
    """Do not change it."""
    return small_model(drop_path=0.0, dropout=0.0)


@pytest.fixture
def model(seeded: MoViNet) -> MoViNet:
    return copy.deepcopy(seeded)


def snr(expected: Tensor, got: Tensor) -> float:
    signal = (expected - expected.mean((0, 1))).square().sum()
    return float(10 * torch.log10(signal / (got - expected).square().sum()))


def test_detaching_leaves_the_model_as_it_was(model: MoViNet) -> None:
    clip = clip_of()
    before, modules = model(clip)[0], [name for name, _ in model.named_modules()]
    keys, parameters = list(model.state_dict()), [id(p) for p in model.parameters()]
    instrument = attach(model)
    assert list(model.state_dict()) == keys
    assert [id(p) for p in model.parameters()] == parameters
    assert len(list(model.buffers())) == sum(".norm." in k and "weight" not in k for k in keys) - (
        sum(k.endswith("norm.bias") for k in keys)
    )
    assert torch.equal(model(clip)[0], before), "quantisers that are off change something"
    instrument.watch("all")
    assert torch.equal(model(clip)[0], before), "looking on changes something"
    instrument.quantise()
    assert not torch.equal(model(clip)[0], before)
    with pytest.raises(ValueError, match="already"):
        attach(model)
    instrument.detach()
    assert [name for name, _ in model.named_modules()] == modules
    assert torch.equal(model(clip)[0], before)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    attach(model)


def test_a_failing_pass_leaves_the_weights(model: MoViNet) -> None:
    calibrated(model, clip_of()).quantise()
    with pytest.raises(RuntimeError):
        model(torch.zeros(1, 2, 5, SIDE, SIDE))
    assert all(isinstance(p, nn.Parameter) for p in (model.stem.conv.weight, *model.parameters()))


def test_nothing_is_quantised_before_it_was_seen(model: MoViNet) -> None:
    instrument = attach(model)
    instrument.quantise()
    with pytest.raises(RuntimeError, match="observe"):
        model(clip_of(2))
    with pytest.raises(RuntimeError, match="observe"):
        instrument.equalise(["head.project"])
    with pytest.raises(ValueError, match="no block"):
        instrument.quantise(["b9.l9"])
    with pytest.raises(ValueError, match="no site"):
        instrument.equalise(["stem"])


def test_int8_is_near_float_and_parts_of_it_nearer(model: MoViNet) -> None:
    clip = clip_of()
    expected = model(clip)[0]
    instrument = calibrated(model, clip)
    instrument.quantise()
    whole = snr(expected, model(clip)[0])
    assert 5 < whole < 60
    for block in ("stem", "b2.l1", "head"):
        instrument.quantise([block])
        # The first part's noise is most of it: which parts follow hardly shows.
        assert snr(expected, model(clip)[0]) > whole - 3
    assert snr(expected, model(clip)[0]) > whole + 3  # the last one alone
    instrument.quantise([])
    assert torch.equal(model(clip)[0], expected)


def test_cutting_a_clip_changes_nothing(model: MoViNet) -> None:
    clip = clip_of()
    calibrated(model, clip).quantise()
    with torch.no_grad():
        _, whole = model(clip)
        _, state = model(clip[:, :2])
        _, after = model(clip[:, 2:], state)
    assert after.keys() == whole.keys()
    # Another order of additions moves a value to the next step here and there, more and more often
    # on the way.
    early = "b1.l0.stream"
    assert (after[early] != whole[early]).double().mean() < 0.01
    late = "head.pool"
    assert (after[late] - whole[late]).norm() < 0.1 * whole[late].norm()


def test_a_stream_buffer_lies_on_one_grid(model: MoViNet) -> None:
    clip = clip_of()
    instrument = calibrated(model, clip)
    instrument.quantise()
    with torch.no_grad():
        _, state = model(clip)
    buffers = [name for name in state if name.endswith(".stream")]
    assert len(buffers) == 11  # the other layers of A0 have no temporal kernel
    for name in buffers:
        block = name.removesuffix(".stream").replace(".", "_")
        after = instrument.sites[f"blocks.{block}.spatial"].activation.after
        past = state[name]
        assert len(past.unique()) <= 256
        torch.testing.assert_close(after(past), past, atol=1e-6, rtol=1e-6)
        assert after(torch.zeros_like(past)).abs().max() == 0, "the empty buffer is on it"


def test_hard_swish_needs_no_range_below_its_floor(model: MoViNet) -> None:
    instrument = calibrated(model, clip_of())
    site = instrument.sites["blocks.b1_l1.expand"]
    site.before.low.fill_(-40.0)
    assert site.before.range()[0] == -3
    instrument.equalise(["blocks.b1_l1.expand"])
    assert site.before.range()[0] == -1


def test_sites_are_those_of_the_deploy_form(model: MoViNet) -> None:
    instrument = attach(model)
    body = DeployMoViNet(model, SIZE)
    # The stem's output goes two ways and takes no scales.
    assert list(instrument.sites) == [name for name in body.sites() if name != "stem"]
    assert set(instrument.blocks) == {"stem", "head", *(layer.name for layer, _ in model.blocks())}


def rounded_activation(site: Activation, quantiser: FakeQuant, after: FakeQuant) -> list[Tensor]:
    """Let a folded hard-swish round per tensor as an int8 graph does; what came out of it."""
    seen: list[Tensor] = []
    (low, high), (least, most) = quantiser.range(), after.range()

    def forward(x: Tensor) -> Tensor:
        x = fake_int8(x, low, high)
        assert site.scale is not None
        gate = nn.functional.conv2d(x, site.scale, site.offset, groups=len(site.scale))
        open_most = (quantiser.high.max() + 3).clamp(0, 6)
        gate = fake_int8(gate.clamp(0, 6), torch.zeros(()), open_most)
        # The product leaves out scale / 6; its grid is that of the values with scale / 1.
        y = fake_int8(x * gate / 6, least, most) * 6
        seen.append(y)
        return y

    site.forward = forward  # type: ignore[method-assign]
    return seen


@pytest.mark.parametrize("name", ["blocks.b0_l0.expand", "blocks.b1_l0.temporal"])
def test_a_grid_per_channel_is_the_folded_deploy_forms(model: MoViNet, name: str) -> None:
    """Equalised: the simulation rounds per channel what the graph rounds per tensor."""
    clip = clip_of(1)
    instrument = calibrated(model, clip)
    scales = instrument.equalise([name])
    assert list(scales) == [name]
    site = instrument.sites[name]
    # Everything in front stays float, so that both see the same input.
    site.before.on = site.activation.after.on = True
    path = name.removeprefix("blocks.").replace("_l", ".l")
    simulated: list[Tensor] = []
    activation = model.get_submodule(f"{path}.activation")
    activation.register_forward_hook(lambda *call: simulated.append(call[2]))
    with torch.no_grad():
        model(clip)
    body = DeployMoViNet(model, SIZE).eval()
    body.fold(scales)
    part = body.sites()[name]
    seen = rounded_activation(part.activation, site.before, site.activation.after)
    states = describe(model, SIZE).states
    step = StepModule(body, lone(states), StepConfig("fresh", "NCHW", SIZE)).eval()
    inputs = {k: v for k, v in step.sample().items() if k != "frame"}
    with torch.no_grad():
        step(frame=clip[0].permute(0, 2, 3, 1), **inputs)
    (got,), expected = seen, simulated[0].reshape(seen[0].shape)
    restored = got * (scales[name] / 6)[:, None, None]
    step_size = float(site.activation.after.high.max()) / 255
    # Additions in another order may move a value to the next step.
    off = (restored - expected).abs() > 1e-4 * expected.abs().max()
    assert off.double().mean() < 0.002
    assert (restored - expected).abs().max() < 3 * max(step_size, 0.05)


def test_gradients_reach_every_parameter(model: MoViNet) -> None:
    clip = clip_of()
    instrument = calibrated(model, clip)

    def gradients() -> dict[str, Tensor]:
        model.zero_grad()
        model(clip)[0][:, -1].square().sum().backward()
        return {k: p.grad.clone() for k, p in model.named_parameters() if p.grad is not None}

    exact = gradients()
    instrument.quantise()
    rounded = gradients()
    assert exact.keys() == rounded.keys()
    for name in ("stem.conv.weight", "b1.l0.se.reduce.weight", "head.classify.weight"):
        a, b = exact[name].flatten(), rounded[name].flatten()
        assert torch.cosine_similarity(a, b, 0) > 0.8, name
    assert all(g.isfinite().all() for g in rounded.values())
    assert sum(bool(g.abs().sum()) for g in rounded.values()) == sum(
        bool(g.abs().sum()) for g in exact.values()
    )


def test_moving_averages_follow_and_resume(model: MoViNet) -> None:
    instrument = calibrated(model, clip_of())
    quantiser = instrument.sites["head.project"].before
    quantiser.watch = "average"
    before = quantiser.high.clone()
    quantiser(torch.full((1, len(before), 2, 2), 100.0))
    torch.testing.assert_close(quantiser.high, before.lerp(torch.full_like(before, 100.0), 0.05))
    state = {name: value.clone() for name, value in instrument.state_dict().items()}
    other = attach(MoViNet(model.arch))
    other.load_state_dict(state)
    assert all(torch.equal(v, state[k]) for k, v in other.state_dict().items())
    instrument.forget()
    assert not quantiser.seen


def test_copies_have_quantisers_of_their_own(model: MoViNet) -> None:
    clip = clip_of()
    instrument = calibrated(model, clip)
    instrument.quantise()
    expected, high = model(clip)[0], instrument.sites["head.project"].before.high.clone()
    twin = copy.deepcopy(model)
    instrument.watch("all")
    describe(model, SIZE)  # a copy on the meta device goes through its paces
    assert torch.equal(instrument.sites["head.project"].before.high, high)
    instrument.watch("none")
    instrument.quantise([])
    assert torch.equal(twin(clip)[0], expected)


def test_the_penalty_is_on_channels_that_stick_out(model: MoViNet) -> None:
    instrument = attach(model)
    instrument.penalise(True)
    model(clip_of())
    before = instrument.penalty(4)
    norm = model.get_submodule("b1.l0.expand.norm")
    assert isinstance(norm, nn.BatchNorm2d)
    with torch.no_grad():
        norm.weight[3] *= 100
        norm.bias[3] *= 100
    model(clip_of())
    penalty = instrument.penalty(4)
    assert penalty > before + 0.001
    penalty.backward()
    assert norm.weight.grad is not None
    assert norm.weight.grad[3] > 0, "going down makes it smaller"


SPELLINGS: list[dict[str, object]] = [
    {"squeeze_excite": "3d", "gate": "sigmoid", "activation": "swish"},
    {"squeeze_excite": "none", "activation": "relu6", "classifier_activation": "relu6"},
    {"conv": "3d", "gate": "hard_sigmoid_keras", "classifier_activation": "hard_swish"},
    {"positional_encoding": True, "rezero": False},
    {"causal": False},
]


@pytest.mark.parametrize("changes", SPELLINGS, ids=str)
def test_every_spelling(changes: dict[str, object]) -> None:
    arch = published_arch("a0", True, classes=5, hidden=16).model_copy(update=changes)
    model, clip = seeded_model(arch), clip_of(8)
    expected = model(clip)[0]
    instrument = calibrated(model, clip)
    assert all(quantiser.seen for quantiser in instrument.tensors().values())
    instrument.quantise()
    got = model(clip)[0]
    error = float((got - expected).norm() / expected.norm())
    assert 0 < error < 0.5
    swished = model.arch.activation == "hard_swish"
    assert bool(instrument.sites) == swished
    instrument.equalise(instrument.sites)
    model(clip)
    instrument.detach()
    assert torch.equal(model(clip)[0], expected)


@pytest.mark.slow
def test_the_simulation_is_the_real_file(tmp_path: Path) -> None:
    """Shipped checkpoint, unseen videos: as noisy as the int8 file, and mostly the same noise."""
    videos, path = tmp_path / "videos", tmp_path / "bundle"
    make_motion(MotionConfig(per_class=10, size=80, seed=5), videos, jobs=2)
    checkpoint = read_checkpoint(Path("motion-a0-stream"))
    options = ExportOptions(
        formats=("tflite",), precisions=("fp32", "int8"), calibrate=videos / "train", verify=False
    )
    export(checkpoint, path, options)
    model, contract = checkpoint.model.eval(), checkpoint.preprocessing
    unseen = calibration_streams(videos / "test", contract, 200)

    def torch_logits() -> Tensor:
        with torch.no_grad():
            clips = (np.concatenate(list(stream)) for stream in unseen)
            tensors = (torch.from_numpy(clip).permute(0, 3, 1, 2)[None] for clip in clips)
            return torch.cat([model(clip)[0] for clip in tensors], 1)

    def file_logits(precision: str) -> Tensor:
        answers = []
        with Stream(Bundle(path), "litert", precision) as stream:
            for video in unseen:
                stream.reset()
                answers += [prediction.logits for prediction in stream.run(video.images)]
        return torch.from_numpy(np.stack(answers))[None]

    expected, real = torch_logits(), file_logits("int8")
    torch.testing.assert_close(file_logits("fp32"), expected, atol=1e-3, rtol=1e-3)
    instrument = attach(model)
    instrument.watch("all")
    with torch.no_grad():
        for stream in calibration_streams(videos / "train", contract, options.calibration_frames):
            clip = np.concatenate(list(stream))
            model(torch.from_numpy(clip).permute(0, 3, 1, 2)[None])
    instrument.watch("none")
    instrument.quantise()
    simulated = torch_logits()
    assert snr(expected, simulated) == pytest.approx(snr(expected, real), abs=2)
    assert snr(real, simulated) > snr(expected, real)
