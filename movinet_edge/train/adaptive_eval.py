"""Evaluation of models that decide: what they did with the frames, and what that took."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import torch
from torch import Tensor

from movinet_edge.models.arch import VideoModel
from movinet_edge.models.arnet import ArNet
from movinet_edge.models.arnet_cost import POLICY, published_costs, true_costs
from movinet_edge.models.arnet_table import ArNetArch
from movinet_edge.models.registry import arch_from_record
from movinet_edge.runtime.choice import decided
from movinet_edge.runtime.stream import Stream
from movinet_edge.streaming.state import State
from movinet_edge.train.protocols import (
    CHUNK,
    BundlePredictor,
    EvalProtocol,
    TorchPredictor,
)


def torch_predictor(
    model: VideoModel,
    size: tuple[int, int],
    protocol: EvalProtocol,
    device: torch.device,
    amp: torch.dtype | None = None,
    cost_bias: float = 0.0,
) -> TorchPredictor:
    """The predictor of a model, whether it decides or not; see `TorchPredictor`."""
    if isinstance(model, ArNet):
        return AdaptivePredictor(model, size, protocol, device, amp, cost_bias)
    return TorchPredictor(model, size, protocol, device, amp)


def bundle_predictor(stream: Stream, protocol: EvalProtocol) -> BundlePredictor:
    """The predictor of a bundle, whether it decides or not; see `BundlePredictor`."""
    if stream.bundle.manifest.plan.combine == "looks":
        return AdaptiveBundlePredictor(stream, protocol)
    return BundlePredictor(stream, protocol)


class AdaptivePredictor(TorchPredictor):
    """An AR-Net in memory.

    Where chance decides, it does by the number of the video, so that each has actions of its own.

    Args:
        cost_bias: times an action's cost (in multiply-adds) is subtracted from its score.
    """

    def __init__(
        self,
        model: ArNet,
        size: tuple[int, int],
        protocol: EvalProtocol,
        device: torch.device,
        amp: torch.dtype | None = None,
        cost_bias: float = 0.0,
    ):
        super().__init__(model, size, protocol, device, amp)
        self._net = model
        costs = true_costs(model.arch)
        self._policy = costs.networks.get(POLICY, 0.0)
        self._looks = torch.tensor(costs.looks(model.arch), dtype=torch.float64)
        biased = cost_bias * torch.tensor(costs.per_frame(model.arch), device=device)
        self._bias = biased if cost_bias else None
        self._spent, self._videos = 0.0, 0
        self._taken = torch.zeros(len(model.arch.actions), dtype=torch.float64)

    def predict(self, *crops: Tensor) -> Tensor:
        self._spent = 0.0
        self._taken.zero_()
        torch.manual_seed(self._videos)
        self._videos += 1
        return super().predict(*crops)

    def macs(self, length: int) -> int:
        """Of the last `predict`, whatever its length: what was not chosen was not run."""
        return round(self._spent * 1e9)

    @property
    def taken(self) -> dict[str, int]:
        arch = self._net.arch
        if not arch.chooses:
            return {}
        return {a.name: int(n) for a, n in zip(arch.actions, self._taken.tolist(), strict=True)}

    def _logits(self, frames: Tensor, chunk: int) -> Tensor:
        state: State = {}
        logits, taken = torch.empty(0), list[Tensor]()
        autocast = torch.autocast(self.device.type, self.amp, enabled=self.amp is not None)
        with torch.inference_mode(), autocast:
            for part in frames.split(min(chunk, CHUNK)):
                clip = part[None].to(self.device, copy=True)
                done = self._net.decide(clip, state, bias=self._bias)
                state, logits = done.state, done.logits
                taken.append(done.decisions[0].double().cpu())
        self._count(torch.cat(taken))
        return logits[0, -1].float().cpu()

    def _count(self, decisions: Tensor) -> None:
        """Of all frames of a pass, [T, A]."""
        arch, used = self._net.arch, decisions.sum(0)
        self._taken += used
        runs = len(decisions)  # of the policy
        if arch.chooses and arch.decides == "policy" and arch.hold == "both":
            skips = [action.skip for action in arch.actions]
            runs = sum(decided(decisions.argmax(1).tolist(), skips))
        self._spent += float((used * self._looks).sum()) + runs * self._policy


class AdaptiveBundlePredictor(BundlePredictor):
    """A bundle whose plan decides, or takes the mean over frames."""

    def __init__(self, stream: Stream, protocol: EvalProtocol):
        super().__init__(stream, protocol)
        self._counts: Counter[str] = Counter()
        self._macs = 0

    def predict(self, *crops: Tensor) -> Tensor:
        self._counts.clear()
        self._macs = 0
        return super().predict(*crops)

    def logits(self, frames: Tensor) -> Tensor:
        self.stream.reset()
        prediction = None
        for frame in frames.permute(0, 2, 3, 1).numpy():
            prediction = self.stream.step(frame)
            if prediction is not None and prediction.action is not None:
                self._counts[prediction.action] += 1
        assert prediction is not None
        self._macs += sum(r.steps * r.graph.macs for r in self.stream.graphs.values())
        return torch.from_numpy(prediction.logits)

    def macs(self, length: int) -> int:
        """Of the last `predict`: of the graphs that ran, as often as they did."""
        return self._macs

    @property
    def taken(self) -> dict[str, int]:
        choice = self.stream.bundle.manifest.plan.choice
        return {} if choice is None else {a.name: self._counts[a.name] for a in choice.actions}


def published_gflops(record: dict[str, object], usage: dict[str, float]) -> float | None:
    """The mean cost of a frame as publications count it, of an AR-Net's record; None of others."""
    if record.get("family") != "arnet":
        return None
    arch = arch_from_record(record)
    assert isinstance(arch, ArNetArch)
    return published_costs(arch).frame_cost(arch, _in_order(arch, usage))


def _in_order(arch: ArNetArch, usage: dict[str, float]) -> list[float]:
    names: Iterable[str] = (action.name for action in arch.actions)
    return [usage.get(name, 0.0) for name in names]
