"""The bundle: a directory (or .zip) with everything a host needs to run a streaming model.

``manifest.json`` (this schema) + model files + ``labels.txt`` + ``golden.npz`` (an input stream
with the expected outputs) + ``parity.json`` + ``report.html``. Hosts bind tensors by name only.
This module needs neither torch nor an engine.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from movinet_edge.errors import BadInput

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
FormatName = Literal["onnx", "tflite", "torch"]
Precision = Literal["fp32"]


def _inside(path: str) -> str:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path or not path:
        raise ValueError(f"{path!r} points outside the bundle")
    return path


BundlePath = Annotated[str, AfterValidator(_inside)]


class Record(BaseModel):
    """Base of all records: immutable, and unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Quantization(Record):
    """real = scale * (stored - zero_point)."""

    scale: float = Field(gt=0)
    zero_point: int


class TensorSpec(Record):
    """One input or output of a graph, bound by `name`.

    A state tensor names its `state`; `slot` numbers the past frames of a ``shift`` state, 0 the
    oldest. The output of a state has no slot.
    """

    name: str
    role: Literal["frame", "state", "feature", "output"]
    shape: tuple[int, ...] = Field(max_length=5)
    dtype: Literal["float32", "uint8", "int8", "int32"] = "float32"
    layout: Literal["NHWC", "NCHW"] | None = None
    quantization: Quantization | None = None
    state: str | None = None
    slot: int | None = None


class StateRule(Record):
    """How a host carries a state from step to step.

    ``shift``: the last `past` frames, the oldest leaves when the graph's new frame comes in.
    ``replace``: the graph's output is the next value. Both begin with `initial` everywhere.
    """

    name: str
    rule: Literal["shift", "replace"]
    past: int = Field(0, ge=0)
    initial: float = 0.0


class ModelFile(Record):
    """One artefact of a graph. `runtime` is the lowest engine version it was run with."""

    path: BundlePath
    format: FormatName
    precision: Precision
    sha256: str
    bytes: int
    runtime: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class Graph(Record):
    """One model of the bundle; `frames` frames enter each run (more than 1: a whole clip)."""

    name: str
    form: Literal["fresh", "carry", "clip"]
    frames: int = Field(1, ge=1)
    macs: int
    states: tuple[StateRule, ...]
    files: tuple[ModelFile, ...]

    @model_validator(mode="after")
    def _states_are_bound(self) -> Self:
        known = {state.name for state in self.states}
        for file in self.files:
            for tensors in (file.inputs, file.outputs):
                if len({tensor.name for tensor in tensors}) < len(tensors):
                    raise ValueError(f"{file.path} names a tensor twice")
                for tensor in tensors:
                    if (tensor.state is not None) != (tensor.role == "state"):
                        raise ValueError(f"tensor {tensor.name!r} and its role do not agree")
                    if tensor.state is not None and tensor.state not in known:
                        raise ValueError(f"tensor {tensor.name!r} is of no state of the graph")
        return self


class PlanStep(Record):
    """Run `graph` at every frame n with n % every == offset."""

    graph: str
    every: int = Field(1, ge=1)
    offset: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _is_reached(self) -> Self:
        if self.offset >= self.every:
            raise ValueError(f"graph {self.graph!r} would never run (offset {self.offset})")
        return self


class Plan(Record):
    """Which graph runs when, and what the answer is.

    Features pass between graphs by name. The answer is the output tensor `answer`: of the graph
    that ran last (``last``), or the mean over all graphs that have it, each with its newest
    value (``mean``; temporal ensembles).
    """

    steps: tuple[PlanStep, ...]
    answer: str = "logits"
    combine: Literal["last", "mean"] = "last"


class Preprocessing(Record):
    """From a decoded frame to the model's input.

    Take RGB at `frame_rate` frames per second; `fit` ``crop``: the largest centred rectangle of
    the target's aspect ratio, times `crop_fraction`; ``stretch``: the whole frame. Resize
    bilinearly with half-pixel centres (`antialias`: the filter widens when shrinking; it may reach
    beyond the rectangle, as in Pillow's ``resize(box=...)``), scale bytes by 1/255 into [0, 1]. No
    mean or deviation is subtracted. A frame that has the target's size is taken as it is.
    """

    height: int = Field(ge=1)
    width: int = Field(ge=1)
    frame_rate: float = Field(gt=0)
    fit: Literal["crop", "stretch"] = "crop"
    crop_fraction: float = Field(1.0, gt=0, le=1)
    antialias: bool = True
    colour: Literal["RGB"] = "RGB"
    value_range: Literal["0..1"] = "0..1"


