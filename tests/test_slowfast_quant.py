"""Simulated static int8 of SlowFast: where it rounds, that files do the same, and what uses it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from movinet_edge.bundle import Bundle, Precision
from movinet_edge.checkpoints.native import Checkpoint, load_checkpoint, save_checkpoint
from movinet_edge.data.listing import read_video_set
from movinet_edge.data.motion import encode
from movinet_edge.data.sources import read_source
from movinet_edge.errors import BadInput
from movinet_edge.export.calibration import Stream as Calibration
from movinet_edge.export.calibration import calibration_streams
from movinet_edge.export.exporter import export
from movinet_edge.export.graph_files import ExportOptions
from movinet_edge.export.policy import Policy, choose, ladder
from movinet_edge.export.sensitivity import Analysis
from movinet_edge.export.target_drop import cheapest
from movinet_edge.models.registry import build, default_preprocessing, seeded_model, simulated
from movinet_edge.models.slowfast import SlowFast
from movinet_edge.models.slowfast_table import slowfast_arch
from movinet_edge.pattern import moving_pattern
from movinet_edge.runtime import Stream
from movinet_edge.streaming.layers import StackedConv
from movinet_edge.streaming.spec import module_macs
from movinet_edge.train.loop import TrainOptions
from movinet_edge.train.parallel import World
from movinet_edge.train.recipe import make_recipe
from movinet_edge.train.run_folder import RunFolder
from movinet_edge.train.trainer import Trainer
from tests.bundles import clip, logits_of
from tests.pieces import in_pieces
from tests.simulated import calibrated
from tests.videos import encode_video

SIDE = 32
SLOW: dict[str, object] = {"pathways": ("slow",), "fusion": "none"}
FAST: dict[str, object] = {"pathways": ("fast",), "fusion": "none", "causal": True}


def small_model(**changes: object) -> SlowFast:
    fields = {"classes": 5, "resolution": SIDE, "dropout": 0.0, "causal": True} | changes
    model = seeded_model(slowfast_arch("tiny", **fields))
    assert isinstance(model, SlowFast)
    return model


def checkpoint(**changes: object) -> Checkpoint:
    model = small_model(**changes)
    return Checkpoint(model, default_preprocessing(model.arch))


def frames(count: int = 16, seed: int = 0) -> Tensor:
    video = moving_pattern(count, SIDE, SIDE, seed)
    return torch.from_numpy(video.copy()).permute(0, 3, 1, 2)[None].float() / 255


def test_detaching_leaves_the_model_as_it_was() -> None:
    model, x = small_model(), frames()
    before, keys = model(x)[0], list(model.state_dict())
    modules = [name for name, _ in model.named_modules()]
    instrument = calibrated(model, x)
    assert torch.equal(model(x)[0], before), "quantisers that are off change something"
    assert list(model.state_dict()) == keys
    instrument.quantise()
    assert not torch.equal(model(x)[0], before)
    instrument.detach()
    assert [name for name, _ in model.named_modules()] == modules
    assert torch.equal(model(x)[0], before)


def test_blocks_are_the_parts_of_the_model() -> None:
    """Every weight belongs to one block, by the path that --keep-float takes, too."""
    model = small_model()
    instrument = simulated(model)
    names = list(instrument.blocks)
    assert names[:2] == ["fast.stem", "fast.res2.blocks.0"]
    assert names[names.index("slow.stem") + 1] == "slow.laterals.0"
    assert names[-1] == "head"
    for path, module in model.named_modules():
        if isinstance(module, StackedConv | nn.Linear):
            assert sum(path.startswith(f"{name}.") for name in names) == 1, path
    inside = {id(q) for quantisers in instrument.blocks.values() for q in quantisers}
    borders = {id(q) for q in instrument.exits.values() if q is not None}
    assert inside | borders >= {id(q) for q in instrument.tensors().values()}
    assert not instrument.sites
    assert instrument.penalty(6.0) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"causal": False},
        {"fusion": "t-sample", "pool": "window"},
        {"fusion": "ttoc-sum", "causal": False},
        SLOW,
        FAST,
    ],
    ids=str,
)
def test_every_kind_is_near_its_floats(changes: dict[str, object]) -> None:
    model, x = small_model(**changes), frames()
    expected = model(x)[0].detach()
    instrument = calibrated(model, x)
    assert instrument.seen
    instrument.quantise()
    error = float((model(x)[0].detach() - expected).norm() / expected.norm())
    assert 0 < error < 0.2
    instrument.quantise([])
    assert torch.equal(model(x)[0], expected)


def frame_by_frame(model: SlowFast, x: Tensor) -> Tensor:
    with torch.no_grad():
        return in_pieces(model, x, 1)[0]


def test_cutting_a_clip_changes_nothing() -> None:
    """Also into single frames, most of which the Slow pathway does not see."""
    model, x = small_model(), frames()
    instrument = calibrated(model, x)
    ranges = {name: value.clone() for name, value in instrument.state_dict().items()}
    instrument.forget()
    instrument.watch("all")
    frame_by_frame(model, x)
    instrument.watch("none")
    for name, value in instrument.state_dict().items():
        torch.testing.assert_close(value, ranges[name], atol=1e-4, rtol=1e-4)
    instrument.quantise()
    with torch.no_grad():
        whole = model(x)[0]
    # Sums in another order may round to the next step.
    assert (frame_by_frame(model, x) - whole).norm() < 0.05 * whole.norm()


def test_gradients_reach_every_parameter() -> None:
    model, x = small_model(), frames()
    calibrated(model, x).quantise()
    model(x)[0][:, -1].square().sum().backward()
    gradients = [p.grad for p in model.parameters()]
    assert all(g is not None and g.isfinite().all() and g.abs().sum() for g in gradients)


def test_what_sees_whole_clips_is_refused() -> None:
    model = build(slowfast_arch("tiny", nonlocal_blocks=((), (), (0,), ())))
    with pytest.raises(BadInput, match="sees whole clips; train without qat"):
        simulated(model)


def snr(expected: np.ndarray, got: np.ndarray) -> float:
    signal = np.square(expected - expected.mean(0)).sum()
    return float(10 * np.log10(signal / np.square(got - expected).sum()))


@pytest.mark.parametrize(
    ("fmt", "causal", "kept"),
    [
        ("onnx", True, ("fast.res3.blocks.0", "slow.laterals.1", "head")),
        pytest.param("onnx", False, (), marks=pytest.mark.slow),
        pytest.param("tflite", True, (), marks=pytest.mark.slow),
        pytest.param(
            "tflite", True, ("fast.res3.blocks.0", "slow.laterals.1"), marks=pytest.mark.slow
        ),
    ],
)
def test_the_simulation_is_the_real_file(
    tmp_path: Path, fmt: str, causal: bool, kept: tuple[str, ...]
) -> None:
    """As noisy as the int8 files, and mostly the same noise; also with parts left in floats."""
    held = checkpoint(causal=causal, resolution=64)
    delay = held.model.delay
    video = encode_video(tmp_path / "v.mp4", clip(150, 64, 64), rate=15, steady=True)
    options = ExportOptions(
        (fmt,),  # type: ignore[arg-type]
        ("int8",),
        calibrate=video,
        calibration_frames=100,
        keep_float=kept,
        verify=False,
    )
    export(held, tmp_path / "b", options)
    streams = calibration_streams(video, held.preprocessing, 100, delay)
    tensors = [torch.from_numpy(np.concatenate(list(s))).permute(0, 3, 1, 2)[None] for s in streams]
    stream = held.model.as_stream()

    def answers() -> np.ndarray:
        with torch.no_grad():
            return np.concatenate([stream(x)[0][0, delay:].numpy() for x in tensors])

    expected = answers()
    instrument = simulated(held.model)
    instrument.watch("all")
    answers()
    instrument.watch("none")
    instrument.quantise([name for name in instrument.blocks if name not in kept])
    rounded = answers()
    backend = "onnxruntime" if fmt == "onnx" else "litert"
    with Stream(Bundle(tmp_path / "b"), backend) as files:
        real = np.concatenate([logits_of(files, s.images) for s in streams])
        kinds = {t.state: t.dtype for g in files.graphs.values() for t in g.file.inputs if t.state}
    assert (kinds["fast.res3.blocks.0.stream"] == "float32") == bool(kept)
    assert kinds["fast.res4.blocks.1.stream"] != "float32"
    # Within half and twice the noise.
    assert snr(expected, rounded) == pytest.approx(snr(expected, real), abs=3)
    assert snr(real, rounded) > snr(expected, real)


def test_a_pattern_that_fits_no_graph_is_refused(tmp_path: Path) -> None:
    video = encode_video(tmp_path / "v.mp4", clip(450, 48, 48), rate=15)
    options = ExportOptions(
        ("onnx",), ("int8",), calibrate=video, keep_float=("slow.res2", "slow.res9"), verify=False
    )
    with pytest.raises(BadInput, match=r"--keep-float slow.res9 fits no part"):
        export(checkpoint(**SLOW), tmp_path / "b", options)


def streams_of(count: int, length: int) -> list[Calibration]:
    return [Calibration(moving_pattern(length, SIDE, SIDE, n)) for n in range(count)]


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "delayed"])
def test_an_analysis_part_by_part(causal: bool) -> None:
    """One answer for every frame, also where they come late; nothing is equalised."""
    held = checkpoint(causal=causal)
    before = {name: value.clone() for name, value in held.model.state_dict().items()}
    analysis = Analysis(held, streams_of(2, 12))
    report = analysis.report()
    assert all(torch.equal(v, before[k]) for k, v in held.model.state_dict().items())
    assert len(analysis._reference) == report.frames == 24
    assert [block.name for block in report.blocks] == list(analysis.instrument.blocks)
    assert report.plain == report.equalised == analysis.measure()
    assert not report.sites
    assert all(b.alone_db > report.plain.snr_db for b in report.blocks)
    assert all((b.alone_output_db is None) == (b.name == "head") for b in report.blocks)
    assert analysis.measure(keep_float=list(analysis.instrument.blocks)).snr_db > 60
    macs = module_macs(held.model.as_stream(), (SIDE, SIDE))
    assert sum(block.macs for block in report.blocks) == sum(macs.values())
    weights = [p.numel() for p in held.model.parameters() if p.dim() > 1]
    assert sum(block.cost_bytes for block in report.blocks) == 3 * sum(weights)
    assert choose(analysis, target_db=200).policy == Policy()
    steps = ladder(analysis)
    assert [len(step.keep_float) for step in steps][:3] == [0, 1, 2]
    assert steps[-1].keep_float == tuple(analysis.instrument.blocks)


@pytest.mark.slow
def test_the_cheapest_that_keeps_accuracy(tmp_path: Path) -> None:
    """Blocks are left in floats by the names of the simulation."""
    video = encode_video(tmp_path / "v.mp4", clip(150, 48, 48), rate=15)

    def judge(bundle: Bundle, backend: str, precision: Precision) -> float:
        file = next(f for f in bundle.manifest.graphs[0].files if f.precision == precision)
        kept = () if file.calibration is None else file.calibration.keep_float
        return 0.9 if precision == "fp32" or kept else 0.5

    options = ExportOptions(("onnx",), ("int8",), calibrate=video, calibration_frames=100)
    found = cheapest(checkpoint(), options, 1.0, judge)
    assert len(found.policy.keep_float) == 1
    assert found.applied(replace(options)).keep_float == found.policy.keep_float


def test_fine_tuning_in_simulated_int8(tmp_path: Path) -> None:
    """Checkpoints are plain, statistics kept; there is nothing to shrink and nothing to pay."""
    for split, count in (("train", 8), ("val", 2)):
        for index in range(count):
            label = ("dark", "light")[index % 2]
            place = tmp_path / "videos" / split / label
            place.mkdir(parents=True, exist_ok=True)
            video = moving_pattern(30, 48, 48, seed=index) // 4 + {"dark": 40, "light": 200}[label]
            encode(video.clip(0, 255).astype(np.uint8), place / f"{index}.mp4", crf=25)
    start = checkpoint(classes=2)
    start.labels = ["dark", "light"]
    init = tmp_path / "init.safetensors"
    save_checkpoint(start, init)
    source = read_source(tmp_path / "videos")
    train = read_video_set(source, "train")
    fields = {"init": str(init), "qat": True, "frames": 8, "batch": 4, "epochs": 1, "lr": 1e-3}
    recipe = make_recipe(fields | {"qat_batches": 2, "range_penalty": 1.0, "ema": 0.5})
    (tmp_path / "run").mkdir()
    run = Trainer(
        recipe,
        train,
        read_video_set(source, "val", train.labels),
        RunFolder(tmp_path / "run"),
        World(0, 1, torch.device("cpu")),
        TrainOptions(),
    )
    record = run.run(lambda now: None)
    assert record is not None
    assert record.videos == 2
    before = start.model.state_dict()
    after = load_checkpoint(tmp_path / "run" / "last.safetensors").model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(v, before[k]) for k, v in after.items() if "running_" in k)
    assert not torch.equal(after["fast.stem.conv.weight"], before["fast.stem.conv.weight"])
