"""Bundles of AR-Net for accelerators: every graph obeys the profile, and decides as ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from movinet_edge.bundle import ProfileName
from movinet_edge.export.exporter import export
from movinet_edge.export.graph_files import ExportOptions
from movinet_edge.export.profiles import PROFILES
from movinet_edge.models.backbone_table import Backbone
from tests.arnets import checkpoint

ACCELERATORS: tuple[ProfileName, ...] = ("nnapi", "gpu", "coreml")
# Squeeze-excite, swish and hard-swish, max pooling; the policy's last maps have one pixel.
PUBLISHED = ("mobilenet-v3-small", "efficientnet-b0", "resnet18", "mobilenet-v2")


def obeys(profile: ProfileName, path: Path, **changes: object) -> None:
    options = ExportOptions(PROFILES[profile].formats, profile=profile)
    record = export(checkpoint(**changes), path, options)
    assert record is not None
    assert record.holds, record.failures
    proved = {check.subject for check in record.of_kind("graph")}
    assert proved == {fact.path for fact in record.facts if fact.format != "torch"}
    assert all(s.decisions is None or s.decisions.equal == 1 for s in record.streams)


@pytest.mark.parametrize("profile", ACCELERATORS)
def test_accelerators_take_every_graph(profile: ProfileName, tmp_path: Path) -> None:
    obeys(profile, tmp_path / "b")


@pytest.mark.slow
@pytest.mark.parametrize("profile", ACCELERATORS)
def test_and_those_of_published_backbones(profile: ProfileName, tmp_path: Path) -> None:
    backbones = tuple(Backbone(name=name, side=48) for name in PUBLISHED)
    policy = Backbone(name=PUBLISHED[0], side=32)
    # Random ones of these would skip everything, and no frame would matter.
    obeys(profile, tmp_path / "b", policy=policy, backbones=backbones, skips=())
