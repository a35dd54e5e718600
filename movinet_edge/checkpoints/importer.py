"""``import``: any supported file becomes a checkpoint of ours."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from movinet_edge.checkpoints.arnet_file import infer_arnet, is_arnet
from movinet_edge.checkpoints.gtad_file import (
    infer_localizer,
    is_gtad,
    is_localizer,
    localizer_weights,
)
from movinet_edge.checkpoints.infer import Weights, infer_arch
from movinet_edge.checkpoints.native import (
    Checkpoint,
    is_native,
    load_checkpoint,
    trained_checkpoints,
    with_weights,
)
from movinet_edge.checkpoints.pytorch_file import load_pytorch, read_pytorch, recognised, unwrap
from movinet_edge.checkpoints.r2plus1d_file import infer_r2plus1d, is_r2plus1d
from movinet_edge.checkpoints.slowfast_file import (
    infer_slowfast,
    is_slowfast,
    swap_colours,
)
from movinet_edge.checkpoints.tensorflow_checkpoint import is_tensorflow, read_tensorflow
from movinet_edge.checkpoints.tflite_file import is_tflite, read_tflite
from movinet_edge.checkpoints.tsm_file import infer_tsm, is_tsm
from movinet_edge.errors import BadInput
from movinet_edge.models.arch import ModelArch
from movinet_edge.models.registry import default_preprocessing

# Whether weights in our naming are a family's, and what tells its architecture from them. MoViNet's
# is the last to be tried, and says why where it is not.
INFER: tuple[tuple[Callable[[Weights], bool], Callable[..., ModelArch]], ...] = (
    (is_localizer, infer_localizer),
    (is_arnet, infer_arnet),
    (is_tsm, infer_tsm),
    (is_r2plus1d, infer_r2plus1d),
    (is_slowfast, infer_slowfast),
)


def read_labels(path: Path) -> list[str]:
    """Class names, one per line, in the order of the outputs.

    Raises:
        BadInput: missing, empty or not text.
    """
    if not path.is_file():
        raise BadInput(f"there is no label file at {path}")
    try:
        labels = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not a text file of labels") from None
    while labels and not labels[-1]:
        labels.pop()
    if not labels or not all(labels):
        raise BadInput(f"{path} has empty lines; write one class name per line")
    return labels


def read_checkpoint(
    path: Path,
    labels: list[str] | None = None,
    changes: Mapping[str, str] | None = None,
    bgr: bool = False,
) -> Checkpoint:
    """Read any supported checkpoint; the architecture is inferred from the weights.

    Args:
        path: our safetensors or the name of one that comes with the project, a TensorFlow
            checkpoint (folder, prefix or .index), a published .tflite, or a PyTorch file (plain,
            prefixed or nested state dict).
        labels: class names that replace those in the file.
        changes: architecture fields that weights cannot tell, such as ``gate``.
        bgr: the weights take blue first; they are turned round.

    Raises:
        BadInput: missing, damaged, unsupported or of no known model; labels of the wrong length.
    """
    path = trained_checkpoints().get(str(path), path)
    if not path.exists() and not is_tensorflow(path):
        raise BadInput(f"there is no checkpoint at {path}")
    if path.is_file() and is_native(path):
        checkpoint = load_checkpoint(path)
        if changes:
            weights = checkpoint.model.state_dict()
            arch = _infer(weights, path, checkpoint.arch.model_dump(), changes)
            checkpoint.model = with_weights(arch, weights, path)
    else:
        weights, known = _read(path)
        if bgr:
            weights = _turned(weights, path)
        if is_gtad(weights):  # how to convert them depends on the architecture
            weights, known = localizer_weights(weights, path, changes or {})
            changes = None
        arch = _infer(weights, path, known, changes or {})
        model = with_weights(arch, weights, path)
        checkpoint = Checkpoint(model, default_preprocessing(arch))
    if labels is not None:
        checkpoint.labels = labels
    count = len(checkpoint.labels or [])
    if checkpoint.labels is not None and count != checkpoint.arch.classes:
        raise BadInput(
            f"{count} labels for {checkpoint.arch.classes} classes; "
            "give a label file with one line per class"
        )
    return checkpoint


def read_weights(path: Path) -> Weights:
    """The weights of a PyTorch or safetensors file under the names that they have there.

    Raises:
        BadInput: missing, damaged or without weights.
    """
    if not path.is_file():
        raise BadInput(f"there is no checkpoint at {path}")
    if path.suffix == ".safetensors":
        try:
            return unwrap(load_file(path), path)
        except (SafetensorError, OSError) as error:
            raise BadInput(f"{path} is damaged or no safetensors file; copy it again") from error
    return load_pytorch(path)


def _infer(
    weights: Weights, path: Path, known: Mapping[str, Any], changes: Mapping[str, str]
) -> ModelArch:
    for belongs, infer in INFER:
        if belongs(weights):
            return infer(weights, path, known, changes)
    return infer_arch(weights, path, known, changes)


def _turned(weights: Weights, path: Path) -> Weights:
    if not is_slowfast(weights):
        raise BadInput(f"{path} is no SlowFast; --bgr is for SlowFast checkpoints")
    return swap_colours(weights)


def _read(path: Path) -> tuple[Weights, dict[str, Any]]:
    if is_tensorflow(path):
        return read_tensorflow(path), {}
    if path.is_dir():
        if inside := sorted(path.glob("*.safetensors")):
            raise BadInput(f"{path} is a folder; name a checkpoint inside, such as {inside[0]}")
        raise BadInput(f"{path} is a folder without a TensorFlow checkpoint (*.index)")
    if path.stat().st_size == 0:
        raise BadInput(f"{path} is empty; copy it again")
    if is_tflite(path):
        return read_tflite(path)
    if path.suffix == ".safetensors":
        try:
            weights = unwrap(load_file(path), path)
        except (SafetensorError, OSError) as error:
            raise BadInput(f"{path} is damaged or no safetensors file; copy it again") from error
        return recognised(weights, path)
    if zipfile.is_zipfile(path) and "manifest.json" in zipfile.ZipFile(path).namelist():
        raise BadInput(f"{path} is a bundle, not a checkpoint; run and verify take bundles")
    return read_pytorch(path)
