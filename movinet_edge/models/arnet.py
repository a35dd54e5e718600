"""AR-Net (arXiv 2007.15796): a policy decides how closely each frame is looked at.

Input is RGB in [0, 1], which is normalised here as ImageNet's. On a clip decisions are masks, so
that gradients reach the policy; a host that runs the exported graphs branches for real. Semantics
follow mengyuest/AR-Net, with deterministic decisions where nothing is sampled.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from movinet_edge.models.arch import VideoModel
from movinet_edge.models.arnet_table import ArNetArch
from movinet_edge.models.backbone import BackboneNet, normalised, start_residuals
from movinet_edge.models.backbone_table import Backbone
from movinet_edge.runtime.rescale import nearest, weights
from movinet_edge.streaming.layers import tick
from movinet_edge.streaming.state import State

HIDDEN, CELL = "policy.hidden", "policy.cell"
WAITING, RUNNING = "waiting", "running"
TOTAL, LOOKED = "mean", "looked"
DECISIONS = "decisions"  # of a clip in training, for the losses
SMALLEST = 1e-8  # of a probability, as in the public code


class LstmCell(nn.Module):
    """An LSTM cell as two dense layers; gates are in, forget, cell, out (PyTorch's order).

    It begins by remembering: a forget gate's bias of 1 (Jozefowicz and others, ICML 2015).
    """

    def __init__(self, inputs: int, hidden: int):
        super().__init__()
        self.input, self.recurrent = nn.Linear(inputs, 4 * hidden), nn.Linear(hidden, 4 * hidden)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(hidden**-0.5), hidden**-0.5)
        with torch.no_grad():
            self.recurrent.bias[hidden : 2 * hidden] = 1

    def forward(self, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """[B, inputs] and states [B, hidden] -> the next states."""
        enters, forgets, new, leaves = (self.input(x) + self.recurrent(hidden)).chunk(4, 1)
        kept = torch.sigmoid(forgets) * cell
        cell = kept + torch.sigmoid(enters) * torch.tanh(new)
        return torch.sigmoid(leaves) * torch.tanh(cell), cell


def _dense(inputs: int, outputs: int) -> nn.Linear:
    """As the public code begins with its last layers."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=0.001)
    nn.init.zeros_(layer.bias)
    return layer


class Policy(nn.Module):
    """Small images to the scores of actions and, with `lite`, to a class prediction of its own."""

    def __init__(self, arch: ArNetArch, backbone: Backbone):
        super().__init__()
        self.net, self.dropout = BackboneNet(backbone), nn.Dropout(arch.dropout)
        self.cell = LstmCell(self.net.features, arch.hidden)
        decides = arch.chooses and arch.decides == "policy"
        self.act = _dense(arch.hidden, len(arch.actions)) if decides else None
        self.classify = _dense(arch.hidden, arch.classes) if arch.lite else None


class Look(nn.Module):
    """Images of one scale to a class prediction."""

    def __init__(self, arch: ArNetArch, backbone: Backbone):
        super().__init__()
        self.net, self.dropout = BackboneNet(backbone), nn.Dropout(arch.dropout)
        self.classify = _dense(self.net.features, arch.classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classify(self.dropout(self.net(images)))
        return logits


@dataclass(frozen=True)
class Decided:
    """What happened on a clip; A actions, C classes.

    `decisions` [B, T, A] is 1 for what was done with a frame, and while a skip runs for that skip;
    `scores` [B, T, A] the policy's (None: it does not decide), before any bias. `logits` [B, T, C]
    is the mean over all looks so far, 0 before the first.
    """

    logits: Tensor
    decisions: Tensor
    scores: Tensor | None
    state: State


class ArNet(VideoModel):
    """A classifier that looks at each frame as closely as it must.

    `temperature` is that of decisions in training.
    """

    def __init__(self, arch: ArNetArch):
        super().__init__()
        self.arch: ArNetArch = arch
        self.policy = None if arch.policy is None else Policy(arch, arch.policy)
        self.backbones = nn.ModuleList(Look(arch, backbone) for backbone in arch.backbones)
        self.temperature = 1.0

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Frames [B, T, 3, H, W] in [0, 1] -> logits per frame [B, T, classes], next state.

        In training the state also has the `DECISIONS` of the clip, [B, T, actions].
        """
        done = self.decide(x, state)
        return done.logits, done.state

    def decide(
        self,
        x: Tensor,
        state: State | None = None,
        *,
        bias: Tensor | None = None,
        noise: Tensor | None = None,
        given: Tensor | None = None,
    ) -> Decided:
        """As `forward`, and everything that was decided.

        Args:
            bias: subtracted from the scores of the actions, [A].
            noise: Gumbel noise to be added to them, [B, T, A]; without any, training draws its
                own and evaluation takes the best action.
            given: numbers of actions, int64 [B, T], to be taken instead.
        """
        state = state or {}
        images = normalised(x)
        chosen, scores, lite, after = self._choose(images, state, bias, noise, given)
        looks = chosen[..., : self.arch.looks]
        each = self._predict(images, looks, lite)
        seen = looks.sum(2, keepdim=True)
        before = state.get(LOOKED, x.new_zeros(x.shape[0], 1))
        mean = state.get(TOTAL, x.new_zeros(x.shape[0], each.shape[2]))
        count = before[:, None] + seen.cumsum(1)
        total = (mean * before)[:, None] + each.cumsum(1)
        logits = total / count.clamp(min=1)
        after |= {TOTAL: logits[:, -1], LOOKED: count[:, -1]} | tick(state, x)
        if self.training:
            after[DECISIONS] = chosen
        return Decided(logits, chosen, scores, after)

    def _choose(
        self,
        images: Tensor,
        state: State,
        bias: Tensor | None,
        noise: Tensor | None,
        given: Tensor | None,
    ) -> tuple[Tensor, Tensor | None, Tensor | None, State]:
        """Decisions [B, T, A], scores [B, T, A], the policy's predictions [B, T, C], its state."""
        arch, policy = self.arch, self.policy
        batch, frames = images.shape[:2]
        everything = images.new_ones(batch, frames, len(arch.actions))
        if policy is None:
            return everything, None, None, {}
        assert arch.policy is not None
        small = rescaled(images.flatten(0, 1), arch.policy.side, arch)
        features = policy.dropout(policy.net(small)).unflatten(0, (batch, frames))
        steps = _Steps(self, state, images)
        rows = []
        for t in range(frames):
            drawn = None if noise is None else noise[:, t]
            forced = None if given is None else given[:, t]
            rows.append(steps.take(features[:, t], bias, drawn, forced))
        chosen, scores, lite = zip(*rows, strict=True)
        return (
            torch.stack(chosen, 1) if arch.chooses else everything,
            torch.stack(scores, 1) if policy.act is not None else None,
            torch.stack(lite, 1) if arch.lite else None,
            steps.state(),
        )

    def _predict(self, images: Tensor, looks: Tensor, lite: Tensor | None) -> Tensor:
        """The sum of the predictions that were chosen, [B, T, C].

        In training all backbones see all frames, as gradients of decisions need. Otherwise each
        sees what it was chosen for.
        """
        flat, picked = images.flatten(0, 1), looks.flatten(0, 1)
        total = images.new_zeros(len(flat), self.arch.classes)
        if lite is not None:
            total = total + lite.flatten(0, 1) * picked[:, -1:]
        everywhere = self.training or images.is_meta
        for k, look in enumerate(self.backbones):
            frames = torch.arange(len(flat), device=flat.device)
            if not everywhere:
                frames = picked[:, k].nonzero()[:, 0]
                if not len(frames):
                    continue
            small = rescaled(flat[frames], self.arch.backbones[k].side, self.arch)
            weighed = look(small).to(total.dtype) * picked[frames, k : k + 1]
            total = total.index_add(0, frames, weighed)
        return total.unflatten(0, images.shape[:2])

    def start_residuals(self, scale: float) -> None:
        start_residuals(self, scale)


class _Steps:
    """The policy frame by frame: its LSTM, what it picks, and skips that run."""

    def __init__(self, model: ArNet, state: State, x: Tensor):
        self.model, self.arch = model, model.arch
        arch, batch = self.arch, x.shape[0]
        self.skips = x.new_tensor([float(action.skip) for action in arch.actions])
        self.hidden = state.get(HIDDEN, x.new_zeros(batch, arch.hidden))
        self.cell = state.get(CELL, x.new_zeros(batch, arch.hidden))
        self.waiting = state.get(WAITING, x.new_zeros(batch, 1))
        self.running = state.get(RUNNING, x.new_zeros(batch, len(arch.actions)))

    def take(
        self, features: Tensor, bias: Tensor | None, noise: Tensor | None, given: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One frame's features [B, F] -> what is done with it, its scores, the prediction."""
        policy = self.model.policy
        assert policy is not None
        hidden, cell = policy.cell(features, self.hidden, self.cell)
        scores = features.new_zeros(0) if policy.act is None else policy.act(hidden)
        lite = features.new_zeros(0) if policy.classify is None else policy.classify(hidden)
        if not self.arch.chooses:
            self.hidden, self.cell = hidden, cell
            return scores, scores, lite
        chosen = self._pick(scores if bias is None else scores - bias, noise, given)
        # Where chance decides, skips are not carried over.
        if self.arch.skips and self.arch.decides == "policy":
            skipping = self.waiting > 0.5
            hidden = torch.where(skipping, self.hidden, hidden)
            if self.arch.hold == "both":
                cell = torch.where(skipping, self.cell, cell)
            chosen = torch.where(skipping, self.running, chosen)
            begun = (chosen.detach() * self.skips).sum(1, keepdim=True)
            self.waiting = (torch.where(skipping, self.waiting, begun) - 1).clamp(min=0)
            self.running = chosen
        self.hidden, self.cell = hidden, cell
        return chosen, scores, lite

    def _pick(self, scores: Tensor, noise: Tensor | None, given: Tensor | None) -> Tensor:
        """One action for each of the batch, 1 among zeros [B, A]; gradients as if it were soft."""
        arch, training = self.arch, self.model.training
        if given is not None:
            return F.one_hot(given, len(arch.actions)).to(scores.dtype)
        if arch.decides == "random":
            chance = torch.ones(len(self.hidden), len(arch.actions))
            best = chance.multinomial(1)[:, 0].to(self.hidden.device)
            return F.one_hot(best, len(arch.actions)).to(self.hidden.dtype)
        logs = scores.softmax(1).clamp(min=SMALLEST).log()
        if noise is None and training:
            noise = -torch.empty_like(logs).exponential_().log()
        perturbed = scores if noise is None else logs + noise
        hard = F.one_hot(perturbed.argmax(1), len(arch.actions)).to(scores.dtype)
        if not training:
            return hard
        soft = (perturbed / self.model.temperature).softmax(1)
        return hard - soft.detach() + soft

    def state(self) -> State:
        """What the next frame begins with."""
        found = {HIDDEN: self.hidden, CELL: self.cell}
        if self.arch.chooses and self.arch.skips and self.arch.decides == "policy":
            found |= {WAITING: self.waiting, RUNNING: self.running}
        return found


def rescaled(images: Tensor, side: int, arch: ArNetArch) -> Tensor:
    """Images [N, 3, H, W] at `side` pixels, by the rule of the architecture."""
    height, width = images.shape[-2:]
    if (height, width) == (side, side):
        return images
    if arch.rescale == "nearest":
        rows, columns = (
            torch.from_numpy(nearest(n, side)).to(images.device) for n in (height, width)
        )
        return images[:, :, rows][:, :, :, columns]
    down, across = (
        torch.from_numpy(weights(n, side, arch.rescale)).to(images) for n in (height, width)
    )
    return down @ images @ across.T
