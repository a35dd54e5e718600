"""TSM and R(2+1)D weights of other projects: the same answers, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from movinet_edge.checkpoints.importer import read_checkpoint
from movinet_edge.checkpoints.native import Checkpoint, save_checkpoint
from movinet_edge.errors import BadInput
from movinet_edge.models.backbone import DEVIATION, MEAN
from movinet_edge.models.r2plus1d_table import r2plus1d_arch
from movinet_edge.models.registry import default_preprocessing
from movinet_edge.models.tsm import Tsm
from movinet_edge.models.tsm_table import TsmArch, tsm_arch
from movinet_edge.train.recipe import make_recipe
from movinet_edge.train.transfer import starting_point
from tests.commands import Command, Refused
from tests.test_backbones import randomised
from tests.test_tsm import clip, model_of, tiny

CLASSES = 5
FRAMES = 4


class PublicShift(nn.Module):
    """What the public code puts in the place of a block's first convolution, read again."""

    def __init__(self, net: nn.Module, segments: int):
        super().__init__()
        self.net, self.segments = net, segments

    def forward(self, x: Tensor) -> Tensor:
        videos = x.reshape(-1, self.segments, *x.shape[1:])
        fold = x.shape[1] // 8
        moved = torch.zeros_like(videos)
        for t in range(self.segments):
            if t + 1 < self.segments:
                moved[:, t, :fold] = videos[:, t + 1, :fold]
            if t > 0:
                moved[:, t, fold : 2 * fold] = videos[:, t - 1, fold : 2 * fold]
            moved[:, t, 2 * fold :] = videos[:, t, 2 * fold :]
        out: Tensor = self.net(moved.reshape(x.shape))
        return out


