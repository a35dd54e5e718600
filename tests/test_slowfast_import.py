"""SlowFast weights of other projects: the same answers, and the architecture from shapes."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from movinet_edge.checkpoints.infer import Weights
from movinet_edge.checkpoints.slowfast_file import (
    from_slowfast,
    infer_slowfast,
    is_slowfast,
    swap_colours,
)
from movinet_edge.errors import BadInput
from movinet_edge.models.movinet import MoViNet
from movinet_edge.models.movinet_table import published_arch
from movinet_edge.models.slowfast import SlowFast
from movinet_edge.models.slowfast_table import VARIANTS, SlowFastArch, normalised, slowfast_arch

SMALL: dict[str, Any] = {
    "width": 16,
    "blocks": (1, 2, 2, 1),
    "slow_temporal": (0, 0, 1, 1),
    "fast_temporal": (1, 2, 1, 1),
    "classes": 7,
    "resolution": 64,
}
NON_LOCAL: dict[str, Any] = {"nonlocal_blocks": ((), (0,), (0, 1), ())}
ONE: dict[str, Any] = {"fusion": "none", "blocks": (2, 2, 2, 2), "fast_temporal": (1, 2, 1, 1)}
# In this order, by regular expression: ours -> PySlowFast's.
TO_PYSLOWFAST = [
    (r"^slow\.stem\.conv\.norm\.", "s1.pathway0_stem.bn."),
    (r"^slow\.stem\.conv\.", "s1.pathway0_stem.conv."),
    (r"^fast\.stem\.conv\.norm\.", "s1.pathway1_stem.bn."),
    (r"^fast\.stem\.conv\.", "s1.pathway1_stem.conv."),
    (r"^slow\.laterals\.0\.conv\.norm\.", "s1_fuse.bn."),
    (r"^slow\.laterals\.1\.conv\.norm\.", "s2_fuse.bn."),
    (r"^slow\.laterals\.2\.conv\.norm\.", "s3_fuse.bn."),
    (r"^slow\.laterals\.3\.conv\.norm\.", "s4_fuse.bn."),
    (r"^slow\.laterals\.0\.conv\.", "s1_fuse.conv_f2s."),
    (r"^slow\.laterals\.1\.conv\.", "s2_fuse.conv_f2s."),
    (r"^slow\.laterals\.2\.conv\.", "s3_fuse.conv_f2s."),
    (r"^slow\.laterals\.3\.conv\.", "s4_fuse.conv_f2s."),
    (r"^slow\.res(\d)\.nonlocals\.(\d+)\.norm\.", r"s\1.pathway0_nonlocal\2.bn."),
    (r"^slow\.res(\d)\.nonlocals\.(\d+)\.(\w+)\.", r"s\1.pathway0_nonlocal\2.conv_\3."),
    (r"^slow\.res(\d)\.blocks\.(\d+)\.", r"s\1.pathway0_res\2."),
    (r"^fast\.res(\d)\.blocks\.(\d+)\.", r"s\1.pathway1_res\2."),
    (r"\.shortcut\.norm\.", ".branch1_bn."),
    (r"\.shortcut\.", ".branch1."),
    (r"(_res\d+)\.([abc])\.norm\.", r"\1.branch2.\2_bn."),
    (r"(_res\d+)\.([abc])\.", r"\1.branch2.\2."),
    (r"^head\.classify\.", "head.projection."),
]
TO_CAFFE2 = [
    (r"^slow\.stem\.conv\.norm\.", "res_conv1_bn_"),
    (r"^slow\.stem\.conv\.", "conv1_"),
    (r"^fast\.stem\.conv\.norm\.", "t_res_conv1_bn_"),
    (r"^fast\.stem\.conv\.", "t_conv1_"),
    (r"^slow\.laterals\.0\.conv\.", "t_pool1_subsample_"),
    (r"^slow\.laterals\.1\.conv\.", "t_res2_0_branch2c_bn_subsample_"),
    (r"^slow\.laterals\.2\.conv\.", "t_res3_1_branch2c_bn_subsample_"),
    (r"^slow\.laterals\.3\.conv\.", "t_res4_1_branch2c_bn_subsample_"),
    (r"subsample_norm\.", "subsample_bn_"),
    (r"^slow\.res(\d)\.nonlocals\.(\d+)\.norm\.", r"nonlocal_conv\1_\2_bn_"),
    (r"^slow\.res(\d)\.nonlocals\.(\d+)\.(\w+)\.", r"nonlocal_conv\1_\2_\3_"),
    (r"^slow\.res(\d)\.blocks\.(\d+)\.shortcut\.", r"res\1_\2_branch1_"),
    (r"^fast\.res(\d)\.blocks\.(\d+)\.shortcut\.", r"t_res\1_\2_branch1_"),
    (r"^slow\.res(\d)\.blocks\.(\d+)\.([abc])\.", r"res\1_\2_branch2\3_"),
    (r"^fast\.res(\d)\.blocks\.(\d+)\.([abc])\.", r"t_res\1_\2_branch2\3_"),
    (r"_norm\.", "_bn_"),
    (r"^head\.classify\.", "pred_"),
    (r"bn_weight$", "bn_s"),
    (r"running_mean$", "rm"),
    (r"running_var$", "riv"),
    (r"_weight$", "_w"),
    (r"_bias$", "_b"),
]


def randomise(model: nn.Module, seed: int = 0) -> None:
    """Batch norms that matter, and no dead ends."""
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, std=0.1)
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)


def random_model(arch: SlowFastArch) -> SlowFast:
    model = SlowFast(arch)
    randomise(model)
    nn.init.normal_(model.head.classify.weight, std=0.1)
    return model.eval()


def shapes(label: str, **changes: Any) -> Weights:
    with torch.device("meta"):
        return SlowFast(slowfast_arch(label, **changes)).state_dict()


def without_counters(weights: Weights) -> Weights:
    return {k: v for k, v in weights.items() if not k.endswith("num_batches_tracked")}


def loaded(weights: Weights, changes: dict[str, str]) -> SlowFast:
    model = SlowFast(infer_slowfast(weights, "weights.pyth", {}, changes))
    answer = model.load_state_dict(weights, strict=False)
    assert [k for k in answer.missing_keys if not k.endswith("num_batches_tracked")] == []
    assert answer.unexpected_keys == []
    return model.eval()


def clip(frames: int, side: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(1, frames, 3, side, side, generator=generator)


def renamed(key: str, table: list[tuple[str, str]]) -> str:
    for ours, theirs in table:
        key = re.sub(ours, theirs, key)
    return key


def to_pyslowfast(weights: Weights) -> Weights:
    named = {renamed(key, TO_PYSLOWFAST): value for key, value in weights.items()}
    return {
        key: value[..., None] if "nonlocal" in key and value.dim() == 4 else value
        for key, value in named.items()
    }


def to_caffe2(weights: Weights) -> dict[str, np.ndarray[Any, Any]]:
    named = {
        renamed(key, TO_CAFFE2): value.numpy() for key, value in without_counters(weights).items()
    }
    momenta = {f"{key}_momentum": value for key, value in named.items()}
    return named | momenta | {"lr": np.array([0.1]), "model_iter": np.array([7])}


@pytest.fixture(scope="module")
def peer() -> Iterator[Any]:
    """pytorchvideo's SlowFast. It names torchvision's RoIAlign, which classifiers do not use."""
    with pytest.MonkeyPatch.context() as patch:
        if importlib.util.find_spec("torchvision") is None:
            package = types.ModuleType("torchvision")
            ops = types.ModuleType("torchvision.ops")
            ops.RoIAlign = object  # type: ignore[attr-defined]
            patch.setitem(sys.modules, "torchvision", package)
            patch.setitem(sys.modules, "torchvision.ops", ops)
        pytest.importorskip("pytorchvideo.models.slowfast")
        yield importlib.import_module("pytorchvideo.models.hub")


def same_as_peer(theirs: nn.Module, x: Tensor, alpha: int, changes: dict[str, str]) -> SlowFast:
    """Both pathways' frames as pytorchvideo's own examples pack them."""
    randomise(theirs)
    for name, parameter in theirs.named_parameters():
        if name.endswith("proj.weight"):
            nn.init.normal_(parameter, std=0.1)
    weights = theirs.eval().state_dict()
    assert is_slowfast(weights)
    model = loaded(from_slowfast(weights), changes)
    fast = normalised(x).transpose(1, 2)
    index = torch.linspace(0, x.shape[1] - 1, x.shape[1] // alpha).long()
    with torch.no_grad():
        wanted = theirs([fast.index_select(2, index), fast])
        got = model(x)[0][:, 0]
    assert wanted.std() > 0.1
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
    return model


@pytest.mark.parametrize("alpha", [2, 4])
def test_small_model_answers_like_pytorchvideo(peer: Any, alpha: int) -> None:
    theirs = importlib.import_module("pytorchvideo.models.slowfast").create_slowfast(
        model_depth=18,
        model_num_class=7,
        stem_dim_outs=(16, 4),
        slowfast_channel_reduction_ratio=4,
        slowfast_fusion_conv_kernel_size=(5, 1, 1),
        slowfast_fusion_conv_stride=(alpha, 1, 1),
        head_pool_kernel_sizes=((12 // alpha, 2, 2), (12, 2, 2)),
    )
    model = same_as_peer(theirs, clip(12, 64), alpha, {"alpha": str(alpha)})
    assert (model.arch.width, model.arch.beta_inverse, model.arch.alpha) == (16, 4, alpha)


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "alpha", "label"), [(5, 8, "4x16-r50"), (7, 4, "8x8-r50")])
def test_r50_answers_like_pytorchvideo(peer: Any, kernel: int, alpha: int, label: str) -> None:
    theirs = importlib.import_module("pytorchvideo.models.slowfast").create_slowfast(
        slowfast_fusion_conv_kernel_size=(kernel, 1, 1),
        slowfast_fusion_conv_stride=(alpha, 1, 1),
        head_pool_kernel_sizes=((32 // alpha, 7, 7), (32, 7, 7)),
    )
    model = same_as_peer(theirs, clip(32, 224), alpha, {})
    assert model.arch == slowfast_arch(label)


@pytest.mark.parametrize(
    ("builder", "changes", "label"),
    [
        ("slowfast_r50", {}, "8x8-r50"),
        ("slowfast_r101", {}, "8x8-r101-full"),
        ("slowfast_16x8_r101_50_50", {"frames": "16"}, "16x8-r101"),
        ("slow_r50", {}, "slow-4x16-r50"),
    ],
)
def test_models_of_its_hub(peer: Any, builder: str, changes: dict[str, str], label: str) -> None:
    with torch.device("meta"):
        weights = getattr(peer, builder)().state_dict()
    ours = from_slowfast({f"model.{key}": value for key, value in weights.items()})
    assert infer_slowfast(ours, "weights.pyth", {}, changes) == slowfast_arch(label)
    expected = without_counters(shapes(label))
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in expected.items()}


@pytest.mark.parametrize(
    "changes",
    [{}, NON_LOCAL, ONE | {"pathways": ("slow",)}, ONE | {"pathways": ("fast",)}],
    ids=["both", "non-local", "slow", "fast"],
)
@pytest.mark.parametrize("naming", ["pyslowfast", "caffe2", "own"])
def test_namings_round_trip(naming: str, changes: dict[str, Any]) -> None:
    model = random_model(slowfast_arch("small", **(SMALL | changes)))
    weights = model.state_dict()
    theirs: dict[str, Any] = weights
    if naming == "pyslowfast":
        theirs = to_pyslowfast(weights)
    elif naming == "caffe2":
        theirs = to_caffe2(weights)
    if naming != "own":
        assert not set(theirs) & set(weights)
        if changes.get("pathways") == ("fast",):  # one alone is the first
            theirs = {
                k.replace("pathway1", "pathway0").removeprefix("t_"): v for k, v in theirs.items()
            }
    assert is_slowfast(theirs)
    ours = without_counters(from_slowfast(theirs))
    expected = without_counters(weights)
    assert set(ours) == set(expected)
    for key, value in ours.items():
        torch.testing.assert_close(value, expected[key], rtol=0, atol=0)
    other = loaded(ours, {})
    x = clip(8, 64)
    with torch.no_grad():
        torch.testing.assert_close(other(x)[0], model(x)[0], rtol=0, atol=0)


def test_what_is_unknown_stays() -> None:
    weights = to_pyslowfast(random_model(slowfast_arch("small", **SMALL)).state_dict())
    extra = {"s9.more.weight": torch.zeros(2), "head.projection_verb.weight": torch.zeros(3)}
    ours = from_slowfast(weights | extra)
    assert set(extra) <= set(ours)


def test_other_weights_are_not_taken_for_slowfast() -> None:
    assert not is_slowfast({})
    with torch.device("meta"):
        assert not is_slowfast(MoViNet(published_arch("a0", True)).state_dict())
    # An X3D of either project.
    assert not is_slowfast({"s1.pathway0_stem.conv_xy.weight": 0, "head.projection.weight": 0})
    x3d = {"blocks.0.conv.conv_t.weight": 0, "blocks.1.res_blocks.0.branch2.conv_a.weight": 0}
    assert not is_slowfast(x3d)


@pytest.mark.parametrize("label", VARIANTS)
def test_architectures_from_shapes(label: str) -> None:
    # The weights of 16x8 models are those of 8x8 ones.
    twins = {"16x8-r101", "16x8-r101-full"}
    changes = {"frames": "16"} if label in twins else {}
    arch = infer_slowfast(shapes(label), "x", {}, changes)
    assert arch.model_copy(update={"dropout": 0.5}) == slowfast_arch(label, dropout=0.5)
    if label in twins:
        assert infer_slowfast(shapes(label), "x", {}, {}).label == label.replace("16x8", "8x8")


def test_classes_and_settings() -> None:
    weights = shapes("8x8-r50", classes=12)
    changes = {"causal": "true", "pool": "window", "dropout": "0.2"}
    arch = infer_slowfast(weights, "x", {"frames": 4, "tau": 16}, changes)
    assert (arch.classes, arch.causal, arch.pool, arch.dropout) == (12, True, "window", 0.2)
    assert (arch.frames, arch.tau, arch.label) == (4, 16, "custom")
    assert infer_slowfast(weights, "x", {"frames": 4}, {"frames": "8"}).label == "8x8-r50"


@pytest.mark.parametrize(
    ("fusion", "fields", "changes"),
    [
        ("t-sample", {"label": "custom"}, {}),
        ("ttoc-concat", {"alpha": 8}, {}),
        ("ttoc-sum", {"alpha": 8}, {"fusion": "ttoc-sum"}),
        ("none", {}, {"fusion": "none"}),
    ],
)
def test_fusions_without_weights(
    fusion: str, fields: dict[str, Any], changes: dict[str, str]
) -> None:
    weights = shapes("4x16-r50", fusion=fusion)
    arch = infer_slowfast(weights, "x", {}, changes)
    expected = slowfast_arch("4x16-r50", fusion=fusion)
    assert arch == expected.model_copy(update={"label": "custom"})
    assert fields.items() <= arch.model_dump().items()


def test_widths_that_do_not_divide() -> None:
    arch = infer_slowfast(shapes("4x16-r50", beta_inverse=6), "x", {}, {})
    assert (arch.width, arch.beta_inverse, arch.label) == (64, 6, "custom")


def broken(key: str, value: Tensor | None) -> Weights:
    weights = shapes("4x16-r50")
    del weights[key]
    return weights if value is None else weights | {key: value}


@pytest.mark.parametrize(
    ("weights", "changes", "sentence"),
    [
        ({"a.weight": torch.zeros(1)}, {}, "does not hold a SlowFast: it lacks slow.stem.conv"),
        (broken("head.classify.weight", None), {}, "it lacks head.classify.weight"),
        (broken("slow.res3.blocks.0.a.weight", None), {}, "lacks slow.res3.blocks.0.a.weight"),
        (broken("slow.res2.blocks.1.a.weight", torch.zeros(3)), {}, "its kernels lack dimensions"),
        (broken("fast.stem.conv.weight", torch.zeros(8, 3, 3, 7, 7)), {}, "sees 3 frames, not 5"),
        (
            broken("slow.res4.blocks.2.a.weight", torch.zeros(256, 1024, 1, 1, 1)),
            {},
            "temporal kernels of slow.res4 are 3, 3, 1, 3, 3, 3, not 3s and then 1s",
        ),
        (
            broken("fast.res4.blocks.5.a.weight", None),
            {},
            r"pathways have \(3, 4, 6, 3\) and \(3, 4, 5, 3\) blocks",
        ),
        (
            broken("slow.res2.blocks.0.c.weight", torch.zeros(250, 64, 1, 1, 1)),
            {},
            r"its Slow pathway is \[64, 250, 512, 1024, 2048\] channels wide",
        ),
        (
            broken("fast.res2.blocks.0.c.weight", torch.zeros(31, 8, 1, 1, 1)),
            {},
            r"its Fast pathway is \[8, 31, 64, 128, 256\] channels wide",
        ),
        (shapes("4x16-r50", fusion="none"), {}, "add --set fusion=none or --set fusion=ttoc-sum"),
        (shapes("4x16-r50"), {"width": "32"}, "--set width: no such option; choose from alpha, "),
        (shapes("4x16-r50"), {"frames": "many"}, "--set frames: Input should be a valid integer"),
        (shapes("4x16-r50"), {"pool": "max"}, "--set pool: Input should be 'cumulative' or"),
    ],
)
def test_no_slowfast_is_told_in_a_sentence(
    weights: Weights, changes: dict[str, str], sentence: str
) -> None:
    with pytest.raises(BadInput, match=sentence):
        infer_slowfast(weights, "weights.pyth", {}, changes)


def test_swapped_colours_answer_swapped_frames() -> None:
    model = random_model(slowfast_arch("small", **SMALL)).double()
    weights = model.state_dict()
    swapped = swap_colours(weights)
    other = SlowFast(model.arch).double().eval()
    other.load_state_dict(swapped)
    x = clip(8, 64).double()
    with torch.no_grad():
        torch.testing.assert_close(other(x.flip(2))[0], model(x)[0])
        assert (other(x)[0] - model(x)[0]).abs().max() > 1e-4
    again = swap_colours(swapped)
    assert all(torch.equal(again[key], value) for key, value in weights.items())
