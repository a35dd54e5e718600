"""MoViNet: the tables, streaming, and the official implementation's numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from movinet_edge.checkpoints.importer import read_checkpoint
from movinet_edge.models.facts import all_model_facts
from movinet_edge.models.movinet import MoViNet
from movinet_edge.models.movinet_table import MoViNetArch, published_arch
from movinet_edge.models.registry import MODELS, arch_from_record, named_arch, seeded_model
from movinet_edge.streaming.spec import describe, initial_state
from movinet_edge.streaming.state import CLOCK
from tests.bundles import MOVINETS
from tests.pieces import in_pieces

# Trainable parameters, MMAC of one frame, and all state bytes, as published or derived from the
# official models' tables (states there count a 4-byte frame counter per pool and encoding).
TABLE = {
    "movinet-a0-stream": (3_748_031, 50.7, 2_696_832, 15),
    "movinet-a1-stream": (6_447_352, 113.2, 4_882_340, 24),
    "movinet-a2-stream": (7_326_962, 216.5, 10_828_460, 26),
    "movinet-a3-stream": (10_986_618, 437.2, 18_275_788, 33),
    "movinet-a4-stream": (18_136_182, 1212.2, 49_400_700, 47),
    "movinet-a5-stream": (31_495_934, 2184.1, 75_094_044, 59),
    "movinet-a0-base": (3_111_799, 2760 / 50, 0, 15),
    "movinet-a1-base": (4_690_296, 6030 / 50, 0, 24),
    "movinet-a2-base": (5_249_562, 11740 / 50, 0, 26),
    "movinet-a3-base": (7_397_545, 56140 / 120, 0, 33),
    "movinet-a4-base": (11_349_463, 103850 / 80, 0, 47),
    "movinet-a5-base": (18_650_523, 277490 / 120, 0, 59),
}
STREAMS = [name for name, arch in MOVINETS.items() if arch.causal]
SIDE = 64


def test_facts_equal_the_tables() -> None:
    facts = {row["model"]: row for row in all_model_facts() if row["model"] in MOVINETS}
    assert set(facts) == set(TABLE)
    for name, (parameters, mmacs, state_bytes, layers) in TABLE.items():
        row, arch = facts[name], MOVINETS[name]
        assert row["parameters"] == parameters
        assert row["macs_per_frame"] / 1e6 == pytest.approx(mmacs, rel=0.01)
        assert len(arch.table.layers()) == layers
        if arch.causal:
            counters = layers + 1 + (layers if arch.positional_encoding else 0)
            assert row["state_bytes"] == state_bytes - 4 * counters + 4


@pytest.mark.parametrize("name", STREAMS)
def test_clip_equals_sub_clips_and_steps(name: str) -> None:
    # In double precision, where a real difference stands out from rounding.
    model = seeded_model(MODELS[name]).double()
    x = torch.rand(1, 7, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        whole, last = model(x)
        for cut in ([1] * 7, [3, 1, 3]):
            parts, state = in_pieces(model, x, cut)
            assert relative_error(parts, whole) < 1e-9
            for key, value in last.items():
                torch.testing.assert_close(state[key], value)
        # Causality: the first answers do not depend on later frames.
        prefix, _ = model(x[:, :4])
    assert relative_error(prefix, whole[:, :4]) < 1e-9


def relative_error(ours: torch.Tensor, reference: torch.Tensor) -> float:
    return float((ours - reference).abs().max() / reference.std())


def test_every_state_matters() -> None:
    for name in ("movinet-a0-stream", "movinet-a3-stream"):
        model = seeded_model(MODELS[name])
        x = torch.rand(1, 3, 3, SIDE, SIDE)
        with torch.no_grad():
            _, state = model(x)
            logits, _ = model(x[:, :1], state)
            for key in state:
                changed, _ = model(x[:, :1], state | {key: state[key] + 0.5})
                assert not torch.equal(changed, logits), f"{key} does not matter"


def test_state_names_and_shapes() -> None:
    arch = named_arch("movinet-a0-stream")
    with torch.device("meta"):
        model = MoViNet(arch)
    spec = describe(model, (172, 172))
    by_name = {s.name: s for s in spec.states}
    assert len(by_name) == 11 + 15 + 1 + 1  # buffers, pools, head pool, clock
    assert by_name["b1.l0.stream"].shape == (80, 22, 22)
    assert by_name["b1.l0.stream"].past == 2
    assert by_name["b4.l0.stream"].shape == (384, 6, 6)
    assert by_name["b4.l0.stream"].past == 4
    assert by_name["b4.l1.pool"].shape == (280,)
    assert by_name["head.pool"].shape == (480,)
    assert list(by_name)[-1] == CLOCK


@pytest.mark.parametrize(
    "changes",
    [
        {"conv": "3d"},
        {"squeeze_excite": "3d"},
        {"squeeze_excite": "none", "activation": "relu6", "classifier_activation": "relu6"},
        {"gate": "hard_sigmoid_keras"},
        {"rezero": False, "activation": "swish", "gate": "sigmoid"},
        {"positional_encoding": True, "classes": 7},
    ],
    ids=str,
)
def test_options_stream_too(changes: dict[str, object]) -> None:
    model = seeded_model(published_arch("a0", True, **changes))
    x = torch.rand(2, 4, 3, 48, 48)
    with torch.no_grad():
        whole, _ = model(x)
        state = initial_state(describe(model, (48, 48)), batch=2)
        for t in range(4):
            step, state = model(x[:, t : t + 1], state)
            assert relative_error(step[:, 0], whole[:, t]) < 1e-4


def test_base_sees_the_whole_clip_and_refuses_a_state() -> None:
    model = seeded_model(published_arch("a0", False))
    x = torch.rand(1, 5, 3, 48, 48)
    with torch.no_grad():
        logits, state = model(x)
        other, _ = model(torch.cat([x[:, :4], x[:, :1]], 1))
        assert logits.shape == (1, 1, 600)
        assert not state
        assert not torch.equal(logits, other)
        with pytest.raises(ValueError, match="whole clips"):
            model(x, {CLOCK: torch.ones(1)})


def test_training_mode_drops_paths_and_learns() -> None:
    torch.manual_seed(0)
    model = seeded_model(published_arch("a0", True, classes=3, drop_path=0.5)).train()
    x = torch.rand(2, 2, 3, 32, 32)
    first, _ = model(x)
    second, _ = model(x)
    assert not torch.equal(first, second)
    first[:, -1].sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_architecture_record_round_trip() -> None:
    for arch in MOVINETS.values():
        assert arch_from_record(arch.model_dump()) == arch
    with pytest.raises(ValueError, match="variant"):
        MoViNetArch(variant="a9")  # type: ignore[arg-type]


def test_official_reference_vectors(shared: Callable[[str], Path]) -> None:
    """The official implementation's logits and states, from its own checkpoint (needs [tf])."""
    pytest.importorskip("tensorflow")
    checkpoint = read_checkpoint(shared("data/official_a0/checkpoint"))
    reference = np.load(shared("data/official_a0/reference.npz"))
    video = torch.from_numpy(reference["video"]).permute(0, 1, 4, 2, 3)
    with torch.no_grad():
        logits, state = checkpoint.model(video)
    np.testing.assert_allclose(logits[0].numpy(), reference["logits"][:, 0], atol=2e-4)
    compare_official_states(state, reference)


def compare_official_states(state: dict[str, torch.Tensor], reference: object) -> None:
    """Ours [B, past, C, H, W] and means; theirs [1, past, H, W, C] and sums with counts."""
    names = {"head_pool": "head.pool"}
    assert hasattr(reference, "files")
    for key in reference.files:
        if not key.endswith("_buffer"):
            continue
        theirs = reference[key]  # type: ignore[index]
        place = key.removeprefix("final_state_").removesuffix("_buffer")
        name = names.get(place)
        if name is None:
            block, layer, kind = place.split("_")
            name = f"b{block.removeprefix('block')}.l{layer.removeprefix('layer')}.{kind}"
        ours = state[name].numpy()
        if name.endswith("stream"):
            np.testing.assert_allclose(ours.transpose(0, 1, 3, 4, 2), theirs, atol=2e-4)
        else:
            count = reference[key.replace("_buffer", "_frame_count")].item()  # type: ignore[index]
            np.testing.assert_allclose(ours.ravel() * count, theirs.ravel(), atol=2e-4)
