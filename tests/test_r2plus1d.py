"""R(2+1)D: torchvision's network, layer by layer, and its deploy form."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from movinet_edge.checkpoints.r2plus1d_file import from_r2plus1d, infer_r2plus1d
from movinet_edge.export.step_module import FRAME, LOGITS, StepConfig, StepModule
from movinet_edge.models.r2plus1d import R2plus1d, normalised
from movinet_edge.models.r2plus1d_table import R2plus1dArch, middle, r2plus1d_arch
from movinet_edge.models.registry import build, deploy_parts, seeded_model
from movinet_edge.pattern import moving_pattern
from movinet_edge.streaming.deploy import Layout
from movinet_edge.streaming.layers import StackedConv
from movinet_edge.streaming.spec import describe
from tests.test_backbones import randomised

SIDE = 48
CLASSES = 5
PARAMETERS = 31_505_325  # torchvision's, with 400 classes
GMACS = 40.519  # of the published weights, 16 frames of 112 pixels


def tiny(**changes: object) -> R2plus1dArch:
    return r2plus1d_arch("tiny", classes=CLASSES, resolution=SIDE, **changes)


def clip(frames: int, batch: int = 1) -> Tensor:
    videos = [moving_pattern(frames, SIDE, SIDE, seed) for seed in range(batch)]
    return torch.from_numpy(np.stack(videos)).permute(0, 1, 4, 2, 3).float() / 255


def test_the_middle_channels() -> None:
    """As many weights as the 3x3x3 convolution has, rounded down (section 3.5)."""
    assert [middle(64, 64), middle(64, 128), middle(128, 128)] == [144, 230, 288]
    for inputs, outputs in ((64, 128), (256, 512), (16, 16)):
        inner = middle(inputs, outputs)
        whole = 27 * inputs * outputs
        assert 9 * inputs * inner + 3 * inner * outputs <= whole
        assert 9 * inputs * (inner + 1) + 3 * (inner + 1) * outputs > whole


def test_size_and_work_are_the_published_ones() -> None:
    with torch.device("meta"):
        model = build(r2plus1d_arch("18"))
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS
    assert describe(model, (112, 112), 16).macs / 1e9 == pytest.approx(GMACS, abs=5e-4)


def test_layers_are_torchvisions() -> None:
    """Every convolution and batch norm has its partner of the same shape, in the same order."""
    video = pytest.importorskip("torchvision.models.video", exc_type=ImportError)
    with torch.device("meta"):
        ours, theirs = build(r2plus1d_arch("18")), video.r2plus1d_18()
    own = [m.weight.shape for m in ours.modules() if isinstance(m, StackedConv)]
    their = [m.weight.shape for m in theirs.modules() if isinstance(m, nn.Conv3d)]
    assert Counter(own) == Counter(their)
    assert len(own) == 37
    norms = Counter(m.num_features for m in ours.modules() if isinstance(m, nn.BatchNorm2d))
    assert norms == Counter(
        m.num_features for m in theirs.modules() if isinstance(m, nn.BatchNorm3d)
    )


@pytest.mark.parametrize("frames", [8, 5])
def test_torchvision_agrees(frames: int) -> None:
    """Logits and what its classifier sees, with random weights copied over; also ragged clips."""
    video = pytest.importorskip("torchvision.models.video", exc_type=ImportError)
    theirs = video.r2plus1d_18(num_classes=CLASSES)
    for module in theirs.modules():  # as `randomised` does for 2-D norms
        if isinstance(module, nn.BatchNorm3d):
            module.weight.data.uniform_(0.8, 1.2)
            module.bias.data.normal_(std=0.2)
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.01, 1.5)
    randomised(theirs).double()
    weights = from_r2plus1d(dict(theirs.state_dict()))
    arch = infer_r2plus1d(weights, "theirs", {}, {})
    assert arch == r2plus1d_arch("18", classes=CLASSES)
    ours = build(arch).double()
    assert isinstance(ours, R2plus1d)
    ours.load_state_dict(weights)
    seen: list[Tensor] = []
    theirs.fc.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    x = clip(frames).double()
    with torch.inference_mode():
        wanted = theirs(normalised(x).transpose(1, 2))
        logits, state = ours(x)
        vectors = ours.encode(x[:, None])
    assert not state
    assert (logits[:, 0] - wanted).abs().max() / wanted.std() < 1e-9
    assert (vectors[:, 0] - seen[0]).abs().max() / seen[0].std() < 1e-9


def test_a_longer_clip_is_cut_into_snippets() -> None:
    model = seeded_model(tiny())
    x = clip(16)
    with torch.inference_mode():
        each = torch.stack([model(part)[0] for part in x.split(8, 1)])
        torch.testing.assert_close(model(x)[0], each.mean(0))
    with pytest.raises(ValueError, match="takes no state"):
        model(x, {"clock": torch.zeros(1)})


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("frames", [8, 12])
def test_the_deploy_form_computes_the_same(frames: int, layout: Layout) -> None:
    model = seeded_model(tiny())
    x = clip(frames)
    (part,) = deploy_parts(model, (SIDE, SIDE), frames)
    config = StepConfig("clip", layout, (SIDE, SIDE), frames, causal=False)
    step = StepModule(part.body(), part, config).eval()
    with torch.inference_mode():
        wanted = model(x)[0][0]
        logits = step(**{FRAME: x[0].permute(0, 2, 3, 1)})[LOGITS]
    torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-4)
