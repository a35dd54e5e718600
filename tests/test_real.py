"""Real trained weights on real footage, and the official implementation's numbers, on engines."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from movinet_edge.bundle import Bundle, Precision
from movinet_edge.checkpoints.importer import read_checkpoint, read_labels
from movinet_edge.export.exporter import ExportOptions, export
from movinet_edge.runtime import Prediction, Stream
from movinet_edge.runtime.video import read_frames

ENGINES = ("torch", "onnxruntime", "litert")
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")
Shared = Callable[[str], Path]


@pytest.fixture(scope="module")
def k600(shared: Shared, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    labels = read_labels(shared("data/labels/kinetics600.txt"))
    weights = shared("data/weights/movinet_a0_stream_k600_int8.tflite")
    path = tmp_path_factory.mktemp("real") / "k600"
    export(read_checkpoint(weights, labels), path, ExportOptions(verify=False))
    return Bundle(path)


def clips(shared: Shared, primary: bool) -> list[dict[str, str]]:
    """Labelled clips of the classes of Kinetics-600; the primary ones leave no doubt."""
    with shared("data/clips/manifest.csv").open() as file:
        return [row for row in csv.DictReader(file) if (row["tier"] == "primary") == primary]


def last_answer(bundle: Bundle, backend: str, precision: Precision, clip: Path) -> Prediction:
    with Stream(bundle, backend, precision) as stream:
        return list(stream.run(frame.image for frame in read_frames(clip, 5)))[-1]


@pytest.mark.parametrize("backend", ENGINES)
def test_primary_clips_get_their_label(backend: str, k600: Bundle, shared: Shared) -> None:
    rows = clips(shared, primary=True)
    assert len(rows) >= 9
    for row in rows:
        answer = last_answer(k600, backend, "fp32", shared(f"data/clips/{row['file']}"))
        assert answer.top(1)[0].label == row["k600_label"], row["file"]


@pytest.fixture(scope="module")
def k600_int8(shared: Shared, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Calibrated on clips that are not primary."""
    folder = tmp_path_factory.mktemp("int8")
    names = [row["file"] for row in clips(shared, primary=False)]
    videos = [shared(f"data/clips/{name}") for name in names if not name.endswith(".gif")]
    (folder / "videos.txt").write_text("\n".join(f"{video} unknown" for video in videos), "utf-8")
    weights = shared("data/weights/movinet_a0_stream_k600_int8.tflite")
    labels = read_labels(shared("data/labels/kinetics600.txt"))
    options = ExportOptions(precisions=PRECISIONS, calibrate=folder / "videos.txt", verify=False)
    export(read_checkpoint(weights, labels), folder / "k600", options)
    return Bundle(folder / "k600")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ENGINES[1:])
def test_int8_gives_primary_clips_their_label(
    backend: str, k600_int8: Bundle, shared: Shared
) -> None:
    for row in clips(shared, primary=True):
        clip = shared(f"data/clips/{row['file']}")
        exact, rounded = (
            last_answer(k600_int8, backend, precision, clip) for precision in PRECISIONS
        )
        assert rounded.top(1)[0].label == row["k600_label"], row["file"]
        a, b = (answer.logits - answer.logits.mean() for answer in (exact, rounded))
        assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) >= 0.99, row["file"]


@pytest.fixture(scope="module")
def official(shared: Shared, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    pytest.importorskip("tensorflow")
    path = tmp_path_factory.mktemp("official") / "a0"
    checkpoint = read_checkpoint(shared("data/official_a0/checkpoint"))
    export(checkpoint, path, ExportOptions(verify=False))
    return Bundle(path)


@pytest.mark.parametrize("backend", ENGINES)
def test_official_reference_on_every_engine(backend: str, official: Bundle, shared: Shared) -> None:
    """The six reference logits and the final states of the official implementation."""
    reference = np.load(shared("data/official_a0/reference.npz"))
    with Stream(official, backend) as stream:
        for frame, expected in zip(reference["video"][0], reference["logits"][:, 0], strict=True):
            answer = stream.step(frame)
            assert answer is not None
            np.testing.assert_allclose(answer.logits, expected, atol=2e-4)
        states = stream.graphs["step"].states()
    compared = 0
    for key in reference.files:
        if not key.endswith("_buffer"):
            continue
        place = key.removeprefix("final_state_").removesuffix("_buffer")
        ours, theirs = states[_state_name(place)], reference[key]
        if place.endswith("stream"):
            newest = theirs[0, -1]  # our fresh form keeps the newest frame per step
            np.testing.assert_allclose(_newest(ours, backend), newest, atol=2e-4)
        else:  # running mean x count = running sum
            count = reference[key.replace("_buffer", "_frame_count")].item()
            np.testing.assert_allclose(ours.ravel() * count, theirs.ravel(), atol=2e-4)
        compared += 1
    assert compared == 11 + 15 + 1


def _state_name(place: str) -> str:
    """``block1_layer0_stream`` -> ``b1.l0.stream``; ``head_pool`` -> ``head.pool``."""
    return place.replace("block", "b").replace("layer", "l").replace("_", ".")


def _newest(state: np.ndarray, backend: str) -> np.ndarray:
    """The newest frame as [H, W, C]: torch carries [past, C, H, W], the files emit one frame."""
    if backend == "litert":
        return state[0]
    return (state[-1] if backend == "torch" else state[0]).transpose(1, 2, 0)


def test_annotated_video_and_json_lines(k600: Bundle, shared: Shared, tmp_path: Path) -> None:
    from movinet_edge.runtime.annotate import AnnotatedVideo

    clip = shared("data/clips/mma_test.mp4")
    with Stream(k600, "onnxruntime") as stream, AnnotatedVideo(tmp_path / "a.mp4", 5, 3) as out:
        for frame in read_frames(clip, 5):
            out.add(frame.image, stream.step(frame.image))
    written = list(read_frames(tmp_path / "a.mp4", 5))
    assert len(written) == 50
    assert written[0].image.shape[1] == 480
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
