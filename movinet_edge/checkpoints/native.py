"""Our checkpoint: safetensors with the architecture, the preprocessing contract and labels."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from movinet_edge.bundle import Preprocessing, Record
from movinet_edge.errors import BadInput
from movinet_edge.files import atomic_file, write_errors
from movinet_edge.models.arch import ModelArch, VideoModel
from movinet_edge.models.registry import arch_from_record, build

# Really trained checkpoints that come with the project, each with a card and a log beside it.
TRAINED = Path(__file__).parent / "trained"
KEY = "movinet_edge"  # of the one metadata entry: the library writes several in random order


class CheckpointRecord(Record):
    """What travels with the weights."""

    format: Literal[1] = 1
    architecture: dict[str, Any]
    preprocessing: Preprocessing
    labels: list[str] | None = None


@dataclass
class Checkpoint:
    """A model with what is needed to use it."""

    model: VideoModel
    preprocessing: Preprocessing
    labels: list[str] | None = None

    @property
    def arch(self) -> ModelArch:
        return self.model.arch


def with_weights(arch: ModelArch, weights: dict[str, Tensor], source: object) -> VideoModel:
    """A model of `arch` holding exactly `weights`.

    Raises:
        BadInput: keys missing, left over or of another shape; all are listed.
    """
    model = build(arch)
    take_weights(model, arch.name, weights, source)
    return model


def take_weights(
    model: nn.Module, name: str, weights: Mapping[str, Tensor], source: object
) -> None:
    """Give a model, called `name`, exactly `weights`.

    Raises:
        BadInput: keys missing, left over or of another shape; all are listed.
    """
    expected = model.state_dict()
    # A counter that inference does not use and that some formats leave out.
    optional = {k for k in expected if k.endswith("num_batches_tracked")}
    missing = sorted(set(expected) - set(weights) - optional)
    left = sorted(set(weights) - set(expected))
    shapes = sorted(
        f"{k} {list(weights[k].shape)} instead of {list(expected[k].shape)}"
        for k in set(weights) & set(expected)
        if weights[k].shape != expected[k].shape
    )
    problems = [
        f"{kind}: {', '.join(keys)}"
        for kind, keys in (("missing", missing), ("left over", left), ("wrong shape", shapes))
        if keys
    ]
    if problems:
        raise BadInput(f"{source} does not hold a {name} ({'; '.join(problems)})")
    bad = sorted(k for k, v in weights.items() if v.is_floating_point() and not v.isfinite().all())
    if bad:
        raise BadInput(f"{source} holds NaN or infinite weights ({', '.join(bad)}); retrain it")
    model.load_state_dict(weights, strict=False)


def trained_checkpoints() -> dict[str, Path]:
    """The checkpoints that come with the project, by name."""
    return {path.stem: path for path in sorted(TRAINED.glob("*.safetensors"))}


def save_checkpoint(checkpoint: Checkpoint, path: Path, half: bool = False) -> None:
    """Write a checkpoint; a failed write leaves nothing behind.

    Args:
        half: store the weights of convolutions and dense layers in 16 bits (fp16). They are read
            back as float32; batch norm and scalars are kept as they are.

    Raises:
        BadInput: the place cannot be written or the disk is full.
    """
    with atomic_file(path, parents=True) as work, write_errors(path):
        write_checkpoint(checkpoint, work, half)


def write_checkpoint(checkpoint: Checkpoint, path: Path, half: bool = False) -> None:
    """Write into a folder that is itself temporary: in place, and an `OSError` passes."""
    record = CheckpointRecord(
        architecture=checkpoint.arch.model_dump(),
        preprocessing=checkpoint.preprocessing,
        labels=checkpoint.labels,
    )
    tensors = {k: v.contiguous() for k, v in checkpoint.model.state_dict().items()}
    if half:
        tensors = {k: v.half() if v.dim() > 1 else v for k, v in tensors.items()}
    try:
        # Without what is not there, older versions read what they can run.
        save_file(tensors, path, {KEY: record.model_dump_json(exclude_none=True)})
        path.chmod(0o644)  # the library makes it private
    except SafetensorError as error:  # how safetensors reports a full disk
        full = "space" in str(error)
        raise OSError(errno.ENOSPC if full else errno.EIO, str(error)) from error


def is_native(path: Path) -> bool:
    """Whether `path` is a safetensors file of ours."""
    try:
        with safe_open(path, "pt") as file:
            return KEY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of ours.

    Raises:
        BadInput: missing, damaged, or another program's file.
    """
    if not path.is_file():
        raise BadInput(f"there is no checkpoint at {path}")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{path} is damaged or no safetensors file; copy it again") from error
    if KEY not in metadata:
        raise BadInput(f"{path} was not written by movinet-edge; use movinet-edge import first")
    try:
        record = CheckpointRecord.model_validate_json(metadata[KEY])
    except ValidationError as error:
        raise BadInput(
            f"{path} has damaged metadata or comes from a newer version; update movinet-edge "
            "or write it again"
        ) from error
    arch = arch_from_record(record.architecture)
    return Checkpoint(with_weights(arch, weights, path), record.preprocessing, record.labels)
