"""Importers: every documented naming leads to the same model, and nothing else passes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from movinet_edge.checkpoints.importer import read_checkpoint, read_labels
from movinet_edge.checkpoints.native import Checkpoint, load_checkpoint, save_checkpoint
from movinet_edge.checkpoints.pytorch_file import canonical
from movinet_edge.checkpoints.tensorflow_checkpoint import convert
from movinet_edge.errors import BadInput
from movinet_edge.models.movinet import MoViNet
from movinet_edge.models.movinet_table import published_arch
from movinet_edge.models.registry import MODELS, default_preprocessing, seeded_model
from tests.bundles import MOVINETS
from tests.conftest import seeded_checkpoint

Weights = dict[str, Tensor]


def stream_model() -> MoViNet:
    # MoViNet-pytorch's stream models have this gate.
    return seeded_model(published_arch("a0", True, gate="hard_sigmoid_keras"))


def base_model() -> MoViNet:
    return seeded_model(published_arch("a3", False))


def as_movinet_pytorch(model: MoViNet) -> Weights:
    """Our weights under the names of MoViNet-pytorch v3 (its newest)."""
    rank = "conv2d" if model.arch.conv == "2plus1d" else "conv3d"
    parts = {
        "expand": "expand.conv_1",
        "spatial": "deep.conv_1",
        "temporal": "deep.conv_2",
        "project": "project.conv_1",
        "se.reduce": "se.fc1.conv_1",
        "se.expand": "se.fc2.conv_1",
    }
    named: Weights = {}
    for key, value in model.state_dict().items():
        block = re.match(r"b(\d)\.l(\d+)\.(.+)$", key)
        if block is None:
            for ours, theirs in (
                ("stem", "conv1.conv_1"),
                ("head.project", "conv7.conv_1"),
                ("head.hidden", "classifier.0.conv_1.conv"),
                ("head.classify", "classifier.3.conv_1.conv"),
            ):
                if key.startswith(ours + "."):
                    name = theirs + key.removeprefix(ours)
        else:
            place, rest = f"blocks.b{block[1]}_l{block[2]}", block[3]
            name = f"{place}.alpha"
            for ours, theirs in parts.items():
                if rest.startswith(ours + "."):
                    leaf = rest.removeprefix(ours + ".")
                    name = f"{place}.{theirs}.{'conv.' if 'se.' in ours else ''}{leaf}"
            if rest.startswith("skip."):
                pooled = not (block[1] == "3" and block[2] == "0")
                name = f"{place}.res.{int(pooled)}.conv_1.{rest.removeprefix('skip.project.')}"
        if value.dim() == 2:
            value = value[..., None, None]
        if rank == "conv3d" and value.dim() == 4:
            value = value[:, :, None]
        if rank == "conv2d" and value.dim() == 5:
            value = value.flatten(2, 3) if ".temporal." in key else value[:, :, 0]
            value = value.reshape(*value.shape[:2], -1, 1) if ".temporal." in key else value
        named[name.replace(".conv.", f".{rank}.")] = value
    return named


def to_v1(weights: Weights) -> Weights:
    """v1 and v2: no conv_1 level; plain convolutions in squeeze-excite and classifier."""
    renamed = {}
    for key, value in weights.items():
        key = re.sub(r"(fc[12]|classifier\.[03])\.conv_1\.conv3d", r"\1", key)
        renamed[key.replace(".conv_1.", ".")] = value
    return renamed


def to_2plus1s(weights: Weights) -> Weights:
    return {re.sub(r"\.conv_(\d)\.", r".2plus1s.conv_\1.", k): v for k, v in weights.items()}


def to_fine_tuned(weights: Weights) -> Weights:
    """As its tutorial does: classifier[3] replaced by a plain Conv3d, also in stream models."""
    weights = dict(weights)
    old = "classifier.3.conv_1.conv2d"
    weights["classifier.3.weight"] = weights.pop(f"{old}.weight")[:51, ..., None]
    weights["classifier.3.bias"] = weights.pop(f"{old}.bias")[:51]
    return weights


def same_answers(model: MoViNet, other: MoViNet, classes: int = 600) -> None:
    x = torch.rand(1, 3, 3, 48, 48, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        torch.testing.assert_close(other(x)[0], model(x)[0][..., :classes])


@pytest.mark.parametrize(
    ("make", "rename", "classes"),
    [
        pytest.param(stream_model, dict, 600, id="v3-stream"),
        pytest.param(stream_model, to_2plus1s, 600, id="development-branch"),
        pytest.param(stream_model, to_fine_tuned, 51, id="fine-tuned"),
        pytest.param(base_model, dict, 600, id="v3-base"),
        pytest.param(base_model, to_v1, 600, id="v1-base"),
    ],
)
def test_movinet_pytorch_namings(
    make: Callable[[], MoViNet],
    rename: Callable[[Weights], Weights],
    classes: int,
    tmp_path: Path,
) -> None:
    model = make()
    torch.save(rename(as_movinet_pytorch(model)), tmp_path / "weights.pth")
    checkpoint = read_checkpoint(tmp_path / "weights.pth")
    assert checkpoint.arch.gate == model.arch.gate
    assert checkpoint.arch.classes == classes
    same_answers(model, checkpoint.model, classes)


def test_canonical_names_keep_keys_apart() -> None:
    keys = as_movinet_pytorch(stream_model())
    assert len({canonical(key) for key in keys}) == len(keys)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda w: w,
        lambda w: {f"module.{k}": v for k, v in w.items()},
        lambda w: {"epoch": 3, "state_dict": w, "lr": 0.1},
        lambda w: {"model": {"state_dict": {f"module.model.{k}": v for k, v in w.items()}}},
        lambda w: {f"_orig_mod.{k}": v for k, v in w.items()},
    ],
    ids=["plain", "module.", "nested", "nested-twice", "compiled"],
)
def test_plain_prefixed_and_nested_files(wrap: Callable[[Weights], object], tmp_path: Path) -> None:
    model = seeded_model(MODELS["movinet-a0-stream"])
    torch.save(wrap(model.state_dict()), tmp_path / "weights.pt")
    same_answers(model, read_checkpoint(tmp_path / "weights.pt").model)


def test_plain_safetensors(tmp_path: Path) -> None:
    model = seeded_model(MODELS["movinet-a1-stream"])
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    checkpoint = read_checkpoint(tmp_path / "weights.safetensors")
    assert checkpoint.arch.variant == "a1"
    same_answers(model, checkpoint.model)


@pytest.mark.parametrize("name", list(MOVINETS))
def test_architecture_is_inferred_from_shapes(name: str, tmp_path: Path) -> None:
    with torch.device("meta"):
        weights = MoViNet(MOVINETS[name]).state_dict()
    from movinet_edge.checkpoints.infer import infer_arch

    assert infer_arch(weights, name, {}, {}) == MODELS[name]


def test_native_round_trip(tmp_path: Path) -> None:
    checkpoint = seeded_checkpoint(MODELS["movinet-a0-stream"], side=96)
    checkpoint.labels = [f"label {i}" for i in range(600)]
    save_checkpoint(checkpoint, tmp_path / "a.safetensors")
    again = load_checkpoint(tmp_path / "a.safetensors")
    assert again.arch == checkpoint.arch
    assert again.preprocessing == checkpoint.preprocessing
    assert again.labels == checkpoint.labels
    same_answers(checkpoint.model, again.model)
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_set_options_win(tmp_path: Path) -> None:
    model = seeded_model(MODELS["movinet-a0-stream"])
    torch.save(model.state_dict(), tmp_path / "w.pt")
    changed = read_checkpoint(tmp_path / "w.pt", changes={"gate": "hard_sigmoid_keras"})
    assert changed.arch.gate == "hard_sigmoid_keras"
    with pytest.raises(BadInput, match="no such option"):
        read_checkpoint(tmp_path / "w.pt", changes={"gates": "x"})
    with pytest.raises(BadInput, match="gate"):
        read_checkpoint(tmp_path / "w.pt", changes={"gate": "x"})


def test_wrong_weights_are_refused_with_their_keys(tmp_path: Path) -> None:
    weights = seeded_model(MODELS["movinet-a0-stream"]).state_dict()
    cases = {
        "left over: b0.l0.extra": weights | {"b0.l0.extra": torch.zeros(1)},
        "missing: b1.l0.se.expand.bias": {
            k: v for k, v in weights.items() if k != "b1.l0.se.expand.bias"
        },
        "a0 would have": weights | {"b1.l2.project.conv.weight": torch.zeros(40, 80, 1, 1)},
        "NaN": weights | {"stem.norm.bias": torch.full((8,), float("nan"))},
    }
    for message, content in cases.items():
        torch.save(content, tmp_path / "w.pt")
        with pytest.raises(BadInput, match=re.escape(message)):
            read_checkpoint(tmp_path / "w.pt")


def test_labels(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text("\ufeffa\nb \n\n", "utf-8")
    assert read_labels(tmp_path / "l.txt") == ["a", "b"]
    (tmp_path / "l.txt").write_text("a\n\nb\n")
    with pytest.raises(BadInput, match="empty lines"):
        read_labels(tmp_path / "l.txt")


def test_tensorflow_rank_five_kernels_mean_the_same() -> None:
    """Conv type 3d_2plus1d holds 2plus1d's numbers in Conv3D kernels."""
    rng = np.random.default_rng(0)
    arch = published_arch("a0", True)
    values: dict[str, np.ndarray] = {}
    for number, layer in enumerate(arch.table.layers(), start=1):
        root = f"model/layer_with_weights-0/layer_with_weights-{number}"
        values[f"{root}/_expansion/_conv/_conv/kernel"] = rng.random(
            (1, 1, layer.inputs, layer.expand), np.float32
        )
        values[f"{root}/_feature/_conv/_conv/depthwise_kernel"] = rng.random(
            (layer.space, layer.space, layer.expand, 1), np.float32
        )
        if layer.time > 1:
            values[f"{root}/_feature/_conv_temporal/_conv/depthwise_kernel"] = rng.random(
                (layer.time, 1, layer.expand, 1), np.float32
            )
    five = {}
    for key, value in values.items():
        if "temporal" in key:
            five[key] = value[:, :, None]
        else:
            five[key] = value[None]
    flat, deep = convert(values), convert(five)
    assert flat.keys() == deep.keys()
    for key, value in flat.items():
        assert torch.equal(value, deep[key]), key
    assert flat["b1.l0.temporal.conv.weight"].shape == (80, 1, 3, 1, 1)


