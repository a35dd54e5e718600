"""Plain 2-D backbones: published costs, other projects' weights, and their answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from movinet_edge.checkpoints.backbone_file import read_backbone
from movinet_edge.errors import BadInput
from movinet_edge.models.backbone import BackboneNet, ConvNorm, folded
from movinet_edge.models.backbone_table import BACKBONES, Backbone

# Billions of multiply-adds with a classifier of 200 classes, by side; AR-Net's fact sheet.
GMACS = {
    "resnet50": {224: 4.0875, 168: 2.5014, 112: 1.0763, 84: 0.6827},
    "resnet34": {224: 3.6634, 168: 2.2445, 112: 0.9651, 84: 0.6124},
    "resnet18": {224: 1.8137, 168: 1.1136, 112: 0.4850, 84: 0.2962},
    "mobilenet-v2": {224: 0.2998, 168: 0.1879, 112: 0.0812, 84: 0.0506},
}
CASES = [(name, side) for name, sides in GMACS.items() for side in sides]


def gmacs(backbone: Backbone, classes: int) -> float:
    """Counted by hooks of the test's own, not by the library."""
    with torch.device("meta"):
        net = BackboneNet(backbone).eval()
        total = 0

        def count(module: nn.Module, _: object, output: Tensor) -> None:
            nonlocal total
            weight = module.weight
            assert isinstance(weight, Tensor)
            total += output.numel() * weight[0].numel()

        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.register_forward_hook(count)
        net(torch.empty(1, 3, backbone.side, backbone.side))
    return (total + net.features * classes) / 1e9


@pytest.mark.parametrize(("name", "side"), CASES)
def test_costs_are_the_published_ones(name: str, side: int) -> None:
    assert gmacs(Backbone(name=name, side=side), 200) == pytest.approx(GMACS[name][side], abs=5e-5)


def test_costs_of_efficientnet() -> None:
    """Its paper's, at the sides it was made for: AR-Net counts those, scaled by the area."""
    for name, paper in (("b0", 0.39), ("b1", 0.70), ("b3", 1.80)):
        table = BACKBONES[f"efficientnet-{name}"]
        found = gmacs(Backbone(name=f"efficientnet-{name}", side=table.nominal), 1000)
        assert table.published_gmacs == paper
        assert found == pytest.approx(paper, rel=0.03)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_runs_and_folds(name: str) -> None:
    """Also where sides are odd on the way; folding changes nothing."""
    torch.manual_seed(0)
    net = BackboneNet(Backbone(name=name, side=52)).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, std=0.1)
    x = torch.randn(2, 3, 52, 52)
    with torch.inference_mode():
        features = net(x)
        after = folded(net)
        assert not any(m.norm is not None for m in after.modules() if isinstance(m, ConvNorm))
        assert features.shape == (2, net.features)
        torch.testing.assert_close(after(x), features, rtol=1e-4, atol=1e-4)


