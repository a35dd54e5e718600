"""AR-Net: decisions, skips, costs, and a plain reading of the fact sheet to compare with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from movinet_edge.errors import BadInput
from movinet_edge.models.arnet import DECISIONS, LOOKED, ArNet, Look, rescaled
from movinet_edge.models.arnet_cost import CostTable, published_costs, read_costs, true_costs
from movinet_edge.models.arnet_table import VARIANTS, ArNetArch, arnet_arch
from movinet_edge.models.backbone_table import Backbone
from movinet_edge.models.registry import BASELINES, deploy_parts, named_arch, seeded_model
from movinet_edge.pattern import moving_pattern
from movinet_edge.runtime.rescale import rescale
from tests.pieces import in_pieces

SIDE = 48
CLASSES = 5


def tiny(**changes: object) -> ArNetArch:
    """Two small backbones, the policy's own answer, and all skips."""
    record: dict[str, object] = {
        "policy": Backbone(name="nano", side=20),
        "backbones": (Backbone(name="nano", side=48), Backbone(name="nano", side=32)),
        "hidden": 16,
        "classes": CLASSES,
        "resolution": SIDE,
    }
    return ArNetArch.model_validate(record | changes)


def random_model(seed: int = 0, **changes: object) -> ArNet:
    """In float64, with decisions that differ from frame to frame."""
    model = seeded_model(tiny(**changes), seed).double()
    assert isinstance(model, ArNet)
    if model.policy is not None and model.policy.act is not None:
        model.policy.act.bias.data[-len(model.arch.skips) :] -= 0.5
    return model


def clip(batch: int = 2, frames: int = 12, seed: int = 0) -> Tensor:
    """Generated videos, [B, T, 3, H, W]."""
    videos = [moving_pattern(frames, SIDE, SIDE, batch * seed + b) for b in range(batch)]
    return torch.from_numpy(np.stack(videos)).permute(0, 1, 4, 2, 3).double() / 255