class PublicTsn(nn.Module):
    """The public model around torchvision's ResNet: logits of frames, their mean."""

    def __init__(self, name: str, dropout: bool = True, segments: int = FRAMES):
        super().__init__()
        models = pytest.importorskip("torchvision.models", exc_type=ImportError)
        self.base_model = getattr(models, name)()
        stages = [getattr(self.base_model, f"layer{n}") for n in range(1, 5)]
        step = 2 if len(stages[2]) >= 23 else 1
        for stage in stages:
            for block in list(stage)[::step]:
                block.conv1 = PublicShift(block.conv1, segments)
        length = self.base_model.fc.in_features
        last = nn.Linear(length, CLASSES)
        self.new_fc = last if dropout else None
        self.base_model.fc = nn.Dropout(0.5) if dropout else last

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, 3, H, W] in [0, 1] -> [B, classes]."""
        mean, deviation = (x.new_tensor(values)[:, None, None] for values in (MEAN, DEVIATION))
        each = self.base_model(((x - mean) / deviation).flatten(0, 1))
        if self.new_fc is not None:
            each = self.new_fc(each)
        return each.unflatten(0, x.shape[:2]).mean(1)


@pytest.mark.parametrize(
    ("name", "dropout"),
    [("resnet18", True), ("resnet18", False), ("resnet50", True), ("resnet101", True)],
)
def test_the_public_model_agrees(tmp_path: Path, name: str, dropout: bool) -> None:
    """A file as the public training writes it, with random weights: the same logits."""
    theirs = randomised(PublicTsn(name, dropout)).double()
    names = {f"module.{k}": v for k, v in theirs.state_dict().items()}
    state = {"epoch": 1, "arch": name, "state_dict": names, "best_prec1": torch.tensor(1.0)}
    torch.save(state, tmp_path / "ckpt.pth.tar")
    made = read_checkpoint(tmp_path / "ckpt.pth.tar", changes={"frames": str(FRAMES)})
    assert made.arch == tsm_arch(name, classes=CLASSES, frames=FRAMES)
    assert made.preprocessing.frame_rate == 3.75
    x = clip(FRAMES)
    with torch.inference_mode():
        wanted = theirs(x)
        ours, _ = made.model.double()(x)
        unshifted, _ = made.model(x.flip(1))
    scale = wanted.std()
    assert (ours[:, 0] - wanted).abs().max() / scale < 1e-9
    assert (unshifted[:, 0] - wanted).abs().max() / scale > 1e-4  # the order of frames matters


def test_an_imagenet_resnet_becomes_a_tsm(tmp_path: Path) -> None:
    """Its weights and its classifier are taken as they are, whichever way it is to shift."""
    models = pytest.importorskip("torchvision.models", exc_type=ImportError)
    theirs = randomised(models.resnet18(num_classes=7))
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    for causal in ("false", "true"):
        made = read_checkpoint(tmp_path / "resnet18.pth", changes={"causal": causal})
        assert made.arch == tsm_arch("resnet18", classes=7, causal=causal == "true")
    own = {k.removeprefix("net."): v for k, v in made.model.state_dict().items()}
    assert torch.equal(own["stages.3.1.b.conv.weight"], theirs.layer4[1].conv2.weight)
    assert torch.equal(
        own["stages.1.0.shortcut.norm.running_var"], theirs.layer2[0].downsample[1].running_var
    )
    assert torch.equal(own["head.classify.bias"], theirs.fc.bias)


def test_training_begins_from_a_plain_resnet(tmp_path: Path) -> None:
    models = pytest.importorskip("torchvision.models", exc_type=ImportError)
    theirs = randomised(models.resnet18())
    path = tmp_path / "resnet18.pth"
    torch.save(theirs.state_dict(), path)
    fields: dict[str, Any] = {"model": "tsm-resnet18", "size": 64, "frames": FRAMES}
    begun = starting_point(make_recipe(fields | {"init_backbone": [f"net={path}"]}), ["a", "b"])
    weights = begun.model.state_dict()
    assert torch.equal(weights["net.stem.conv.weight"], theirs.conv1.weight)
    assert weights["head.classify.weight"].shape == (2, 512)
    assert begun.arch == tsm_arch("resnet18", classes=2, resolution=64, frames=FRAMES)
    for text, reason in (
        (f"0={path}", r"--init-backbone takes net=FILE, not 0=.*resnet18\.pth"),
        ("net", "--init-backbone takes net=FILE, not net"),
    ):
        with pytest.raises(BadInput, match=reason):
            starting_point(make_recipe(fields | {"init_backbone": [text]}), ["a", "b"])
    deeper = fields | {"model": "tsm-resnet50", "init_backbone": [f"net={path}"]}
    with pytest.raises(BadInput, match=r"does not hold a resnet50 \(missing: "):
        starting_point(make_recipe(deeper), ["a", "b"])


def test_torchvisions_r2plus1d(call: Command, tmp_path: Path) -> None:
    video = pytest.importorskip("torchvision.models.video", exc_type=ImportError)
    theirs = video.r2plus1d_18(num_classes=CLASSES)
    torch.save(theirs.state_dict(), tmp_path / "x.pth")
    code, out, err = call("import", tmp_path / "x.pth", "--out", tmp_path / "x.safetensors")
    assert code == 0, err
    assert "r2plus1d-18: 31,302,690 parameters, 5 classes, 16 frames at 15 per second" in out
    made = read_checkpoint(tmp_path / "x.safetensors")
    assert made.arch == r2plus1d_arch("18", classes=CLASSES)
    assert made.preprocessing.height == 112
    other = made.model.state_dict()["net.stages.2.0.a.temporal.weight"]
    assert torch.equal(other, theirs.layer3[0].conv1[0][3].weight)


def test_our_own_file_is_read_and_changed(tmp_path: Path) -> None:
    arch = tiny(True)
    model = model_of(arch)
    path = tmp_path / "x.safetensors"
    save_checkpoint(Checkpoint(model, default_preprocessing(arch)), path)
    same = read_checkpoint(path)
    assert same.arch == arch
    assert isinstance(same.model, Tsm)
    changed = read_checkpoint(path, changes={"causal": "false", "fold": "4"})
    assert changed.arch == arch.model_copy(update={"causal": False, "fold": 4})


def public(change: Callable[[dict[str, Tensor]], object]) -> dict[str, Tensor]:
    """A small file in the public naming, without torchvision, with something wrong in it."""
    weights: dict[str, Tensor] = {}
    for key, value in model_of(tiny()).state_dict().items():
        if not key.startswith("net."):
            weights[key.replace("head.classify", "new_fc")] = value
            continue
        parts = key.split(".")
        leaf = parts[-1]
        if parts[1] == "stem":
            name = {"conv": "conv1", "norm": "bn1"}[parts[2]]
        else:
            name = f"layer{int(parts[2]) + 1}.{parts[3]}"
            if parts[4] == "shortcut":
                name += f".downsample.{0 if parts[5] == 'conv' else 1}"
            else:
                number = "ab".index(parts[4]) + 1
                inner = ".net" if number == 1 and parts[5] == "conv" else ""
                name += f".{'conv' if parts[5] == 'conv' else 'bn'}{number}{inner}"
        weights[f"base_model.{name}.{leaf}"] = value
    change(weights)
    return weights


def moved(weights: dict[str, Tensor]) -> None:
    """One block less shifts."""
    weights["base_model.layer2.0.conv1.weight"] = weights.pop(
        "base_model.layer2.0.conv1.net.weight"
    )


def test_the_small_file_is_read_when_nothing_is_wrong(tmp_path: Path) -> None:
    torch.save(public(lambda w: None), tmp_path / "x.pth")
    made = read_checkpoint(tmp_path / "x.pth")
    assert isinstance(made.arch, TsmArch)
    assert made.arch.label == "tiny"
    wanted = model_of(tiny()).state_dict()
    for key, value in made.model.state_dict().items():
        assert torch.equal(value, wanted[key]) or key.endswith("tracked"), key


@pytest.mark.parametrize(
    ("change", "options", "reason"),
    [
        (moved, [], "shifts 3 of its blocks, not the 4 of the published TSM (layer2.0 differs)"),
        (lambda w: w.pop("new_fc.weight"), [], "holds a TSM without a classifier"),
        (
            lambda w: w.pop("new_fc.bias"),
            [],
            "does not hold a tsm-tiny (missing: head.classify.bias)",
        ),
        (lambda w: w.pop("base_model.layer3.0.bn2.weight"), [], "not hold a backbone of a known"),
        (lambda w: w.update(extra=torch.zeros(1)), [], "does not hold a backbone of a known kind"),
        (lambda w: w["new_fc.weight"].fill_(torch.nan), [], "holds NaN or infinite weights"),
        (lambda w: None, ["--set", "gate=x"], "--set gate: no such option; choose from causal"),
        (lambda w: None, ["--set", "frames=0"], "--set frames: Input should be greater than"),
    ],
    ids=range(8),
)
def test_wrong_files(
    refused: Refused,
    tmp_path: Path,
    change: Callable[[dict[str, Tensor]], object],
    options: list[str],
    reason: str,
) -> None:
    path, out = tmp_path / "x.pth", tmp_path / "out"
    torch.save(public(change), path)
    said = refused("import", path, "--out", out / "y.safetensors", *options)
    assert reason in said
    assert not out.exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda w: w.pop("fc.weight"), "lacks head.classify.weight"),
        (lambda w: w.pop("layer4.0.conv2.1.bias"), "missing: net.stages.3.0.b.temporal.norm.bias"),
        (lambda w: w.update({"avg.x": torch.zeros(1)}), "left over: avg.x"),
        (
            lambda w: [w.pop(k) for k in list(w) if k.startswith("layer3.0.conv1")],
            "does not hold an R(2+1)D: it lacks net.stages.2.0.a.spatial.weight",
        ),
    ],
    ids=range(4),
)
def test_wrong_r2plus1d_files(
    refused: Refused, tmp_path: Path, change: Callable[[dict[str, Tensor]], object], reason: str
) -> None:
    video = pytest.importorskip("torchvision.models.video", exc_type=ImportError)
    weights = dict(video.r2plus1d_18(num_classes=2).state_dict())
    change(weights)
    torch.save(weights, tmp_path / "x.pth")
    assert reason in refused("import", tmp_path / "x.pth", "--out", tmp_path / "y.safetensors")
