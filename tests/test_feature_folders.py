"""Folders of features: of which encoder and length they are, what is made again, their index."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from movinet_edge.bundle import Bundle
from movinet_edge.checkpoints.native import Checkpoint, load_checkpoint, save_checkpoint
from movinet_edge.data.annotations import read_annotations
from movinet_edge.data.features import width_of
from movinet_edge.data.snippets import VideoFolder
from movinet_edge.errors import BadInput
from movinet_edge.models.localizer import Localizer
from movinet_edge.train.extraction import Extractor, extract, read_facts, seconds_of
from movinet_edge.train.localization_data import (
    check_bundled_encoder,
    check_encoder,
    covered,
    extractor_of,
    split_annotations,
)
from movinet_edge.train.localizing import localizer_start
from tests.commands import Command, Refused
from tests.localizers import video
from tests.untrimmed import HERE, LABELS, recipe


def test_features_of_other_weights_are_not_mixed(
    untrimmed: Path, extracted: Path, refused: Refused
) -> None:
    words = (
        "--data",
        untrimmed,
        "--videos",
        untrimmed.parent / "videos",
        "--out",
        extracted / "features",
    )
    sentence = refused("features", extracted / "a.safetensors", *words, "--snippets", "7")
    assert "were made otherwise (snippets 12 -> 7); choose another --out" in sentence


def test_features_of_another_encoder_are_refused(
    untrimmed: Path, extracted: Path, refused: Refused, tmp_path: Path
) -> None:
    other = localizer_start(recipe("lofi", seed=5), LABELS)
    save_checkpoint(other, tmp_path / "other.safetensors")
    where = ("--task", "localization", "--data", untrimmed, "--features", extracted / "features")
    sentence = "were made by other weights than those of the encoder here"
    assert sentence in refused("evaluate", tmp_path / "other.safetensors", *where)
    stage = ("--stage", "head", "--init", tmp_path / "other.safetensors", "--set", "snippets=12")
    assert sentence in refused("train", *where, *stage, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()
    known = load_checkpoint(extracted / "a.safetensors").model
    assert isinstance(known, Localizer)
    check_encoder(extracted / "features", known)
    (tmp_path / "a.npy").touch()
    check_encoder(tmp_path, known)  # made by others, who do not tell


def test_a_bundle_takes_its_own_encoder_s_features(
    two_way_localizer: tuple[Checkpoint, Path],
    untrimmed: Path,
    extracted: Path,
    call: Command,
    tmp_path: Path,
) -> None:
    checkpoint, path = two_way_localizer
    save_checkpoint(checkpoint, tmp_path / "own.safetensors")
    where = ("--data", untrimmed, "--videos", untrimmed.parent / "videos")
    out = tmp_path / "features"
    assert call("features", tmp_path / "own.safetensors", *where, "--out", out)[0] == 0
    check_bundled_encoder(out, Bundle(path))
    with pytest.raises(BadInput, match="were made by other weights than those of the encoder"):
        check_bundled_encoder(extracted / "features", Bundle(path))


def test_of_another_length_they_are_made_again(
    untrimmed: Path, extracted: Path, tmp_path: Path
) -> None:
    """Annotations were corrected; a file of quite another length is left out."""
    extractor = extractor_of(load_checkpoint(extracted / "a.safetensors"), HERE.device)
    videos, out = VideoFolder(untrimmed.parent / "videos"), tmp_path / "out"
    for seconds in (8.5, 8.0, 20.0):
        content = json.loads(untrimmed.read_text())
        content["database"] = {"test0": content["database"]["test0"] | {"duration": seconds}}
        path = tmp_path / f"{seconds}.json"
        path.write_text(json.dumps(content))
        index = extract(extractor, read_annotations(path), videos, out)
        if seconds == 8.0:
            np.testing.assert_array_equal(
                np.load(out / "test0.npy"), np.load(extracted / "features/test0.npy")
            )
    assert index["broken"]["test0"].startswith("is 8.0 s long, not 20 s as annotated")
    assert not index["videos"]


@pytest.mark.parametrize(("every", "count"), [(0.2, 50), (0.1, 100), (0.8, 12), (20.0, 1)])
def test_a_snippet_every_so_often(
    extracted: Path, tmp_path: Path, every: float, count: int
) -> None:
    """As many as fit, also where a decimal fraction has no exact float."""
    checkpoint = load_checkpoint(extracted / "a.safetensors")
    assert isinstance(checkpoint.model, Localizer)
    assert checkpoint.model.encoder is not None
    facts = read_facts(extracted / "features").model_copy(update={"snippets": None, "every": every})
    path = video(tmp_path / "a.mp4", 10, seed=1)
    features, seconds = Extractor(checkpoint.model.encoder.eval(), facts)(path, 10.0)
    assert len(features) == count
    assert seconds == pytest.approx(every * count)


def test_splits_have_one_index(untrimmed: Path, extracted: Path, tmp_path: Path) -> None:
    """What was extracted before stays known, also where annotations tell no lengths."""
    content = json.loads(untrimmed.read_text())
    for entry in content["database"].values():
        del entry["duration"]
    path = tmp_path / "segments.json"
    path.write_text(json.dumps(content))
    extractor = extractor_of(load_checkpoint(extracted / "a.safetensors"), HERE.device)
    videos, out = VideoFolder(untrimmed.parent / "videos"), tmp_path / "features"
    for split in ("train", "val"):
        told = extract(extractor, read_annotations(path, split), videos, out)
        assert all(name.startswith(split) for name in told["videos"])
    assert seconds_of(out) == {f"train{k}": 8.0 for k in range(4)} | {"val0": 8.0, "val1": 8.0}
    (tmp_path / "fewer").mkdir()
    shutil.copy(untrimmed.parent / "videos" / "val0.mp4", tmp_path / "fewer")
    told = extract(extractor, read_annotations(path, "val"), VideoFolder(tmp_path / "fewer"), out)
    assert told["missing"] == ["val1"]
    assert "val1" not in seconds_of(out)


def test_a_damaged_file_is_made_again(untrimmed: Path, extracted: Path, tmp_path: Path) -> None:
    extractor = extractor_of(load_checkpoint(extracted / "a.safetensors"), HERE.device)
    videos, out = VideoFolder(untrimmed.parent / "videos"), tmp_path / "features"
    (out / ".shard-1-of-2").mkdir(parents=True)
    (out / "features.json").write_text(extractor.facts.model_dump_json())
    (out / "val0.npy").touch()
    extract(extractor, read_annotations(untrimmed, "val"), videos, out)
    again = np.load(out / "val0.npy")
    np.testing.assert_array_equal(again, np.load(extracted / "features" / "val0.npy"))
    (out / ".shard-1-of-2" / "features.npy").touch()  # of a process that is at work
    assert width_of(out) == again.shape[1]


def test_lengths_come_from_the_index(untrimmed: Path, extracted: Path) -> None:
    train, val = split_annotations(untrimmed)
    assert val is not None
    assert {video.split for video in train.videos} == {"train"}
    assert [v.feature_seconds for v in covered(val, extracted / "features").videos] == [8.0, 8.0]
