"""Localizers in the registry: records, checkpoints, what they compute."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from movinet_edge.checkpoints.importer import read_checkpoint
from movinet_edge.checkpoints.native import Checkpoint, load_checkpoint, save_checkpoint
from movinet_edge.errors import BadInput
from movinet_edge.models.encoder import EncoderArch
from movinet_edge.models.facts import all_head_facts
from movinet_edge.models.gtad_table import gtad_arch
from movinet_edge.models.localizer import Localizer
from movinet_edge.models.localizer_table import AnyEncoder, LocalizerArch, localizer_arch
from movinet_edge.models.r2plus1d_table import r2plus1d_arch
from movinet_edge.models.registry import (
    HEADS,
    arch_from_record,
    build,
    default_preprocessing,
    named_arch,
    seeded_model,
)
from movinet_edge.models.tsm_table import tsm_arch
from tests.commands import Command

SMALL = {"snippets": 6, "durations": 4, "bins": 3, "context_bins": 2}
LABELS = ["opening", "closing", "rising"]
ENCODERS: list[AnyEncoder] = [
    tsm_arch("tiny", resolution=32, frames=4),
    tsm_arch("tiny", resolution=32, frames=4, causal=True),
    r2plus1d_arch("tiny", resolution=32, frames=4),
]


def small(encoder: AnyEncoder | None = ENCODERS[0], classes: int = 3) -> LocalizerArch:
    return localizer_arch(gtad_arch("activitynet", **SMALL), encoder, classes)


def localizer(arch: LocalizerArch) -> Localizer:
    model = seeded_model(arch)
    assert isinstance(model, Localizer)
    return model


def test_records_survive_a_checkpoint(tmp_path: Path) -> None:
    for encoder in (*ENCODERS, None):
        model = localizer(small(encoder))
        checkpoint = Checkpoint(model, default_preprocessing(model.arch), LABELS)
        save_checkpoint(checkpoint, tmp_path / "a.safetensors")
        read = load_checkpoint(tmp_path / "a.safetensors")
        assert read.arch == model.arch == arch_from_record(json.loads(model.arch.model_dump_json()))
        assert read.labels == LABELS
        weights = read.model.state_dict()
        assert all(torch.equal(weights[k], v) for k, v in model.state_dict().items())


def test_only_what_weights_do_not_tell_can_be_set(tmp_path: Path) -> None:
    model = localizer(small())
    path = tmp_path / "a.safetensors"
    save_checkpoint(Checkpoint(model, default_preprocessing(model.arch)), path)
    changed = read_checkpoint(path, changes={"durations": "5"}).arch
    assert isinstance(changed, LocalizerArch)
    assert changed.head.durations == 5
    assert changed.encoder == model.arch.encoder
    with pytest.raises(BadInput, match="--set kernel: no such option"):
        read_checkpoint(path, changes={"kernel": "3"})


@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda arch: arch.name)
def test_a_clip_is_a_segment(encoder: EncoderArch) -> None:
    """Its logits are the mean of its snippets', and snippets do not see each other."""
    assert isinstance(encoder, type(ENCODERS[0]) | type(ENCODERS[2]))
    model = localizer(small(encoder))
    videos = torch.rand(2, 3, 4, 3, 32, 32)
    with torch.no_grad():
        features = model.encode(videos)
        assert features.shape == (2, encoder.features, 3)
        places = model.place_logits(features)
        torch.testing.assert_close(model(videos.flatten(1, 2))[0][:, 0], places.mean(1))
        videos[:, 0] = 0
        torch.testing.assert_close(model.encode(videos)[..., 1:], features[..., 1:])
        assert not torch.allclose(model.encode(videos)[..., 0], features[..., 0])


def test_parts_that_are_not_there_are_missed() -> None:
    head = localizer(small(None, classes=0))
    with pytest.raises(BadInput, match="has no encoder; give it features"):
        head.encode(torch.zeros(1, 1, 1, 3, 32, 32))
    with pytest.raises(BadInput, match="knows no classes"):
        head.place_logits(torch.zeros(1, 400, 6))
    with pytest.raises(BadInput, match="train it with --task localization"):
        head.arch.resized(3, 32, 4)
    with pytest.raises(ValueError, match="gives 128 features, the head takes 400"):
        LocalizerArch(head=gtad_arch("activitynet"), encoder=ENCODERS[0], resolution=32)


def test_heads_have_published_sizes() -> None:
    facts = {row["model"]: row for row in all_head_facts()}
    assert facts.keys() == HEADS.keys()
    assert facts["gtad-activitynet"]["parameters"] == 5_563_268
    assert facts["gtad-first"]["parameters"] == 9_495_428
    assert isinstance(build(HEADS["gtad-thumos"]), nn.Module)
    with pytest.raises(BadInput, match="unknown model"):
        named_arch("gtad-activitynet")  # takes no videos


def test_commands_know_them(call: Command, tmp_path: Path) -> None:
    rows = json.loads(call("models", "--json")[1])
    assert {"tsm-tiny", "gtad-hacs"} <= {row["model"] for row in rows}
    assert "gtad-thumos" in call("models")[1]
    model = localizer(small())
    path = tmp_path / "a.safetensors"
    save_checkpoint(Checkpoint(model, default_preprocessing(model.arch), LABELS), path)
    code, text, _ = call("import", path, "--out", tmp_path / "b.safetensors")
    assert code == 0
    assert re.search(r"gtad-activitynet-tsm-tiny: [\d,]+ parameters, 3 classes", text)
