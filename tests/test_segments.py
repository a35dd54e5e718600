"""Segments that bundles find: those of the PyTorch model, in files and live, on both engines."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from movinet_edge.bundle import Bundle
from movinet_edge.checkpoints.native import Checkpoint, save_checkpoint
from movinet_edge.data.snippets import as_seen
from movinet_edge.errors import BadInput
from movinet_edge.export.graph_files import ExportOptions
from movinet_edge.export.localizer import export_localizer
from movinet_edge.export.localizer_verify import alike
from movinet_edge.export.verify import verify_bundle
from movinet_edge.localization.anchors import Anchors
from movinet_edge.localization.conventions import ACTIVITYNET
from movinet_edge.localization.reading import HeadAnswer, read_segments
from movinet_edge.models.localizer_table import AnyEncoder
from movinet_edge.models.movinet_table import published_arch
from movinet_edge.models.r2plus1d_table import r2plus1d_arch
from movinet_edge.runtime import Stream
from movinet_edge.runtime.segments import SegmentStream, find_segments
from movinet_edge.runtime.snippets import read_snippets, snippet_times
from movinet_edge.runtime.timeline import PICTURES, thumbnails
from movinet_edge.runtime.tracks import Segment
from movinet_edge.runtime.video import VideoFile
from tests.bundles import edited
from tests.commands import Command, Refused
from tests.localizers import FRAMES, LABELS, RATE, SIDE, WINDOW, localizer, untrained, video

Made = tuple[Checkpoint, Path]
ENGINES = ("litert", "onnxruntime")
SMALL = {"classes": len(LABELS), "resolution": SIDE, "frames": FRAMES}
OTHERS: list[AnyEncoder] = [
    r2plus1d_arch("tiny", rate=RATE, **SMALL),
    published_arch("a0", causal=True, **SMALL),
]


@pytest.fixture(scope="module")
def long_videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("long")
    return [video(folder / f"{n}.mp4", 9 + 4 * n, seed=100 * n) for n in range(3)]


def in_pytorch(checkpoint: Checkpoint, path: Path, seconds: float) -> list[Segment]:
    """What the model itself finds in a video, spelt out."""
    model, contract = checkpoint.model, checkpoint.preprocessing
    times = snippet_times(Fraction(seconds), WINDOW, FRAMES, contract.frame_rate)
    snippets = np.zeros((WINDOW, FRAMES, 3, SIDE, SIDE), np.float32)
    with VideoFile(path) as file, torch.no_grad():
        for number, images in read_snippets(file, times, as_seen(contract)):
            snippets[number] = images
        features = model.encode(torch.from_numpy(snippets)[None])
    return in_features(checkpoint, features, seconds)


def in_features(checkpoint: Checkpoint, features: torch.Tensor, seconds: float) -> list[Segment]:
    """What the model's head finds in features [1, C, T] of a video."""
    model = checkpoint.model
    with torch.no_grad():
        scores, logits = model.find(features), model.place_logits(features)[0].numpy()
    answer = HeadAnswer(*(part[0].numpy() for part in scores))
    anchors = Anchors(WINDOW, WINDOW)
    cell = seconds / WINDOW
    found = read_segments([(0, answer)], anchors, cell, WINDOW, ACTIVITYNET, logits)
    assert found.segments is not None
    rows = zip(found.segments.times, found.segments.labels, found.segments.scores, strict=True)
    return [Segment(0, *map(float, t), LABELS[c], int(c), float(s)) for t, c, s in rows]


def best_of(segments: list[Segment]) -> list[Segment]:
    """Of each segment the best label, which is all that a bundle tells."""
    best = {(s.start, s.end): s for s in sorted(segments, key=lambda s: s.score)}
    return list(best.values())


