"""Checkpoints of the public AR-Net: the same decisions and answers, and what is refused.

The model to compare with is written here from the fact sheet, out of torchvision's networks.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from movinet_edge.checkpoints.importer import read_checkpoint
from movinet_edge.checkpoints.infer import Weights
from movinet_edge.errors import BadInput
from movinet_edge.models.arnet import ArNet
from movinet_edge.pattern import moving_pattern
from tests.commands import Command

CLASSES, HIDDEN = 6, 32
SKIPS = (1, 2, 4)
NAMES = ("resnet50", "resnet34", "resnet18")
SIDES, POLICY_SIDE = (64, 48, 32), 24
FLAGS = {"resolution": "64", "sides": "64,48,32", "policy_side": "24"}


class Public(nn.Module):
    """The public repository's names; a decision for every frame, all networks on all frames."""

    def __init__(self, models: Any, names: tuple[str, ...] = NAMES):
        super().__init__()

        def cut(name: str, last: str) -> tuple[nn.Module, int]:
            net = getattr(models, name)()
            layer = getattr(net, last)
            features = (layer[-1] if isinstance(layer, nn.Sequential) else layer).in_features
            setattr(net, last, nn.Identity())
            return net, features

        self.lite_backbone, features = cut("mobilenet_v2", "classifier")
        self.rnn = nn.LSTMCell(features, HIDDEN)
        self.linear = nn.Linear(HIDDEN, len(names) + 1 + len(SKIPS))
        self.lite_fc = nn.Linear(HIDDEN, CLASSES)
        pairs = [cut(name, "fc") for name in names]
        self.base_model_list = nn.ModuleList(net for net, _ in pairs)
        self.new_fc_list = nn.ModuleList(nn.Linear(length, CLASSES) for _, length in pairs)

    def forward(self, video: Tensor, noise: Tensor, c_goes_on: bool) -> tuple[Tensor, list[int]]:
        """Normalised frames [T, 3, H, W], noise [T, A] -> the video's logits, actions."""
        looks = [
            fc(net(F.interpolate(video, side)))
            for net, fc, side in zip(self.base_model_list, self.new_fc_list, SIDES, strict=False)
        ]
        h, c = torch.zeros(1, HIDDEN), torch.zeros(1, HIDDEN)
        features = self.lite_backbone(F.interpolate(video, POLICY_SIDE))
        taken, left, count, total = list[int](), 0, 0, torch.zeros(CLASSES)
        for t in range(len(video)):
            new_h, new_c = self.rnn(features[t : t + 1], (h, c))
            if left:
                c = new_c if c_goes_on else c
                taken.append(taken[-1])
                left -= 1
                continue
            h, c = new_h, new_c
            action = int((self.linear(h).log_softmax(1)[0] + noise[t]).argmax())
            taken.append(action)
            if action > len(looks):
                left = SKIPS[action - len(looks) - 1] - 1
                continue
            total = total + (looks[action][t] if action < len(looks) else self.lite_fc(h)[0])
            count += 1
        return total / max(count, 1), taken


def randomised(model: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 0.9)
            nn.init.normal_(module.bias, std=0.1)
            assert module.running_var is not None
            nn.init.uniform_(module.running_var, 0.8, 1.5)
    return model.eval()


@pytest.fixture(scope="module")
def public() -> Public:
    models = pytest.importorskip("torchvision.models", exc_type=ImportError)
    model = Public(models)
    randomised(model)
    return model


def saved(weights: Weights, path: Path) -> Path:
    """As its training script saves it."""
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in weights.items()}}, path)
    return path


def flat(weights: Weights) -> Weights:
    """MobileNetV2 as torchvision before 0.4 named it: ``conv.0.0`` is ``conv.0``, and so on."""
    renamed = {}
    for key, value in weights.items():
        match = re.fullmatch(r"(lite_backbone\.features\.(\d+)\.conv)\.(.+)", key)
        if match is not None:
            first = match[2] == "1"
            names = {"0.0": 0, "0.1": 1, "1.0": 3, "1.1": 4, "2": 6, "3": 7}
            if first:
                names = {"0.0": 0, "0.1": 1, "1": 3, "2": 4}
            module, _, leaf = match[3].rpartition(".")
            key = f"{match[1]}.{names[module]}.{leaf}"
        renamed[key] = value
    return renamed


