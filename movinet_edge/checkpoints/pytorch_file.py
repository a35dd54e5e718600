"""PyTorch files: our own naming, and every naming of Atze00/MoViNet-pytorch.

That repository's formats (read from its history): v1 and v2 (base only) lack the ``conv_1``
level, v3 has it for base (``conv3d``) and stream (``conv2d``); a development branch wrote
``.2plus1s.``; the shortcut's index depends on whether it pools; and fine-tuned files replace
``classifier.3`` by a plain Conv3d.
"""

from __future__ import annotations

import codecs
import importlib
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from movinet_edge.checkpoints.arnet_file import from_arnet, is_public_arnet
from movinet_edge.checkpoints.infer import Weights
from movinet_edge.checkpoints.r2plus1d_file import from_r2plus1d, is_torchvision_r2plus1d
from movinet_edge.checkpoints.slowfast_file import from_slowfast
from movinet_edge.checkpoints.tsm_file import from_tsm, is_public_tsm
from movinet_edge.errors import BadInput

# Names under which training scripts nest the weights, and prefixes that wrappers add.
NESTS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "blobs",
    "model",
    "net",
    "network",
    "weights",
    "ema",
)
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "backbone.")

ATZE_MODULES = {
    "conv1": "stem",
    "conv7": "head.project",
    "classifier.0": "head.hidden",
    "classifier.3": "head.classify",
}
ATZE_PARTS = {
    "expand.conv_1": "expand",
    "deep.conv_1": "spatial",
    "deep.conv_2": "temporal",
    "project.conv_1": "project",
    "res.conv_1": "skip.project",
    "se.fc1.conv_1": "se.reduce",
    "se.fc2.conv_1": "se.expand",
}
_CONV_NORM = r"(conv1|conv7|blocks\.b\d+_l\d+\.(?:expand|deep|project|res))"


def read_pytorch(path: Path) -> tuple[Weights, dict[str, Any]]:
    """Weights in this project's naming, and the architecture fields the format implies.

    Raises:
        BadInput: damaged, holding code or a whole model, or nothing that is known.
    """
    return recognised(load_pytorch(path), path)


def recognised(weights: Weights, path: Path) -> tuple[Weights, dict[str, Any]]:
    """Weights of any naming in this project's, and the architecture fields the naming implies.

    Raises:
        BadInput: a model that is known, but not whole or not as published.
    """
    if any(re.match(r"blocks\.b\d+_l\d+\.", key) for key in weights):
        return from_atze(weights)
    if is_public_tsm(weights):  # AR-Net's names are similar
        return from_tsm(weights, path), {}
    if is_public_arnet(weights):
        return from_arnet(weights, path)
    if is_torchvision_r2plus1d(weights):
        return from_r2plus1d(weights), {}
    return from_slowfast(weights), {}


