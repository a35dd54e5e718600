"""TensorFlow Model Garden checkpoints (``tf.train.Checkpoint(model=...)``), base and stream.

Variables are addressed by attribute paths:
``model/layer_with_weights-0/layer_with_weights-5/_feature/_conv/_conv/depthwise_kernel/...``;
inside the backbone, number 0 is the stem, the last one the head's projection, the rest layers.
Conv types ``2plus1d`` and ``3d_2plus1d`` hold the same numbers in kernels of rank 4 and 5.
"""

from __future__ import annotations

import importlib.util
import re
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from movinet_edge.checkpoints import tensorflow_dump
from movinet_edge.checkpoints.infer import Weights
from movinet_edge.child import run_module
from movinet_edge.errors import BadInput
from movinet_edge.models.movinet_table import VARIANTS

# Attribute path inside a layer -> module path of ours.
MODULES = {
    "_expansion": "expand",
    "_feature": "spatial",
    "_projection": "project",
    "_skip/_projection": "skip.project",
    "_attention/_se_reduce": "se.reduce",
    "_attention/_se_expand": "se.expand",
}
NORMS = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def is_tensorflow(path: Path) -> bool:
    """Whether `path` is a checkpoint prefix, its index, or a folder that holds one."""
    return _prefix(path) is not None


def _prefix(path: Path) -> Path | None:
    if path.is_dir():
        found = sorted(path.glob("*.index"))
        return found[-1].with_suffix("") if found else None
    if path.suffix == ".index" and path.is_file():
        return path.with_suffix("")
    return path if path.with_name(f"{path.name}.index").is_file() else None


def read_tensorflow(path: Path) -> Weights:
    """The weights of a checkpoint in this project's naming.

    Raises:
        BadInput: TensorFlow is not installed, or the file is damaged or no MoViNet.
    """
    if importlib.util.find_spec("tensorflow") is None:
        raise BadInput("TensorFlow checkpoints need TensorFlow; pip install 'movinet-edge[tf]'")
    with tempfile.TemporaryDirectory(prefix="movinet-edge-") as folder:
        dump = Path(folder) / "variables.npz"
        done = run_module(tensorflow_dump.__name__, str(_prefix(path)), str(dump))
        if done.returncode == tensorflow_dump.UNREADABLE:
            raise BadInput(f"{path} is damaged or no TensorFlow checkpoint; copy it again")
        if done.returncode:
            reason = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
            raise BadInput(f"TensorFlow failed to read {path}: {reason}")
        with np.load(dump) as arrays:
            values = {str(name): arrays[f"v{i}"] for i, name in enumerate(arrays["names"])}
    weights = convert(values)
    if not weights:
        raise BadInput(f"{path} holds no MoViNet of the TensorFlow Model Garden")
    return weights


def convert(values: dict[str, np.ndarray]) -> Weights:
    """Attribute paths -> our names; kernels become channels-first."""
    numbers = sorted(
        {int(m[1]) for k in values if (m := re.search(r"layer_with_weights-(\d+)/_feature/", k))}
    )
    places = _places(numbers, values)
    weights: Weights = {}
    for key, value in values.items():
        inside = re.search(r"layer_with_weights-(\d+)/(_.+)$", key)
        if inside is None:
            continue
        number, path = int(inside[1]), inside[2]
        name = _name(places.get(number), path)
        if name is not None:
            weights[name] = _layout(name, np.asarray(value))
    return weights


def _places(numbers: list[int], values: dict[str, np.ndarray]) -> dict[int, str]:
    """Backbone numbers -> ``b{stage}.l{index}``.

    A stage begins where the width changes or the kernel is 5x3x3 in front of equal widths; rather
    than guess, the widths are matched with the tables.
    """

    def expand(number: int) -> int:
        suffix = f"layer_with_weights-{number}/_expansion/_conv/_conv/kernel"
        return next((v.shape[-1] for k, v in values.items() if k.endswith(suffix)), 0)

    widths = [expand(number) for number in numbers]
    for table in VARIANTS.values():
        layers = table.layers()
        if [layer.expand for layer in layers] == widths:
            return {n: layer.name for n, layer in zip(numbers, layers, strict=True)}
    return {}


def _name(block: str | None, path: str) -> str | None:
    module, _, leaf = path.rpartition("/")
    if path.startswith(("_stem/", "_project/")):
        root = "stem" if path.startswith("_stem/") else "head.project"
        return _leaf(root, module.split("/", 1)[1], leaf)
    if path.startswith(("_head/", "_classifier/")):
        root = "head.hidden" if path.startswith("_head/") else "head.classify"
        return f"{root}.{'weight' if leaf == 'kernel' else leaf}"
    if block is None:
        return None
    if path == "_mobile_bottleneck/_rezero/scale":
        return f"{block}.scale"
    if path.startswith("_attention/_pos_encoding/"):
        return f"{block}.se.position.scale"
    for prefix, ours in MODULES.items():
        if path.startswith(prefix + "/"):
            rest = module.removeprefix(prefix).strip("/")
            if rest.endswith("_temporal") or "_temporal/" in rest:
                return _leaf(f"{block}.temporal", rest.replace("_temporal", ""), leaf)
            if ours.startswith("se."):
                return f"{block}.{ours}.{'weight' if leaf == 'kernel' else leaf}"
            return _leaf(f"{block}.{ours}", rest, leaf)
    return None


def _leaf(root: str, rest: str, leaf: str) -> str:
    if rest.startswith("_batch_norm"):
        return f"{root}.norm.{NORMS[leaf]}"
    return f"{root}.conv.weight"


def _layout(name: str, value: np.ndarray) -> Tensor:
    """TensorFlow's kernel layouts -> PyTorch's."""
    if value.ndim < 4:
        return torch.from_numpy(value.copy())
    if name.endswith((".spatial.conv.weight", ".temporal.conv.weight")):
        return torch.from_numpy(_depthwise(value, temporal=".temporal." in name).copy())
    matrix = value.reshape(value.shape[-4:])  # 1x1 kernels of rank 5 lead with time = 1
    if ".se." in name or name.startswith(("head.hidden", "head.classify")):
        return torch.from_numpy(matrix.reshape(matrix.shape[-2:]).T.copy())
    return torch.from_numpy(matrix.transpose(3, 2, 0, 1).copy())


def _depthwise(value: np.ndarray, *, temporal: bool) -> np.ndarray:
    """[h, w, C, 1], [k, 1, C, 1] or [t, h, w, C, 1] / [t, h, w, 1, C] -> [C, 1, t, h, w]."""
    if value.ndim == 4:
        value = value[:, :, None] if temporal else value[None]
    time, height, width, *_ = value.shape
    return value.reshape(time, height, width, -1).transpose(3, 0, 1, 2)[:, None]