@pytest.mark.parametrize("engine", ENGINES)
def test_a_bundle_finds_what_pytorch_finds(
    two_way_localizer: Made, long_videos: list[Path], engine: str
) -> None:
    checkpoint, path = two_way_localizer
    with SegmentStream(path, engine, threshold=0.0) as stream:
        total = 0
        for one in long_videos:
            found = stream.find(one)
            with pytest.raises(ValueError, match="the stream has ended; reset it first"):
                stream.step(np.zeros((SIDE, SIDE, 3), np.uint8))
            wanted = in_pytorch(checkpoint, one, stream.seconds)
            hits, count = alike(best_of(wanted), found)
            assert hits == count
            total += count
            assert all(0 <= s.start < s.end <= stream.seconds + 1e-6 for s in found)
            assert all(s.status == "final" for s in found)
    assert total > 10


@pytest.mark.slow
@pytest.mark.parametrize("encoder", OTHERS, ids=lambda arch: arch.name)
def test_other_encoders(encoder: AnyEncoder, long_videos: list[Path], tmp_path: Path) -> None:
    export_localizer(untrained(encoder), tmp_path / "bundle", ExportOptions(verify=False))
    record = verify_bundle(Bundle(tmp_path / "bundle"), videos=long_videos[:1])
    assert record.holds, [check for check in record.checks if not check.holds]


def test_all_checks_of_the_bundles_hold(two_way_localizer: Made, long_videos: list[Path]) -> None:
    _, path = two_way_localizer
    record = verify_bundle(Bundle(path), videos=long_videos[:1])
    assert record.holds, [check for check in record.checks if not check.holds]
    assert {s.backend for s in record.streams} >= {*ENGINES, "torch"}
    assert {s.stream for s in record.streams} >= {"golden features", "golden overlap"}
    names = {check.name for check in record.checks}
    assert {"reset forgets the stream", "tensors bind by name"} <= names
    assert f"segments of {long_videos[0].name}" in names
    assert all(fact.max_rank <= 4 for fact in record.facts)
    heads = [f for f in record.facts if f.path == "head.tflite"]
    assert [f.partitions for f in heads] == [1]


def test_steps_halves_and_integers(one_way_localizer: Made, long_videos: list[Path]) -> None:
    """The encoder in its states, fp16 for both graphs, integers for the encoder alone."""
    checkpoint, path = one_way_localizer
    bundle = Bundle(path)
    encoder, head = bundle.manifest.graphs
    held = {graph.name: {f.precision for f in graph.files} for graph in (encoder, head)}
    assert held == {"encoder": {"fp32", "fp16", "int8"}, "head": {"fp32", "fp16"}}
    record = verify_bundle(bundle)
    assert record.holds, [check for check in record.checks if not check.holds]
    done = {(s.backend, s.precision) for s in record.streams if s.figures is not None}
    assert done >= {("onnxruntime", p) for p in ("fp32", "fp16", "int8")}
    assert any(c.name == "every state input matters" for c in record.checks)
    with SegmentStream(bundle, "onnxruntime", "int8", threshold=0.0) as stream:
        assert {r.file.precision for r in stream.graphs.values()} == {"int8", "fp32"}
        # The integers' features are near, and what the head finds in them is what PyTorch's finds.
        features, seconds = stream.features(long_videos[0])
        with SegmentStream(bundle, "onnxruntime", "fp32") as exact:
            assert np.corrcoef(features.flat, exact.features(long_videos[0])[0].flat)[0, 1] > 0.95
        wanted = in_features(checkpoint, torch.from_numpy(features.T)[None], seconds)
        hits, count = alike(best_of(wanted), stream.find(long_videos[0]))
        assert hits == count > 0


def test_snippets_of_steps_do_not_see_each_other(one_way_localizer: Made) -> None:
    """A snippet's vector is the same whatever came before it, and its clock skips between two."""
    _, path = one_way_localizer
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (3 * FRAMES, SIDE, SIDE, 3), np.uint8)
    with SegmentStream(path, "onnxruntime") as stream:
        made = [v for f in frames if (v := stream.encoder.step(f)) is not None]
        alone = [stream.encoder.encode(frames[i : i + FRAMES]) for i in range(0, len(frames), 4)]
    assert len(made) == 3
    assert all(np.array_equal(a, b) for a, b in zip(made, alone, strict=True))
    assert not np.array_equal(made[0], made[1])


