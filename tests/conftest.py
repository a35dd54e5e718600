"""Shared fixtures: real data, bundles exported once per session, and those of the helpers."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from movinet_edge.benchmarks.native import build
from movinet_edge.checkpoints.native import Checkpoint, save_checkpoint
from movinet_edge.data.motion import MotionConfig, make_motion
from movinet_edge.errors import BadInput
from movinet_edge.export.exporter import ExportOptions, export
from movinet_edge.models.movinet_table import MoViNetArch
from movinet_edge.models.registry import MODELS, default_preprocessing, seeded_model

# Fixtures that tests of several files use; pytest finds them here.
from tests.arm64_devices import arm64_android, arm64_linux, emulation  # noqa: F401
from tests.arm64_machine import machine  # noqa: F401
from tests.arnets import arnet, arnet_bundle  # noqa: F401
from tests.commands import call, no_temporary_files, refused  # noqa: F401
from tests.cross_compiler import cross_compiler  # noqa: F401
from tests.data_sets import tree  # noqa: F401
from tests.device_lab import android, lab, linux  # noqa: F401
from tests.disks import mounted  # noqa: F401
from tests.ensembles import members  # noqa: F401
from tests.evaluation import (  # noqa: F401
    base_model,
    clips,
    one_thread,
    stream_checkpoint,
    stream_model,
    streamed,
    video_folder,
    videos,
)
from tests.localizers import one_way_localizer, two_way_localizer  # noqa: F401
from tests.untrimmed import extracted, untrimmed  # noqa: F401
from tests.videos import media, video_files  # noqa: F401

SHARED = Path(os.environ.get("MOVINET_EDGE_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """Real data by relative path; skips visibly where it is absent (a user's clone)."""

    def find(relative: str) -> Path:
        path = SHARED / relative
        if not path.exists():
            pytest.skip(f"real data absent: {relative} (set MOVINET_EDGE_SHARED)")
        return path

    return find


def seeded_checkpoint(arch: MoViNetArch, side: int | None = None) -> Checkpoint:
    """An untrained model whose every part matters, at its own or another frame size."""
    contract = default_preprocessing(arch)
    if side:
        contract = contract.model_copy(update={"height": side, "width": side})
    return Checkpoint(seeded_model(arch), contract)


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The native step runner for this machine."""
    try:
        return build(tmp_path_factory.mktemp("native"))
    except BadInput as error:
        pytest.skip(f"no native runner: {error}")


BundleFactory = Callable[..., Path]


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> BundleFactory:
    """``bundles(model, form="fresh", side=None, formats=(...), clip_frames=None)`` -> path.

    Every distinct bundle is exported once per session, without its own proof.
    """
    made: dict[tuple[object, ...], Path] = {}

    def make(
        model: str,
        form: str = "fresh",
        side: int | None = None,
        formats: tuple[str, ...] = ("onnx", "tflite"),
        clip_frames: int | None = None,
    ) -> Path:
        key = (model, form, side, formats, clip_frames)
        if key not in made:
            path = tmp_path_factory.mktemp("bundles") / f"{model}-{form}"
            options = ExportOptions(
                formats=formats,  # type: ignore[arg-type]
                form=form,  # type: ignore[arg-type]
                clip_frames=clip_frames,
                verify=False,
            )
            export(seeded_checkpoint(MODELS[model], side), path, options)
            made[key] = path
        return made[key]

    return make


@pytest.fixture(scope="session")
def a0_bundle(bundles: BundleFactory) -> Path:
    """movinet-a0-stream, fresh, ONNX and TFLite, at its own size; do not change it."""
    return bundles("movinet-a0-stream")


@pytest.fixture(scope="session")
def small_bundle(bundles: BundleFactory) -> Path:
    """movinet-a0-stream, fresh, ONNX only, at 64 pixels: quick; do not change it."""
    return bundles("movinet-a0-stream", side=64, formats=("onnx",))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """movinet-a0-stream at 64 pixels, untrained, in a file; do not change it."""
    path = tmp_path_factory.mktemp("checkpoint") / "a0.safetensors"
    save_checkpoint(seeded_checkpoint(MODELS["movinet-a0-stream"], 64), path)
    return path


@pytest.fixture(scope="session")
def motion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set of motion videos, ten of each class."""
    out = tmp_path_factory.mktemp("motion") / "videos"
    make_motion(MotionConfig(per_class=10, size=80, seed=5), out, jobs=2)
    return out
