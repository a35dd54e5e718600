"""What the Kotlin core is tested on: small bundles, and what the Python runtime answers on them.

``python -m tests.android_fixtures FOLDER`` writes a folder per bundle, ``<name>/bundle``, beside it
an ``.npz`` per backend with the answers to its golden stream, ``answers.json`` that lists them, the
frames of `android_frames`, and where the real data is at hand the clips of `android_clips`. What is
there already is kept, unless the sources that make it have changed since.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from movinet_edge.bundle import Bundle
from movinet_edge.checkpoints.importer import read_checkpoint
from movinet_edge.checkpoints.native import Checkpoint
from movinet_edge.data.motion import MotionConfig, make_motion
from movinet_edge.export.ensemble import export_ensemble
from movinet_edge.export.exporter import export
from movinet_edge.export.graph_files import ExportOptions
from movinet_edge.files import new_folder, sha256_of, write_npz
from movinet_edge.models.registry import MODELS, default_preprocessing, seeded_model
from movinet_edge.models.slowfast_table import slowfast_arch
from movinet_edge.runtime import Stream
from movinet_edge.runtime.engines import BACKENDS, Backend
from tests.android_clips import write_clips
from tests.android_frames import write_frames
from tests.conftest import SHARED, seeded_checkpoint
from tests.ensembles import member
from tests.test_arnet_export import checkpoint as arnet

ROOT = Path(__file__).parents[1]
# What decides what is exported and answered; the rest of the package only looks at it.
SOURCES = (
    *("export/**/*", "movinet_edge/*", "movinet_edge/checkpoints/**/*", "movinet_edge/models/**/*"),
    *("movinet_edge/runtime/**/*", "movinet_edge/streaming/**/*", "tests/android_*"),
)
MADE_OF = "made-of"
ANSWERS = "answers.json"
ENGINES = ("onnxruntime", "litert")
SIDE = 64


@dataclass(frozen=True)
class Answers:
    """An ``.npz``, `path` in the fixtures' folder, with what a backend answered on a bundle.

    It holds ``frames`` [n], ``logits`` [n, classes], ``actions`` [n] (their numbers, -1 where
    nothing is decided) and ``final`` [classes], the answer when the stream was finished.
    """

    bundle: str
    backend: str
    precision: str
    path: str


def movinet(model: str, side: int | None = None, **options: object) -> Callable[[Path], object]:
    how = ExportOptions(**{"verify": False, **options})  # type: ignore[arg-type]
    return lambda path: export(seeded_checkpoint(MODELS[model], side), path, how)


def slowfast(path: Path) -> None:
    """Three graphs at two rates that look ahead, so answers come late."""
    arch = slowfast_arch("tiny", classes=7, resolution=32)
    made = Checkpoint(seeded_model(arch), default_preprocessing(arch))
    export(made, path, ExportOptions(verify=False))


def ensemble(path: Path) -> None:
    """Two members in turns, whose probabilities are averaged; bytes go in."""
    how = ExportOptions(in_graph_preprocess=True, softmax=True, verify=False)
    export_ensemble([member(0), member(1)], path, how)


# Of the trained checkpoint; in 8 bits they have scales that older engines do not know.
DENSE = ("gate/reduce", "gate/expand", "head/hidden", "head/activation")


def int8(**options: object) -> Callable[[Path], object]:
    """The trained checkpoint with integer activations."""

    def write(path: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            videos = Path(folder) / "videos"
            make_motion(MotionConfig(per_class=6, size=80, seed=5), videos, jobs=1)
            how = ExportOptions(
                calibrate=videos / "train",
                calibration_frames=100,
                verify=False,
                **options,  # type: ignore[arg-type]
            )
            export(read_checkpoint(Path("motion-a0-stream")), path, how)

    return write


# The longest first, for two are made at a time.
BUNDLES: dict[str, Callable[[Path], object]] = {
    "int8": int8(precisions=("fp32", "int8")),
    "int8-dense": int8(precisions=("int8",), formats=("tflite",), keep_float=DENSE),
    "ensemble": ensemble,
    "a2": movinet("movinet-a2-stream", SIDE),
    "a0": movinet("movinet-a0-stream"),
    "a0-carry": movinet("movinet-a0-stream", SIDE, form="carry"),
    "a0-head": movinet("movinet-a0-stream", SIDE, head_every=5),
    "a0-clip": movinet("movinet-a0-base", SIDE, form="clip", clip_frames=5),
    "slowfast": slowfast,
    "arnet": lambda path: export(arnet(), path, ExportOptions(verify=False)),
    "arnet-going-on": lambda path: export(arnet(hold="hidden"), path, ExportOptions(verify=False)),
}


def sources_sha256(root: Path = ROOT) -> str:
    """Of all `SOURCES`, with their names."""
    found = {path for pattern in SOURCES for path in root.glob(pattern) if path.is_file()}
    told = hashlib.sha256()
    for path in sorted(found):
        if "__pycache__" not in path.parts:
            told.update(f"{path.relative_to(root)} {sha256_of(path)}\n".encode())
    return told.hexdigest()


def forget_stale(folder: Path, made_of: str) -> None:
    """Remove what was written by other sources; of the folder's content only what is ours."""
    mark = folder / MADE_OF
    if mark.is_file() and mark.read_text() == made_of:
        return
    for name in (*BUNDLES, "frames", "clips"):
        shutil.rmtree(folder / name, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(made_of)


def main(folder: Path) -> None:
    """Write what is missing in `folder` or stale, two bundles at a time."""
    forget_stale(folder, sources_sha256())
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        clips = pool.submit(write_clips, folder / "clips", SHARED) if SHARED.exists() else None
        for said in pool.map(write_bundle, repeat(folder), BUNDLES):
            print(said, flush=True)
        write_frames(folder / "frames")
        if clips is not None:
            clips.result()
    found = [path for name in BUNDLES for path in sorted((folder / name).glob("*.npz"))]
    text = json.dumps([asdict(described(path)) for path in found], indent=1)
    answers = folder / ANSWERS
    # What is kept keeps its time, by which tests see whether they have run on it.
    if not answers.is_file() or answers.read_text() != text:
        answers.write_text(text)


def write_bundle(folder: Path, name: str) -> str:
    """A bundle and its answers, unless they are there; what was done."""
    if (folder / name).exists():
        return f"{name}: kept"
    with new_folder(folder / name) as work:
        BUNDLES[name](work / "bundle")
        write_all_answers(Bundle(work / "bundle"), work)
    return f"{name}: written"


def described(path: Path) -> Answers:
    name, (backend, precision) = path.parent.name, path.stem.split(" ")
    return Answers(name, backend, precision, f"{name}/{path.name}")


def write_all_answers(bundle: Bundle, folder: Path) -> None:
    """Replay the golden stream on all engines, in every precision."""
    files = [file for graph in bundle.manifest.graphs for file in graph.files]
    for backend in (BACKENDS[engine] for engine in ENGINES):
        for precision in dict.fromkeys(f.precision for f in files if f.format == backend.format):
            write_answers(folder / f"{backend.name} {precision}.npz", bundle, backend, precision)


def write_answers(path: Path, bundle: Bundle, backend: Backend, precision: str) -> None:
    with np.load(bundle.file(bundle.manifest.golden)) as golden:
        frames = golden["frames"]
    choice = bundle.manifest.plan.choice
    names = [] if choice is None else [action.name for action in choice.actions]
    with Stream(bundle, backend, precision) as stream:
        found = list(stream.run(frames))
        final = stream.finish()
    assert final is not None
    write_npz(
        path,
        frames=np.array([p.frame for p in found], np.int64),
        logits=np.array([p.logits for p in found], np.float32).reshape(-1, len(final.logits)),
        actions=np.array([names.index(p.action) if p.action else -1 for p in found], np.int64),
        final=final.logits,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
