"""Features of videos in files: read, rescaled, missing and broken ones."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from movinet_edge.data.annotations import AnnotationSet, UntrimmedVideo
from movinet_edge.data.features import FeatureFolder, rescaled, with_features
from movinet_edge.errors import BadInput


def save(path: Path, values: np.ndarray) -> None:
    np.save(path, values)


def test_features_are_read(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((7, 4))
    save(tmp_path / "a.npy", values.astype(np.float16))
    save(tmp_path / "v_b.npy", values)
    folder = FeatureFolder(tmp_path, 4)
    half = folder.read("a")
    assert (half.dtype, half.shape) == (np.float32, (7, 4))
    np.testing.assert_allclose(half, values, atol=1e-3)
    np.testing.assert_array_equal(folder.read("v_a"), half)
    np.testing.assert_array_equal(folder.read("b"), values.astype(np.float32))


@pytest.mark.parametrize("count", [1, 3, 100, 257])
def test_any_number_of_snippets_becomes_the_head_s(count: int) -> None:
    values = np.random.default_rng(count).random((count, 5)).astype(np.float32)
    found = rescaled(values, 100)
    assert found.shape == (5, 100)
    assert found.is_contiguous()
    # Places of T are at (i + 0.5) / T of the video.
    at = (np.arange(100) + 0.5) / 100 * count - 0.5
    expected = [np.interp(at, np.arange(count), column) for column in values.T]
    np.testing.assert_allclose(found.numpy(), expected, atol=3e-5)
    if count == 100:
        assert torch.equal(found, torch.from_numpy(values.T.copy()))


BROKEN = {
    "width": (np.zeros((9, 5)), "has 5 features per snippet, not 4; extract it with the encoder"),
    "turned": (np.zeros((4, 9)), "is [4, 9], features first; transpose it to [snippets, 4]"),
    "flat": (np.zeros(8), "holds no features [snippets, 4]"),
    "integers": (np.zeros((9, 4), np.int64), "holds no features [snippets, 4]"),
    "nothing": (np.zeros((0, 4)), "has no snippets; extract it again"),
    "nan": (np.full((9, 4), np.nan), "holds NaN or infinite features; extract it again"),
    "text": (b"hello", "is damaged or no .npy file; extract it again"),
    "objects": (np.array([[{}]], dtype=object), "is damaged or no .npy file; extract it again"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_features(case: str, tmp_path: Path) -> None:
    content, sentence = BROKEN[case]
    path = tmp_path / "a.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        save(path, content)
    with pytest.raises(BadInput, match=re.escape(f"{path} {sentence}")):
        FeatureFolder(tmp_path, 4).read("a")


def test_half_written_features(tmp_path: Path) -> None:
    save(tmp_path / "a.npy", np.zeros((9, 4)))
    whole = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(whole[:-20])
    with pytest.raises(BadInput, match=r"is damaged or no \.npy file"):
        FeatureFolder(tmp_path, 4).read("a")
    with pytest.raises(BadInput, match=re.escape("has no features of b (b.npy)")):
        FeatureFolder(tmp_path, 4).read("b")


def test_videos_without_features_are_named(tmp_path: Path) -> None:
    videos = tuple(UntrimmedVideo(name=name) for name in ("a", "b", "c"))
    annotations = AnnotationSet(Path("x.json"), videos, ("run",))
    folder = FeatureFolder(tmp_path, 4)
    with pytest.raises(BadInput, match=re.escape("none of the 3 videos of x.json (such as a.npy)")):
        with_features(annotations, folder)
    save(tmp_path / "b.npy", np.zeros((9, 4)))
    there, missing = with_features(annotations, folder)
    assert [video.name for video in there.videos] == ["b"]
    assert missing == ("a", "c")