def test_official_tflite_equals_official_checkpoint(shared: Callable[[str], Path]) -> None:
    """Two roads to the same weights: the float .tflite and the TensorFlow checkpoint."""
    pytest.importorskip("tensorflow")
    first = read_checkpoint(shared("data/official_a0/checkpoint"))
    second = read_checkpoint(shared("data/official_a0/movinet_a0_stream_fp32.tflite"))
    assert first.arch == second.arch
    x = torch.rand(1, 2, 3, 172, 172)
    with torch.no_grad():
        expected = first.model(x)[0]
        error = (second.model(x)[0] - expected).abs().max() / expected.std()
    assert error < 1e-4


def test_published_int8_file(shared: Callable[[str], Path]) -> None:
    checkpoint = read_checkpoint(shared("data/weights/movinet_a0_stream_k600_int8.tflite"))
    arch = checkpoint.arch
    assert (arch.variant, arch.causal, arch.conv) == ("a0", True, "2plus1d")
    assert (arch.squeeze_excite, arch.activation) == ("none", "relu6")
    scales = [v.item() for k, v in checkpoint.model.state_dict().items() if k.endswith(".scale")]
    assert len(scales) == 15
    assert all(1.5 < abs(s) < 2.4 for s in scales)


def test_default_preprocessing_follows_the_table() -> None:
    contract = default_preprocessing(MODELS["movinet-a2-stream"])
    assert (contract.height, contract.width, contract.frame_rate) == (224, 224, 5)
    assert isinstance(Checkpoint(base_model(), contract).arch.name, str)