def gumbel(model: ArNet, batch: int = 2, frames: int = 12, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(
        batch, frames, len(model.arch.actions), generator=generator, dtype=torch.float64
    )
    return -4 * (-uniform.log()).log()  # strong: scores of random weights lie far apart


def plain(model: ArNet, video: Tensor, noise: Tensor, held: str) -> tuple[Tensor, list[int]]:
    """One video [T, 3, H, W] by the fact sheet, frame by frame -> final logits, actions."""
    arch, policy = model.arch, model.policy
    assert policy is not None
    assert arch.policy is not None
    assert policy.act is not None
    assert policy.classify is not None
    cell = nn.LSTMCell(policy.net.features, arch.hidden).double()
    cell.weight_ih, cell.bias_ih = policy.cell.input.weight, policy.cell.input.bias
    cell.weight_hh, cell.bias_hh = policy.cell.recurrent.weight, policy.cell.recurrent.bias
    mean, deviation = (
        torch.tensor(values, dtype=torch.float64)[:, None, None]
        for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    )
    h, c = torch.zeros(1, arch.hidden).double(), torch.zeros(1, arch.hidden).double()
    answers, actions = [], list[int]()
    left = 0
    for frame, g in zip((video - mean) / deviation, noise, strict=True):
        x = F.interpolate(frame[None], arch.policy.side)
        if left == 0 or held == "hidden":
            new_h, new_c = cell(policy.net(x), (h, c))
        if left > 0:
            left -= 1
            c = new_c if held == "hidden" else c
            actions.append(actions[-1])
            continue
        h, c = new_h, new_c
        action = int((policy.act(h).log_softmax(1)[0] + g).argmax())
        actions.append(action)
        if action < len(arch.backbones):
            look = model.backbones[action]
            assert isinstance(look, Look)
            answers.append(look(F.interpolate(frame[None], arch.backbones[action].side))[0])
        elif action == len(arch.backbones):
            answers.append(policy.classify(h)[0])
        else:
            left = arch.skips[action - len(arch.backbones) - 1] - 1
    total = torch.stack(answers).sum(0) if answers else torch.zeros(arch.classes)
    return total / max(len(answers), 1), actions


@pytest.mark.parametrize("held", ["both", "hidden"])
def test_a_plain_reading_agrees(held: str) -> None:
    """Per-frame decisions are the same and logits within rounding, whatever noise decides."""
    model = random_model(hold=held)
    seen: set[int] = set()
    for seed in range(4):
        x, noise = clip(seed=seed), gumbel(model, seed=seed)
        with torch.no_grad():
            done = model.decide(x, noise=noise)
            for b in range(len(x)):
                logits, actions = plain(model, x[b], noise[b], held)
                assert done.decisions[b].argmax(1).tolist() == actions
                torch.testing.assert_close(done.logits[b, -1], logits, rtol=1e-9, atol=1e-9)
                seen |= set(actions)
    assert seen == set(range(len(model.arch.actions)))


def test_what_a_skip_holds_matters() -> None:
    """The two rules part, and only behind a skip of two frames or more."""
    x = clip(1)
    both, hidden = random_model(hold="both"), random_model(hold="hidden")
    given = torch.full((1, 12), 4)  # skip 2
    with torch.no_grad():
        scores = [m.decide(x, given=given).scores for m in (both, hidden)]
    assert scores[0] is not None
    assert scores[1] is not None
    torch.testing.assert_close(scores[0][:, :2], scores[1][:, :2])
    assert not torch.allclose(scores[0][:, 2], scores[1][:, 2])


@pytest.mark.parametrize(
    "changes",
    [{}, {"hold": "hidden"}, {"skips": (3,)}, {"lite": False}, {"decides": "all"}, {"skips": ()}],
    ids=str,
)
@pytest.mark.parametrize("pieces", [(12,), (1,) * 12, (5, 1, 4, 2)], ids=len)
def test_clips_and_steps_are_the_same(changes: dict[str, object], pieces: tuple[int, ...]) -> None:
    model, x = random_model(**changes), clip()
    with torch.no_grad():
        whole, _ = model(x)
        parts, _ = in_pieces(model, x, pieces)
    torch.testing.assert_close(parts, whole, rtol=1e-9, atol=1e-9)


def test_later_frames_do_not_matter() -> None:
    model, x = random_model(), clip()
    with torch.no_grad():
        before = model.decide(x)
        after = model.decide(torch.cat([x[:, :6], 1 - x[:, 6:]], 1))
    torch.testing.assert_close(before.logits[:, :6], after.logits[:, :6])
    assert torch.equal(before.decisions[:, :6], after.decisions[:, :6])
    assert not torch.allclose(before.logits[:, 6:], after.logits[:, 6:])


def test_every_state_matters() -> None:
    """A stream that goes on without one of its states, or with another, answers differently."""
    model, x = random_model(hold="hidden"), clip(1)
    given = torch.tensor([[0, 5, 5, 0, 1, 2]])
    with torch.no_grad():
        state = model.decide(x[:, :2], given=given[:, :2]).state  # a skip of 4 is running
        expected = model.decide(x[:, 2:], state)
        for name in state.keys() - {"clock"}:
            changed = state | {name: state[name] + 1}
            if name == "running":
                changed["running"] = state[name].roll(1, 1)
            done = model.decide(x[:, 2:], changed)
            assert done.scores is not None
            assert expected.scores is not None
            told = [(done.logits, expected.logits), (done.scores, expected.scores)]
            told.append((done.decisions, expected.decisions))
            assert not all(torch.equal(a, b) for a, b in told), name


def test_nothing_but_skips() -> None:
    """The answer is 0, as in the public code, and there is no division by 0."""
    model, x = random_model(), clip(1)
    given = torch.full((1, 12), len(model.arch.actions) - 1)
    with torch.no_grad():
        done = model.decide(x, given=given)
    assert torch.equal(done.logits, torch.zeros_like(done.logits))
    assert done.state[LOOKED].item() == 0


def test_a_bias_buys_cheaper_actions() -> None:
    model, x = random_model(), clip()
    cost = torch.tensor(true_costs(model.arch).per_frame(model.arch), dtype=torch.float64)
    spent = []
    with torch.no_grad():
        for bias in (0.0, 2e3, 1e7):
            usage = model.decide(x, bias=bias * cost).decisions.mean((0, 1))
            spent.append(float(usage @ cost))
    assert spent[0] > spent[1] >= spent[2]
    assert spent[2] == pytest.approx(cost.min())


def test_evaluation_computes_what_was_chosen_only() -> None:
    """Each backbone sees its own frames; training lets all see all, with the same answer."""
    model, x = random_model(dropout=0), clip()
    frames: list[int] = []
    for look in model.backbones:
        look.register_forward_hook(lambda m, images, y: frames.append(len(images[0])))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    with torch.no_grad():
        done = model.decide(x)
        assert sum(frames) == done.decisions[..., :2].sum()
        frames.clear()
        model.training = True
        dense = model.decide(x, noise=torch.zeros(2, 12, len(model.arch.actions)))
    assert frames == [24, 24]
    torch.testing.assert_close(dense.logits, done.logits)


def test_gradients_reach_the_policy() -> None:
    """Through decisions alone: the lite prediction is left out."""
    torch.manual_seed(0)
    model = random_model(lite=False).train()
    logits, state = model(clip(2, 6))
    logits[:, -1].square().sum().backward()
    assert model.policy is not None
    assert model.policy.act is not None
    for parameter in (model.policy.act.weight, model.policy.cell.input.weight):
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0
    decisions = state[DECISIONS]
    assert torch.equal(decisions.detach().amax(2), torch.ones(2, 6))


def test_the_temperature_makes_gradients_sharp() -> None:
    """Decisions are hard at any temperature; the softer, the evener their gradients."""
    spread = []
    for temperature in (0.1, 10.0):
        torch.manual_seed(0)
        model = random_model().train()
        model.temperature = temperature
        _, state = model(clip(2, 1))
        row = state[DECISIONS][0, 0]
        assert sorted(row.detach().tolist()) == [0.0] * 5 + [1.0]
        assert model.policy is not None
        assert model.policy.act is not None
        (gradient,) = torch.autograd.grad(row[0], model.policy.act.bias)
        spread.append(float(gradient.abs().max()))
    assert spread[0] != spread[1]


@pytest.mark.parametrize("rule", ["nearest", "bilinear", "area"])
@pytest.mark.parametrize(("source", "target"), [(224, 168), (224, 112), (224, 84), (96, 36)])
def test_scales_are_pytorchs(rule: str, source: int, target: int) -> None:
    x = torch.rand(1, 3, source, source)
    wanted = F.interpolate(x, (target, target), mode=rule)
    ours = rescaled(x, target, tiny(rescale=rule))
    torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=3e-5)
    host = rescale(x[0].permute(1, 2, 0).numpy(), target, target, rule)  # type: ignore[arg-type]
    np.testing.assert_allclose(host, wanted[0].permute(1, 2, 0), rtol=1e-4, atol=3e-5)


