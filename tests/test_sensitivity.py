"""Where int8 loses, and what is treated with care for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from movinet_edge.bundle import Preprocessing
from movinet_edge.checkpoints.native import Checkpoint
from movinet_edge.export.policy import Policy, choose, ladder
from movinet_edge.export.sensitivity import Analysis, SensitivityReport, analyse
from movinet_edge.export.walk import CHUNK
from movinet_edge.models.movinet import MoViNet
from movinet_edge.models.movinet_deploy import DeployMoViNet
from movinet_edge.models.movinet_quant import attach
from movinet_edge.models.movinet_table import published_arch
from movinet_edge.models.registry import seeded_model
from movinet_edge.pattern import moving_pattern
from movinet_edge.streaming.spec import describe
from tests.stretched import stretch

SIDE = 32
PLANTED = ("blocks.b0_l0.expand", "blocks.b1_l1.spatial", "blocks.b2_l1.temporal")


def streams() -> list[np.ndarray]:
    """Two streams of different length, one longer than what parts see at once."""
    lengths = (CHUNK + 2, 4)
    return [moving_pattern(n, SIDE, SIDE, n).astype(np.float32) / 255 for n in lengths]


def small_model() -> MoViNet:
    arch = published_arch("a0", True, classes=5, hidden=16, drop_path=0.0, dropout=0.0)
    return seeded_model(arch)


def checkpoint(model: MoViNet) -> Checkpoint:
    return Checkpoint(model, Preprocessing(height=SIDE, width=SIDE, frame_rate=5.0))


def stretched(model: MoViNet) -> MoViNet:
    return stretch(model, PLANTED, 50.0)


@pytest.fixture(scope="module")
def even() -> Analysis:
    return Analysis(checkpoint(small_model()), streams())


@pytest.fixture(scope="module")
def uneven() -> Analysis:
    return Analysis(checkpoint(stretched(small_model())), streams())


@pytest.fixture(scope="module")
def report(uneven: Analysis) -> SensitivityReport:
    return uneven.report()


def test_parts_in_turn_are_the_whole_model(even: Analysis) -> None:
    """What was kept of earlier passes does not show: as one pass over everything gives it."""
    model = small_model()
    instrument = attach(model)
    clips = [torch.from_numpy(s).permute(0, 3, 1, 2)[None] for s in streams()]
    instrument.watch("all")
    with torch.no_grad():
        expected = torch.cat([model(clip)[0][0] for clip in clips])
        instrument.watch("none")
        sites = ["blocks.b2_l0.spatial", "head.project"]
        instrument.equalise(sites)
        instrument.quantise([name for name in instrument.blocks if name != "b3.l0"])
        got = torch.cat([model(clip)[0][0] for clip in clips])
    centred = expected - expected.mean(0)
    snr = 10 * torch.log10(centred.square().sum() / (got - expected).square().sum())
    found = even.measure(sites, ["b3.l0"])
    # Sums that are added up in another order round to another step here and there, and small
    # random models multiply that from block to block.
    assert found.snr_db == pytest.approx(float(snr), abs=3)
    assert even.measure() == even.plain


def test_an_analysis_leaves_the_checkpoint_alone() -> None:
    model = small_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    Analysis(checkpoint(model), [streams()[1]])
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks for m in model.modules())


def test_a_report_has_every_block_and_site(report: SensitivityReport) -> None:
    model = small_model()
    names = ["stem", *(layer.name for layer, _ in model.blocks()), "head"]
    assert [block.name for block in report.blocks] == names
    sites = DeployMoViNet(model, (SIDE, SIDE)).sites()
    assert [site.name for site in report.sites] == [name for name in sites if name != "stem"]
    assert (report.streams, report.frames) == (2, CHUNK + 6)
    assert sum(b.cost_bytes for b in report.blocks) == 3 * sum(
        p.numel() for name, p in model.named_parameters() if name.endswith("weight") and p.dim() > 1
    )
    site = next(s for s in report.sites if s.name == "blocks.b0_l0.expand")
    assert (site.channels, site.elements) == (24, 24 * (SIDE // 2) ** 2)
    assert site.smallest <= site.median <= site.largest
    assert SensitivityReport.model_validate_json(report.model_dump_json()) == report


def test_a_part_alone_loses_less_than_all(report: SensitivityReport) -> None:
    less = [block.alone_db > report.plain.snr_db for block in report.blocks]
    assert sum(less) >= len(less) - len(PLANTED)  # those lose nearly everything
    assert all((b.alone_output_db is None) == (b.name == "head") for b in report.blocks)


def test_parts_share_the_multiplications_of_a_step(report: SensitivityReport) -> None:
    whole = describe(small_model(), (SIDE, SIDE)).macs
    assert sum(block.macs for block in report.blocks) == whole
    assert all(block.macs > 0 for block in report.blocks)


def test_measured_costs_are_shared(report: SensitivityReport) -> None:
    priced = report.priced(equalising_ms=2.0, floating_ms=-1.0)
    assert sum(s.cost_ms or 0 for s in priced.sites) == pytest.approx(2)
    assert sum(b.cost_ms or 0 for b in priced.blocks) == pytest.approx(-1)
    largest = max(priced.sites, key=lambda s: s.elements)
    assert largest.cost_ms == max(s.cost_ms or 0 for s in priced.sites)


def test_what_sticks_out_is_named_and_equalised(
    uneven: Analysis, report: SensitivityReport
) -> None:
    worst = sorted((s for s in report.sites if s.loss_db is not None), key=lambda s: -s.loss_db)
    assert {s.name for s in worst[:3]} == set(PLANTED)
    assert report.equalised.snr_db > report.plain.snr_db + 6
    target = report.equalised.snr_db - 2
    choice = choose(uneven, target_db=target)
    policy = choice.policy
    assert choice.reached
    assert set(PLANTED) <= set(policy.equalise)
    assert len(policy.equalise) < len(report.sites) / 2
    assert policy.keep_float == ()
    assert uneven.measure(policy.equalise) == choice.quality
    scales = uneven.scales(policy.equalise)
    assert scales[PLANTED[0]].min() == 3
    assert scales[PLANTED[0]].argmax() < 2
    body = DeployMoViNet(stretched(small_model()), (SIDE, SIDE))
    body.fold(scales)  # takes them as they are


def test_nothing_is_chosen_where_plain_int8_will_do(
    uneven: Analysis, report: SensitivityReport
) -> None:
    choice = choose(uneven, target_db=report.plain.snr_db)
    assert choice.policy == Policy()
    assert choice.reached
    assert choice.quality == report.plain


def test_nothing_is_chosen_where_nothing_helps(uneven: Analysis, report: SensitivityReport) -> None:
    choice = choose(uneven, target_db=100, min_gain_db=50)
    assert choice.policy == Policy()
    assert not choice.reached


def test_a_ladder_goes_from_plain_int8_to_floats(
    uneven: Analysis, report: SensitivityReport
) -> None:
    """Every step treats more with care; on the whole that brings the logits nearer."""
    steps = ladder(uneven)
    assert (steps[0].equalise, steps[0].keep_float) == ((), ())
    assert set(PLANTED) & set(steps[1].equalise)  # what is worst comes first
    assert steps[-1].keep_float == tuple(uneven.instrument.blocks)
    treated = [len(step.equalise) + 100 * len(step.keep_float) for step in steps]
    assert treated == sorted(set(treated))
    for step in steps:
        blocks = {uneven.instrument.sites[name].block for name in step.equalise}
        assert not blocks & set(step.keep_float)
    quality = [uneven.measure(step.equalise, step.keep_float).snr_db for step in steps]
    assert quality[0] == report.plain.snr_db
    assert quality[-1] == max(quality)
    assert quality[-1] > 60  # nothing is rounded any more


def test_costs_decide_between_equals(uneven: Analysis, report: SensitivityReport) -> None:
    """A planted site that costs next to nothing is taken before the others."""
    cheap = PLANTED[1]
    costs = {site.name: 1e-6 if site.name == cheap else 1.0 for site in report.sites}
    target = report.plain.snr_db + 0.1
    choice = choose(uneven, target, min_gain_db=0, costs=costs)
    assert cheap in choice.policy.equalise


def test_lists_of_frames_are_streams_too(even: Analysis) -> None:
    frames = [list(stream[:, None]) for stream in streams()]  # each [1, H, W, 3]
    assert Analysis(checkpoint(small_model()), frames).plain == even.plain


def test_no_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="no frames"):
        analyse(checkpoint(small_model()), [])