@pytest.mark.parametrize("hold", ["hidden", "both"])
@pytest.mark.parametrize("layout", ["new", "flat"])
def test_the_public_model_agrees(public: Public, tmp_path: Path, hold: str, layout: str) -> None:
    """Per-frame decisions are equal and the video's logits within 1e-4, whatever noise decides."""
    weights = public.state_dict() if layout == "new" else flat(public.state_dict())
    flags = FLAGS | ({} if hold == "hidden" else {"hold": hold})
    checkpoint = read_checkpoint(saved(weights, tmp_path / "model.pth.tar"), changes=flags)
    ours = checkpoint.model
    assert isinstance(ours, ArNet)
    assert ours.arch.hold == hold
    mean, deviation = (
        torch.tensor(values)[:, None, None]
        for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    )
    actions = set[int]()
    for seed in range(3):
        images = moving_pattern(16, 64, 64, seed)
        video = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        uniform = np.random.default_rng(seed).random((16, 7), np.float32)
        noise = torch.from_numpy(-np.log(-np.log(uniform)))
        with torch.inference_mode():
            logits, taken = public((video - mean) / deviation, noise, hold == "hidden")
            done = ours.decide(video[None], noise=noise[None])
        assert done.decisions[0].argmax(1).tolist() == taken
        assert (done.logits[0, -1] - logits).abs().max() < 1e-4
        actions |= set(taken)
    assert len(actions) >= 6


def test_one_network_alone(public: Public, tmp_path: Path) -> None:
    """The repository's UNIFORM baseline: ``base_model`` and ``new_fc``."""
    net, dense = public.base_model_list[2], public.new_fc_list[2]
    weights = {f"base_model.{k}": v for k, v in net.state_dict().items()}
    weights |= {f"new_fc.{k}": v for k, v in dense.state_dict().items()}
    path = saved(weights, tmp_path / "uniform.pth.tar")
    ours = read_checkpoint(path, changes={"sides": "64", "resolution": "64"}).model
    assert isinstance(ours, ArNet)
    assert [action.name for action in ours.arch.actions] == ["resnet18@64"]
    x = torch.rand(1, 3, 3, 64, 64)
    with torch.inference_mode():
        mean, deviation = (
            torch.tensor(values)[:, None, None]
            for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        )
        wanted = dense(net((x[0] - mean) / deviation)).mean(0)
        torch.testing.assert_close(ours(x)[0][0, -1], wanted, rtol=1e-4, atol=1e-5)


def test_the_command(public: Public, tmp_path: Path, call: Command) -> None:
    path = saved(public.state_dict(), tmp_path / "model.pth.tar")
    out = tmp_path / "arnet.safetensors"
    code, said, err = call("import", path, "--out", out)
    assert code == 0, err
    assert "arnet-resnet: " in said
    assert "resnet50@224, resnet34@168, resnet18@112, mobilenet-v2@84, skip 1" in said
    assert "nearest, skips hold h" in said
    code, said, err = call("import", out, "--out", tmp_path / "b.safetensors", "--set", "hold=both")
    assert code == 0, err
    assert "skips hold h and c" in said


# What does not need torchvision: small files that are wrong.
BROKEN = {"lite_backbone.features.0.0.weight": torch.zeros(32, 3, 3, 3)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sides": "64,48"}, "--set sides=64,48: there are 3 backbones"),
        ({"skips": "1,x"}, "'1,x' are no whole numbers; write them as 1,2,4"),
        ({"hold": "none"}, "--set hold: Input should be 'both' or 'hidden'"),
        ({"gate": "sigmoid"}, "--set gate: no such option; choose from decides, dropout"),
        ({"resolution": "64"}, "frames of 64 pixels cannot become larger"),
    ],
)
def test_wrong_options(
    public: Public, tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    path = saved(public.state_dict(), tmp_path / "model.pth.tar")
    with pytest.raises(BadInput, match=re.escape(message)):
        read_checkpoint(path, changes=changes)


def test_wrong_files(tmp_path: Path) -> None:
    path = saved(BROKEN, tmp_path / "model.pth.tar")
    with pytest.raises(BadInput, match=r"lite_backbone of .* does not hold a backbone of a known"):
        read_checkpoint(path)


def test_a_part_that_is_missing(public: Public, tmp_path: Path) -> None:
    weights = {k: v for k, v in public.state_dict().items() if not k.startswith("new_fc_list.1")}
    with pytest.raises(BadInput, match=r"missing: backbones\.1\.classify"):
        read_checkpoint(saved(weights, tmp_path / "a.pth"))
    weights = {k: v for k, v in public.state_dict().items() if not k.startswith("rnn")}
    with pytest.raises(BadInput, match="an AR-Net without an LSTM"):
        read_checkpoint(saved(weights, tmp_path / "b.pth"))