def test_bytes_stay_bytes() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    small = rescale(frame, 20, 20, "area")
    assert small.dtype == np.uint8
    exact = rescale(frame.astype(np.float32), 20, 20, "area")
    assert np.abs(small - exact).max() <= 0.5 + 1e-4


# --- costs --------------------------------------------------------------------------------------


def test_published_costs() -> None:
    """The fact sheet's costs of both versions, and what a usage adds up to, by hand."""
    arch = arnet_arch("resnet")
    table = published_costs(arch)
    assert table.looks(arch) == pytest.approx((4.0875, 2.2445, 0.4850, 0, 0, 0, 0), abs=5e-5)
    assert table.networks["policy"] == pytest.approx(0.0506 + 0.00328, abs=5e-5)
    # Skips are not paid for but by the policy's run, which is shared by their frames.
    usage = (0.2, 0.1, 0.1, 0.2, 0.1, 0.1, 0.2)
    looked = 0.2 + 0.1 + 0.1 + 0.2 + 0.1 + 0.1 / 2 + 0.2 / 4
    by_hand = 0.2 * 4.0875 + 0.1 * 2.2445 + 0.1 * 0.4850 + looked * 0.05389
    assert table.frame_cost(arch, usage) == pytest.approx(by_hand, abs=1e-4)
    efficient = arnet_arch("efficientnet")
    costs = published_costs(efficient).looks(efficient)
    assert costs[:3] == pytest.approx((1.8, 0.7 * (168 / 224) ** 2, 0.0975), abs=5e-5)