class Threshold(Record):
    """Parity limits of one precision, relative to the deviation of the reference logits."""

    max_error: float
    min_cosine: float
    min_top1_agreement: float


class Provenance(Record):
    """Where a bundle comes from: its model's architecture and weights, the tools that wrote it."""

    architecture: dict[str, Any]
    checkpoint_sha256: str
    tools: dict[str, str]


class Attachment(Record):
    """A file beside the models."""

    path: BundlePath
    sha256: str


class Manifest(Record):
    """Everything a host must know; ``manifest.json``."""

    schema_version: Literal[1] = 1
    name: str
    task: Literal["classification"] = "classification"
    classes: int
    labels: Attachment | None = None
    golden: Attachment
    preprocessing: Preprocessing
    output: Literal["logits", "probabilities"] = "logits"
    graphs: tuple[Graph, ...]
    plan: Plan
    thresholds: dict[str, Threshold]
    provenance: Provenance

    @model_validator(mode="after")
    def _plan_gives_an_answer(self) -> Self:
        graphs = {graph.name: graph for graph in self.graphs}
        answering = False
        for step in self.plan.steps:
            if step.graph not in graphs:
                raise ValueError(f"the plan names a graph {step.graph!r} that is not there")
            files = graphs[step.graph].files
            answering |= any(o.name == self.plan.answer for f in files for o in f.outputs)
        if not answering:
            raise ValueError(f"no graph of the plan has the answer {self.plan.answer!r}")
        return self

    @model_validator(mode="after")
    def _frames_fit_the_contract(self) -> Self:
        contract = self.preprocessing
        for graph in self.graphs:
            shape = (graph.frames, contract.height, contract.width, 3)
            for file in graph.files:
                for tensor in file.inputs:
                    if tensor.role == "frame" and tensor.shape != shape:
                        raise ValueError(f"{file.path} takes frames of {list(tensor.shape)}")
        return self

    def graph(self, name: str) -> Graph:
        return next(g for g in self.graphs if g.name == name)


def sha256_of(path: Path) -> str:
    """The hash of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Bundle:
    """An opened bundle: its manifest and its files on disk, checked against their hashes.

    A zip is unpacked into a temporary directory that lives as long as this object.

    Raises:
        BadInput: not a bundle, damaged, made by a newer version, or unsafe.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._unpacked: tempfile.TemporaryDirectory[str] | None = None
        if not self.path.exists():
            raise BadInput(f"there is no bundle at {self.path}; write one with movinet-edge export")
        if self.path.is_file():
            self._unpacked = tempfile.TemporaryDirectory(prefix="movinet-edge-")
            self.root = Path(self._unpacked.name)
            _unzip(self.path, self.root)
        else:
            self.root = self.path
        self.manifest = _read_manifest(self.path, self.root / MANIFEST)
        self._checked: set[str] = set()
        self.labels = self._read_labels()

    def file(self, entry: ModelFile | Attachment) -> Path:
        """The path of a file named by the manifest, after its hash was checked once."""
        path = self.root / entry.path
        if not path.is_file() or self.root.resolve() not in path.resolve().parents:
            raise BadInput(f"{self.path} lacks {entry.path}; export the bundle again")
        if entry.path not in self._checked:
            if sha256_of(path) != entry.sha256:
                raise BadInput(
                    f"{entry.path} in {self.path} was changed or damaged (its hash differs from "
                    "the manifest's); export or copy the bundle again"
                )
            self._checked.add(entry.path)
        return path

    def check_all(self) -> None:
        """Check every file of the bundle against its hash."""
        for graph in self.manifest.graphs:
            for file in graph.files:
                self.file(file)
        self.file(self.manifest.golden)

    def _read_labels(self) -> list[str]:
        manifest = self.manifest
        if manifest.labels is None:
            return [f"class {i}" for i in range(manifest.classes)]
        try:
            labels = self.file(manifest.labels).read_text("utf-8").splitlines()
        except UnicodeDecodeError:
            raise BadInput(
                f"{manifest.labels.path} in {self.path} is not UTF-8 text; export it again"
            ) from None
        if len(labels) != manifest.classes:
            raise BadInput(
                f"{self.path} has {len(labels)} labels for {manifest.classes} classes; "
                "export it again with a label file of the right length"
            )
        return labels