def randomised(model: nn.Module) -> nn.Module:
    """Weights and statistics that a wrong name or a wrong epsilon would show."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.01, 1.5)
    return model.eval()


def agrees(theirs: nn.Module, classifier: str, backbone: Backbone) -> Backbone:
    """Our features are what their classifier sees; returns the backbone as read."""
    randomised(theirs).double()  # random deep networks reach numbers that floats hold badly
    weights, read = read_backbone(dict(theirs.state_dict()), backbone, "theirs")
    ours = BackboneNet(read).eval().double()
    ours.load_state_dict(weights, strict=False)
    seen: list[Tensor] = []
    theirs.get_submodule(classifier).register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    x = torch.randn(2, 3, read.side, read.side, dtype=torch.float64)
    with torch.inference_mode():
        theirs(x)
        error = (ours(x) - seen[0].flatten(1)).abs().max() / seen[0].std()
    assert error < 1e-9
    return read


@pytest.mark.parametrize(
    ("name", "theirs", "classifier"),
    [
        ("resnet18", "resnet18", "fc"),
        ("resnet34", "resnet34", "fc"),
        ("resnet50", "resnet50", "fc"),
        ("mobilenet-v2", "mobilenet_v2", "classifier.1"),
        ("mobilenet-v3-small", "mobilenet_v3_small", "classifier.3"),
        ("mobilenet-v3-large", "mobilenet_v3_large", "classifier.3"),
        ("efficientnet-b0", "efficientnet_b0", "classifier.1"),
        ("efficientnet-b1", "efficientnet_b1", "classifier.1"),
        ("efficientnet-b3", "efficientnet_b3", "classifier.1"),
    ],
)
def test_torchvision_agrees(name: str, theirs: str, classifier: str) -> None:
    models = pytest.importorskip("torchvision.models", exc_type=ImportError)
    agrees(getattr(models, theirs)(), classifier, Backbone(name=name, side=84))


@pytest.mark.parametrize(
    ("name", "theirs", "changes"),
    [
        ("resnet18", "resnet18", {}),
        ("mobilenet-v2", "mobilenetv2_100", {}),
        ("efficientnet-b0", "tf_efficientnet_b0", {}),
        ("efficientnet-b1", "tf_efficientnet_b1", {}),
        ("efficientnet-b0", "efficientnet_b0", {"padding": "symmetric", "eps": 1e-5}),
    ],
)
def test_timm_agrees(name: str, theirs: str, changes: dict[str, Any]) -> None:
    timm = pytest.importorskip("timm", exc_type=ImportError)
    model = timm.create_model(theirs)
    classifier = "fc" if name.startswith("resnet") else "classifier"
    agrees(model, classifier, Backbone(name=name, side=84, **changes))


@pytest.mark.parametrize("name", ["b0", "b1", "b3"])
def test_efficientnet_pytorch_agrees(name: str) -> None:
    """It pads as its nominal side asks for, whatever comes."""
    theirs = pytest.importorskip("efficientnet_pytorch", exc_type=ImportError)
    model = theirs.EfficientNet.from_name(f"efficientnet-{name}")
    read = agrees(model, "_fc", Backbone(name=f"efficientnet-{name}", side=84))
    assert read.padded_for == BACKBONES[f"efficientnet-{name}"].nominal


def test_names_without_the_other_projects() -> None:
    """torchvision's naming of a small ResNet, written down by hand, block by block."""
    ours = BackboneNet(Backbone(name="resnet18", side=64))
    theirs: dict[str, Tensor] = {}
    for key, value in ours.state_dict().items():
        parts = key.split(".")
        if parts[0] == "stem":
            new = {"conv": "conv1", "norm": "bn1"}[parts[1]]
        else:
            block, leaf = f"layer{int(parts[1]) + 1}.{parts[2]}", parts[4]
            if parts[3] == "shortcut":
                new = f"{block}.downsample.{0 if leaf == 'conv' else 1}"
            else:
                number = "ab".index(parts[3]) + 1
                new = f"{block}.{'conv' if leaf == 'conv' else 'bn'}{number}"
        theirs[f"{new}.{parts[-1]}"] = value
    theirs["fc.weight"] = torch.zeros(10, 512)
    found, _ = read_backbone(theirs, Backbone(name="resnet18"), "a file")
    wanted = {k: v for k, v in ours.state_dict().items() if not k.endswith("tracked")}
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_both_layouts_of_mobilenet() -> None:
    """torchvision flattened its blocks before 0.4: ``conv.3`` is the depthwise convolution."""
    ours = BackboneNet(Backbone(name="mobilenet-v2", side=64))
    block = {
        "expand.conv": ("conv.0.0", "conv.0"),
        "expand.norm": ("conv.0.1", "conv.1"),
        "spatial.conv": ("conv.1.0", "conv.3"),
        "spatial.norm": ("conv.1.1", "conv.4"),
        "project.conv": ("conv.2", "conv.6"),
        "project.norm": ("conv.3", "conv.7"),
    }
    first = {
        "spatial.conv": ("conv.0.0", "conv.0"),
        "spatial.norm": ("conv.0.1", "conv.1"),
        "project.conv": ("conv.1", "conv.3"),
        "project.norm": ("conv.2", "conv.4"),
    }
    for layout in range(2):
        theirs: dict[str, Tensor] = {}
        number = 0
        last = ""
        for key, value in ours.state_dict().items():
            module, _, leaf = key.rpartition(".")
            if module.startswith("stages"):
                _, stage, index, rest = module.split(".", 3)
                if f"{stage}.{index}" != last:
                    last, number = f"{stage}.{index}", number + 1
                names = first if number == 1 else block
                new = f"features.{number}.{names[rest][layout]}"
            else:
                place = "features.0" if module.startswith("stem") else "features.18"
                new = f"{place}.{0 if module.endswith('conv') else 1}"
            theirs[f"{new}.{leaf}"] = value
        found, _ = read_backbone(theirs, Backbone(name="mobilenet-v2"), "a file")
        for key, value in found.items():
            assert torch.equal(value, ours.state_dict()[key]), key


def test_other_weights_are_refused(tmp_path: Path) -> None:
    weights = {"conv1.weight": torch.zeros(64, 3, 7, 7)}
    with pytest.raises(BadInput, match=r"file does not hold a resnet18 \(missing: .* \.\.\.\)$"):
        read_backbone(weights, Backbone(name="resnet18"), "file")
    with pytest.raises(ValueError, match="there is no backbone 'vgg'; choose resnet18"):
        Backbone(name="vgg")