def test_published_videos() -> None:
    """16 frames: 33.47 and 15.29 GFLOPs of a video are 2.09 and 0.96 of a frame; UNIFORM's 65.4."""
    for frame, video in ((2.09, 33.47), (2.19, 35.12), (0.96, 15.29), (0.88, 14.06)):
        assert 16 * frame == pytest.approx(video, abs=16 * 0.005)
    uniform = arnet_arch("resnet").alone(0)
    assert 16 * published_costs(uniform).frame_cost(uniform, [1.0]) == pytest.approx(65.4, abs=0.01)
    both = next(b for b in arnet_arch("resnet").baselines() if b.name.endswith("multi-scale"))
    everything = 4.0875 + 2.2445 + 0.4850 + 0.0539
    assert published_costs(both).frame_cost(both, [1.0] * 4) == pytest.approx(everything, abs=1e-3)


def test_true_costs_are_those_of_the_graphs() -> None:
    arch = tiny()
    parts = deploy_parts(seeded_model(arch), (SIDE, SIDE))
    table = true_costs(arch)
    assert [part.macs / 1e9 for part in parts] == pytest.approx(list(table.networks.values()))


def test_cost_tables(tmp_path: Path) -> None:
    arch = arnet_arch("phone")
    path = tmp_path / "costs.json"
    path.write_text('{"unit": "ms", "networks": {"policy": 1, "phone-m@80": 9, "phone-s@60": 4}}')
    with pytest.raises(BadInput, match="the cost table has no phone-xs@40; it needs policy, "):
        read_costs(path, arch)
    networks = {"policy": 1.0, "phone-m@80": 9.0, "phone-s@60": 4.0, "phone-xs@40": 2.0}
    path.write_text(CostTable(unit="ms", networks=networks).model_dump_json())
    table = read_costs(path, arch)
    assert table.per_frame(arch) == (10, 5, 3, 1, 1, 0.5, 0.25)
    # The policy runs on in a skip; publications count it once nevertheless.
    public = arnet_arch("phone", hold="hidden")
    assert table.per_frame(public) == (10, 5, 3, 1, 1, 1, 1)
    usage = [1 / 7] * 7
    assert table.frame_cost(public, usage) == table.frame_cost(arch, usage)
    path.write_text('{"unit": "ms", "networks": {"policy": -1}}')
    with pytest.raises(BadInput, match=r"is no cost table \(networks.policy: "):
        read_costs(path, arch)
    with pytest.raises(BadInput, match="there is no cost table at"):
        read_costs(tmp_path / "absent.json", arch)


# --- architectures ------------------------------------------------------------------------------


def test_actions_are_a_table() -> None:
    names = [action.name for action in arnet_arch("resnet").actions]
    assert names[:3] == ["resnet50@224", "resnet34@168", "resnet18@112"]
    assert names[3:] == ["mobilenet-v2@84", "skip 1", "skip 2", "skip 4"]
    smaller = arnet_arch("resnet").resized(10, 112, 8)
    assert [b.side for b in smaller.backbones] == [112, 84, 56]
    assert smaller.policy is not None
    assert smaller.policy.side == 42


def test_baselines_are_models() -> None:
    for label in VARIANTS:
        for arch in arnet_arch(label).baselines():
            assert named_arch(arch.name) == arch
    assert {"arnet-phone-scale-80", "arnet-phone-random", "arnet-phone-lstm"} <= set(BASELINES)
    assert not named_arch("arnet-phone-multi-scale").deploys
    with pytest.raises(BadInput, match="is a baseline to compare with and has no plan"):
        deploy_parts(seeded_model(tiny(decides="random")), (SIDE, SIDE))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policy": None}, "without a policy there is nothing to decide"),
        ({"backbones": (), "lite": False}, "there is no network that looks at frames"),
        ({"skips": (0,)}, "a skip is of 1 frame or more"),
        ({"skips": (2, 2)}, "two actions are the same"),
        ({"resolution": 40}, "frames of 40 pixels cannot become larger"),
        ({"causal": False}, "sees the past only"),
    ],
)
def test_impossible_ones_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**changes)


def test_chance_decides_by_a_seed() -> None:
    """Every action alike, a new one at every frame, the same again for the same seed."""
    model = random_model(decides="random")
    x = clip(4, 60)
    with torch.no_grad():
        torch.manual_seed(0)
        first = model.decide(x).decisions
        torch.manual_seed(0)
        again = model.decide(x).decisions
    assert torch.equal(first, again)
    shares = first.mean((0, 1))
    assert shares.min() > 0.1
    assert shares.max() < 0.25