def _read_manifest(bundle: Path, path: Path) -> Manifest:
    if not path.is_file():
        raise BadInput(f"{bundle} is not a bundle: it has no {MANIFEST}")
    text = path.read_bytes()
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        if place == "schema_version":
            raise BadInput(
                f"{bundle} was written for schema version {first['input']}, this version reads "
                f"{SCHEMA_VERSION}; update movinet-edge"
            ) from None
        raise BadInput(
            f"{bundle} has a damaged manifest ({place or 'json'}: {first['msg']}); export it again"
        ) from None


_CORRUPT = "{path} is not a readable bundle (no zip, or a corrupt one); copy it again or export it"
# What the zipfile module raises on damaged archives.
_CORRUPT_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)


def _unzip(path: Path, target: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                try:
                    _inside(member.filename)
                except ValueError:
                    raise BadInput(
                        f"{path} is not safe to open: {member.filename!r} points outside it"
                    ) from None
                if stat.S_ISLNK(member.external_attr >> 16):
                    raise BadInput(f"{path} is not safe to open: {member.filename!r} is a link")
            archive.extractall(target)
    except OSError as error:
        if error.errno == errno.EINVAL:  # an offset before the file's beginning
            raise BadInput(_CORRUPT.format(path=path)) from None
        raise BadInput(
            f"{path} cannot be unpacked into {target.parent} ({error.strerror or error})"
        ) from error
    except _CORRUPT_ZIP:
        raise BadInput(_CORRUPT.format(path=path)) from None


@contextmanager
def atomic_output(target: Path) -> Iterator[Path]:
    """A temporary directory beside `target` that becomes `target` when the block succeeds.

    An existing bundle at `target` is replaced; anything else there is refused. `target` may end
    in ``.zip``. Nothing is left behind when the block fails.

    Raises:
        BadInput: the place cannot be written, is taken, or the disk is full.
    """
    work: Path | None = None
    try:
        _refuse_foreign(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        inner = work / "bundle"
        inner.mkdir()
        yield inner
        if target.suffix == ".zip":
            packed = work / "bundle.zip"
            pack(inner, packed)
            packed.replace(target)
        else:
            _exchange(inner, target, work / "old")
    except OSError as error:
        raise BadInput(describe_os_error(error, target)) from error
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)


def _exchange(new: Path, target: Path, old: Path) -> None:
    """Put `new` in the place of `target`; what was there goes to `old`, or back on failure."""
    if not target.exists():
        new.rename(target)
        return
    target.rename(old)
    try:
        new.rename(target)
    except OSError:
        old.rename(target)
        raise


def describe_os_error(error: OSError, target: Path) -> str:
    """One sentence for a failed write."""
    if error.errno == errno.ENOSPC:
        return f"the disk is full: {target} was not written; free some space and try again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{target} cannot be written (no permission); choose another place"
    return f"{target} cannot be written ({error.strerror or error}); choose another place"


def _refuse_foreign(target: Path) -> None:
    if target.suffix == ".zip" and target.is_dir():
        raise BadInput(f"{target} is a directory; choose another --out")
    empty = target.is_dir() and not any(target.iterdir())
    if target.exists() and not empty and not _looks_like_a_bundle(target):
        raise BadInput(f"{target} exists and is not a bundle; choose another --out")


def _looks_like_a_bundle(path: Path) -> bool:
    """Whether `path` has a manifest of ours, of whatever version; other programs have others."""
    try:
        if path.is_dir():
            text = (path / MANIFEST).read_bytes()
        else:
            with zipfile.ZipFile(path) as archive:
                text = archive.read(MANIFEST)
        manifest = json.loads(text)
    except (OSError, KeyError, *_CORRUPT_ZIP):
        return False
    return isinstance(manifest, dict) and {"graphs", "plan"} <= set(manifest)


def pack(folder: Path, archive: Path) -> None:
    """Zip a bundle directory; the same files give the same bytes."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                info = zipfile.ZipInfo(path.relative_to(folder).as_posix(), (1980, 1, 1, 0, 0, 0))
                info.compress_type = zipfile.ZIP_DEFLATED
                info.external_attr = 0o644 << 16
                out.writestr(info, path.read_bytes())