@pytest.mark.parametrize("hop", [1, 3, 4, 7])
def test_the_clock_of_whole_snippets(two_way_localizer: Made, tmp_path: Path, hop: int) -> None:
    """Snippets overlap, or frames are left out between them."""

    def change(manifest: dict) -> None:  # type: ignore[type-arg]
        manifest["plan"]["steps"][0]["snippets"]["hop"] = hop

    path = edited(two_way_localizer[1], tmp_path / "b", change)
    frames = np.random.default_rng(0).integers(0, 256, (20, SIDE, SIDE, 3), np.uint8)
    with SegmentStream(path, "onnxruntime") as stream:
        made = [v for f in frames if (v := stream.encoder.step(f)) is not None]
        starts = range(0, len(frames) - FRAMES + 1, hop)
        assert len(made) == len(starts)
        for vector, start in zip(made, starts, strict=True):
            assert np.array_equal(vector, stream.encoder.encode(frames[start : start + FRAMES]))
        # Heads are trained with snippets whose middles are those of their cells.
        seconds = Fraction(len(starts)) * Fraction(stream.hop).limit_denominator(1000)
        trained = snippet_times(seconds, len(starts), FRAMES, RATE)[len(starts) // 2]
        cell = seconds * (2 * (len(starts) // 2) + 1) / (2 * len(starts))
        assert sum(trained) / FRAMES == cell
        for number, start in enumerate(starts):
            seen = np.mean([k / RATE for k in range(start, start + FRAMES)])
            assert stream.begins(number) + stream.hop / 2 == pytest.approx(seen)


def test_runs_without_torch(two_way_localizer: Made, long_videos: list[Path]) -> None:
    code = (
        "import sys; from movinet_edge.runtime.segments import find_segments; "
        f"print(len(find_segments({str(two_way_localizer[1])!r}, {str(long_videos[0])!r}, "
        "'onnxruntime', threshold=0.0))); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0


def test_run_prints_segments(
    call: Command, two_way_localizer: Made, long_videos: list[Path], tmp_path: Path
) -> None:
    _, path = two_way_localizer
    wanted = find_segments(path, long_videos[1], "onnxruntime", threshold=0.01)
    arguments = ("run", path, long_videos[1], "--backend", "onnxruntime", "--threshold", 0.01)
    code, out, err = call(*arguments, "--save", tmp_path / "t.png")
    assert code == 0, err
    assert all(f"{s.start:.1f} s" in out and s.label in out for s in wanted)
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")
    code, out, err = call(*arguments, "--json")
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(r["id"], r["label"], r["status"]) for r in rows] == [
        (s.id, s.label, "final") for s in wanted
    ]
    code, out, err = call(*arguments, "--json", "--live")
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    assert {r["status"] for r in rows} >= {"provisional", "final"}
    assert [r["time"] for r in rows] == sorted(r["time"] for r in rows)


def test_bad_input_is_one_sentence(
    refused: Refused,
    two_way_localizer: Made,
    one_way_localizer: Made,
    small_bundle: Path,
    long_videos: list[Path],
    tmp_path: Path,
) -> None:
    _, path = two_way_localizer
    one = long_videos[0]
    assert "finds no segments" in refused("run", small_bundle, one, "--live")
    assert "decides nothing" in refused("run", path, one, "--cost-bias", 1)
    local = ("--data", one, "--videos", one.parent, "--task", "localization")
    assert "leave out --task" in refused("evaluate", small_bundle, *local)
    assert "add --task localization" in refused("evaluate", path, "--data", one.parent)
    assert "name it" in refused("run", path, one, "--save", tmp_path / "t.mp4")
    assert "there is no video at" in refused("run", path, tmp_path / "none.mp4")
    assert "no fp16" in refused("run", path, one, "--precision", "fp16")
    short = video(tmp_path / "short.mp4", 1, rate=3)
    with SegmentStream(one_way_localizer[1], "onnxruntime") as stream:
        assert stream.find(short) is not None  # its last moment fills the rest
        stream.reset()
        for frame in np.zeros((2, SIDE, SIDE, 3), np.uint8):
            assert stream.step(frame) == []
        assert stream.finish() == []
        with pytest.raises(ValueError, match="has ended"):
            stream.step(np.zeros((SIDE, SIDE, 3), np.uint8))
    with pytest.raises(ValueError, match="closed"):
        stream.step(np.zeros((SIDE, SIDE, 3), np.uint8))
    with pytest.raises(BadInput, match="finds segments and does not classify"):
        Stream(path)
    with pytest.raises(BadInput, match="classifies and finds no segments"):
        SegmentStream(small_bundle)
    with pytest.raises(BadInput, match="between 0 and 1"):
        SegmentStream(path, threshold=2)


def test_pictures_of_a_long_video(long_videos: list[Path]) -> None:
    """However far they are apart, and where the video ends before."""
    assert len(thumbnails(long_videos[0], 9.0)) == PICTURES
    assert len(thumbnails(long_videos[0], 30_000.0)) == 1


def test_export_refuses_in_one_sentence(refused: Refused, tmp_path: Path) -> None:
    """What does not go with a localizer, or lacks something."""
    one_way = tmp_path / "one-way.safetensors"
    save_checkpoint(localizer(causal=True), one_way)
    out = ("--out", tmp_path / "b")
    assert "cannot overlap" in refused("export", one_way, *out, "--snippet-every", 0.2)
    assert "less than a frame" in refused("export", one_way, *out, "--snippet-every", 0.01)
    assert "the window has 12" in refused("export", one_way, *out, "--window-step", 13)
    assert "leave out --form" in refused("export", one_way, *out, "--form", "clip")
    assert "leave out --target-drop" in refused("export", one_way, *out, "--target-drop", 1)
    assert "are for classifiers" in refused("export", one_way, *out, "--softmax")
    assert "--calibrate" in refused("export", one_way, *out, "--precision", "int8")
    assert "finds no segments" in refused("export", "a0-stream", *out, "--window-step", 2)
    assert not (tmp_path / "b").exists()


def _without(file: dict, name: str) -> None:  # type: ignore[type-arg]
    file["outputs"] = [spec for spec in file["outputs"] if spec["name"] != name]


MANIFESTS = {
    "needs schema version 3": lambda m: m.update(schema_version=2),
    "do not agree": lambda m: m.update(task="classification"),
    "does not take 15 of 'features'": lambda m: m["localization"].update(snippets=15),
    "no window of 12 would begin": lambda m: m["plan"]["steps"][1]["after"].update(count=5),
    "miss features": lambda m: m["plan"]["steps"][1]["after"].update(count=13),
    "gives no 'others'": lambda m: [
        m["plan"]["steps"][1]["after"].update(feature="others"),
        *(i.update(feature="others") for f in m["graphs"][1]["files"] for i in f["inputs"]),
    ],
    "lacks 'start' of shape": lambda m: _without(m["graphs"][1]["files"][1], "start"),
    "more than one rule": lambda m: m["plan"]["steps"][1].update(every=2),
    "do not suit 'encoder'": lambda m: m["plan"]["steps"][0]["snippets"].update(frames=8),
}


@pytest.mark.parametrize("reason", MANIFESTS)
def test_manifests_that_contradict_themselves(
    two_way_localizer: Made, tmp_path: Path, reason: str
) -> None:
    path = edited(two_way_localizer[1], tmp_path / "b", MANIFESTS[reason])
    with pytest.raises(BadInput, match=reason):
        Bundle(path)


def test_a_second_export_is_the_same(one_way_localizer: Made, tmp_path: Path) -> None:
    from movinet_edge.export.graph_files import ExportOptions
    from movinet_edge.export.localizer import export_localizer

    checkpoint, path = one_way_localizer
    options = ExportOptions(formats=("onnx",), verify=False, window_step=4)
    export_localizer(checkpoint, tmp_path / "b", options)
    for name in ("encoder.onnx", "head.onnx", "localizer.safetensors", "labels.txt"):
        assert (tmp_path / "b" / name).read_bytes() == (path / name).read_bytes()
