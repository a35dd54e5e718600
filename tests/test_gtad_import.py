"""Checkpoints of the public G-TAD: the same scores, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from movinet_edge.checkpoints.importer import read_checkpoint
from movinet_edge.errors import BadInput
from movinet_edge.models.gtad import GTad, as_map
from movinet_edge.models.localizer import Localizer
from tests.gtad_reference import PublicGTad

Saved = dict[str, torch.Tensor]


def read_gtad(path: Path, changes: dict[str, str] | None = None) -> GTad:
    """The head of the localizer that a public file becomes."""
    model = read_checkpoint(path, changes=changes).model
    assert isinstance(model, Localizer)
    assert model.encoder is None
    return model.head


def saved(path: Path, weights: Saved) -> Path:
    """As the public training saves it, for several GPUs."""
    named = {f"module.{key}": value for key, value in weights.items()}
    torch.save({"epoch": 3, "state_dict": named}, path)
    return path


@pytest.mark.parametrize(
    ("bins", "kernel", "durations", "label"),
    [((32, 4), 1, 12, "activitynet"), ((16, 16), 3, 6, "thumos"), ((32, 32), 3, 12, "first")],
)
def test_scores_are_the_public_ones(
    bins: tuple[int, int], kernel: int, durations: int, label: str, tmp_path: Path
) -> None:
    torch.manual_seed(kernel)
    features = {"thumos": 2048}.get(label, 400)
    public = PublicGTad(features, durations, bins, kernel).eval()
    with torch.no_grad():
        for parameter in public.parameters():
            parameter.mul_(1.7)  # fresh weights answer nearly the same everywhere
    path = saved(tmp_path / "GTAD_best.pth.tar", public.state_dict())
    model = read_gtad(path, {"snippets": "12", "durations": str(durations)})
    assert (model.arch.label, model.arch.features) == (label, features)
    assert (model.arch.bins, model.arch.context_bins, model.arch.kernel) == (*bins, kernel)
    x = torch.randn(2, features, 12)
    with torch.no_grad():
        scores, (both, start, end) = model(x), public(x)
        anchors = model.arch.anchors()
        inside = as_map(torch.ones(2, 2, len(anchors)), anchors)
        ours = as_map(torch.stack([scores.overlap, scores.action], 1), anchors)
    torch.testing.assert_close(ours, both * inside, atol=1e-5, rtol=0)
    torch.testing.assert_close(scores.start, start, atol=1e-5, rtol=0)
    torch.testing.assert_close(scores.end, end, atol=1e-5, rtol=0)
    assert float(both[inside > 0].std()) > 0.02
    assert min(float(start.std()), float(end.std())) > 0.02


def test_what_weights_do_not_tell_is_the_data_set_s(tmp_path: Path) -> None:
    weights = PublicGTad(2048, 2, (32, 4), 1).state_dict()
    arch = read_gtad(saved(tmp_path / "hacs.pth.tar", weights)).arch
    assert (arch.label, arch.snippets, arch.durations) == ("hacs", 100, 100)


@pytest.fixture(scope="module")
def weights() -> Saved:
    return PublicGTad(8, 2, (2, 1), 1).state_dict()


SIZES = {"snippets": "5", "durations": "5"}
BINS = {"bins": "2", "context_bins": "1"}


def changed(weights: Saved, **changes: torch.Tensor | None) -> Saved:
    renamed = {key.replace("__", "."): value for key, value in changes.items()}
    return {key: value for key, value in (weights | renamed).items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "settings", "sentence"),
    [
        ({}, {}, "samples 3 bins, not 32 + 4; say which are the context's with --set bins=N"),
        ({}, {"width": "3"}, "--set width: no such option; choose from bins, context_bins, dur"),
        ({}, BINS | {"snippets": "many"}, "--set snippets: Input should be a valid integer"),
        ({}, BINS | {"snippets": "4", "durations": "5"}, "--set there are no 5 durations in 4"),
        ({"backbone1__0__weight": None}, BINS, "does not hold a G-TAD: it lacks backbone1.0."),
        ({"localization__0__weight": torch.zeros(512, 700, 1, 1)}, BINS, "[512, 700, 1, 1]"),
        ({"regu_s__1__bias": None}, BINS, "(missing: head.start.answer.bias)"),
        ({"more": torch.zeros(1)}, BINS, "(left over: head.more)"),
        ({"regu_e__1__weight": torch.zeros(1, 2, 1)}, BINS, "(wrong shape: head.end.answer.weight"),
        ({"backbone2__0__sconvs__0__weight": torch.zeros(128, 2, 1, 1)}, BINS, "(wrong shape: "),
        ({"localization__8__bias": torch.tensor([0.0, torch.nan])}, BINS, "holds NaN or infinite"),
    ],
)
def test_what_is_refused(
    changes: dict[str, torch.Tensor | None],
    settings: dict[str, str],
    sentence: str,
    weights: Saved,
    tmp_path: Path,
) -> None:
    path = saved(tmp_path / "head.pth.tar", changed(weights, **changes))
    assert read_gtad(saved(tmp_path / "good.tar", weights), SIZES | BINS).arch.features == 8
    with pytest.raises(BadInput, match=re.escape(sentence)):
        read_gtad(path, settings)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no checkpoint at"):
        read_gtad(tmp_path / "none.pth.tar")
    (tmp_path / "text.pth.tar").write_text("no weights")
    with pytest.raises(BadInput, match=r"text\.pth\.tar"):
        read_gtad(tmp_path / "text.pth.tar")