def load_pytorch(path: Path) -> Weights:
    """Weights under the names that they have in the file, without wrappers' prefixes.

    Raises:
        BadInput: damaged, or holding code or a whole model.
    """
    try:
        if path.suffix == ".pkl":
            content = read_blobs(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise BadInput(
            f"{path} holds Python objects or code, not only weights, or is no PyTorch file, and "
            "was not opened; save model.state_dict() instead"
        ) from None
    except Exception as error:  # unpickling noise raises anything
        raise BadInput(f"{path} is damaged or no PyTorch checkpoint; copy it again") from error
    return unwrap(content, path)


class _Blobs(pickle.Unpickler):
    """Opens pickles of NumPy arrays and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        where = module.replace("numpy.core", "numpy._core")
        if where == "numpy._core.multiarray" and name in ("_reconstruct", "scalar"):
            return getattr(importlib.import_module("numpy._core.multiarray"), name)
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        if (module, name) == ("_codecs", "encode"):
            return codecs.encode
        raise pickle.UnpicklingError(f"{module}.{name}")


def read_blobs(path: Path) -> dict[str, Any]:
    """The arrays of a caffe2 model zoo file as tensors, as deep as they are nested.

    Raises:
        pickle.UnpicklingError: it holds anything else.
    """
    with path.open("rb") as file:
        content = _Blobs(file, encoding="latin1").load()

    def tensors(value: object) -> object:
        if isinstance(value, Mapping):
            return {str(key): tensors(inner) for key, inner in value.items()}
        return torch.from_numpy(value) if isinstance(value, np.ndarray) else value

    found = tensors(content)
    if not isinstance(found, dict):
        raise pickle.UnpicklingError("no mapping")
    return found


def unwrap(content: object, path: object) -> Weights:
    """The flat mapping of names to tensors inside a checkpoint of some training script."""
    while isinstance(content, Mapping):
        tensors = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
        if len(tensors) > len(content) / 2:
            return _strip(tensors)
        nested = next((content[n] for n in NESTS if isinstance(content.get(n), Mapping)), None)
        if nested is None:
            break
        content = nested
    raise BadInput(f"{path} holds no weights (looked for a state_dict, also nested)")


def _strip(weights: Weights) -> Weights:
    """Drop a prefix that every name has."""
    stripped = True
    while stripped:
        stripped = False
        for prefix in PREFIXES:
            if all(key.startswith(prefix) for key in weights):
                weights = {key.removeprefix(prefix): v for key, v in weights.items()}
                stripped = True
    return weights


def canonical(key: str) -> str:
    """Any historical key of MoViNet-pytorch as ``...conv_1.conv.weight``, v3 without conv2d/3d."""
    key = key.replace(".2plus1s.", ".")
    key = re.sub(r"\.res\.[01]\.", ".res.", key)
    key = re.sub(r"\.conv3d\.conv\.weight$", ".conv3d.weight", key)
    key = re.sub(rf"^{_CONV_NORM}\.(conv3d|norm)\.", r"\1.conv_1.\2.", key)
    key = re.sub(r"(\.se\.fc[12]|^classifier\.[03])\.(weight|bias)$", r"\1.conv_1.conv.\2", key)
    return re.sub(r"\.conv[23]d\.", ".conv.", key)


def from_atze(weights: Weights) -> tuple[Weights, dict[str, Any]]:
    """MoViNet-pytorch's names and shapes -> ours.

    Activation and gate follow the convolutions there: 2plus1d models have hard-swish and the
    gate 0.2x + 0.5, 3d models swish and sigmoid; the classifier's activation is always swish.
    """
    factored = any("conv2d" in key for key in weights)
    converted: Weights = {}
    for key, value in weights.items():
        name = atze_name(key)
        if name is None:
            converted[key] = value  # stays, to be reported as left over
        elif not name.endswith("num_batches_tracked"):
            try:
                converted[name] = _atze_shape(name, value)
            except RuntimeError:  # stays, to be reported as of the wrong shape
                converted[name] = value
    fields = {
        "activation": "hard_swish" if factored else "swish",
        "gate": "hard_sigmoid_keras" if factored else "sigmoid",
        "classifier_activation": "swish",
    }
    return converted, fields


def atze_name(key: str) -> str | None:
    """Our name for a key of MoViNet-pytorch of any version; None for what is no weight there."""
    key = canonical(key)
    block = re.match(r"blocks\.b(\d+)_l(\d+)\.(.+)$", key)
    if block is None:
        for theirs, ours in ATZE_MODULES.items():
            if key.startswith(f"{theirs}.conv_1."):
                leaf = key.removeprefix(f"{theirs}.conv_1.")
                dense = theirs.startswith("classifier")
                return f"{ours}.{leaf.removeprefix('conv.') if dense else leaf}"
        return None
    place, rest = f"b{block[1]}.l{block[2]}", block[3]
    if rest == "alpha":
        return f"{place}.scale"
    for theirs, ours in ATZE_PARTS.items():
        if rest.startswith(theirs + "."):
            leaf = rest.removeprefix(theirs + ".")
            return f"{place}.{ours}.{leaf.removeprefix('conv.') if 'se.' in ours else leaf}"
    return None


def _atze_shape(name: str, value: Tensor) -> Tensor:
    if value.dim() < 4:
        return value
    if ".se." in name or name.startswith(("head.hidden", "head.classify")):
        return value.flatten(1)
    if ".temporal." in name:
        return value.reshape(value.shape[0], 1, -1, 1, 1)
    if ".spatial." in name:
        return value if value.dim() == 5 else value[:, :, None]
    return value.reshape(*value.shape[:2], *value.shape[-2:])
