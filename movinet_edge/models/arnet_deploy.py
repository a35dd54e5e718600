"""AR-Net in deploy form: the policy's step as one graph, and one graph for each backbone.

A host runs the policy, takes the action with the highest score, and runs what that asks for.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from movinet_edge.errors import BadInput
from movinet_edge.models.arnet import CELL, HIDDEN, ArNet, Look, Policy
from movinet_edge.models.arnet_cost import POLICY
from movinet_edge.models.backbone import folded, normalised
from movinet_edge.streaming.deploy import ACTION, NEW, Fresh, Io, Part, tensor_name
from movinet_edge.streaming.spec import describe, module_macs


class DeployPolicy(nn.Module):
    """``forward(io, frame)``: a small frame -> scores of actions, and logits of its own."""

    def __init__(self, policy: Policy):
        super().__init__()
        self.policy = folded(policy)

    def forward(self, io: Fresh, frame: Tensor) -> Tensor | None:
        policy = self.policy
        assert isinstance(policy, Policy)
        features = policy.net(normalised(frame), io.spatial_mean)
        states = (io.inputs[tensor_name(name)] for name in (HIDDEN, CELL))
        hidden, cell = policy.cell(features, *states)
        io.outputs[tensor_name(HIDDEN) + NEW] = hidden
        io.outputs[tensor_name(CELL) + NEW] = cell
        if policy.act is not None:
            io.outputs[ACTION] = policy.act(hidden)
        return None if policy.classify is None else policy.classify(hidden)


class DeployLook(nn.Module):
    """``forward(io, frame)``: a frame of one scale -> logits [1, classes]."""

    def __init__(self, look: Look):
        super().__init__()
        self.look = folded(look)

    def forward(self, io: Io, frame: Tensor) -> Tensor:
        look = self.look
        assert isinstance(look, Look)
        logits: Tensor = look.classify(look.net(normalised(frame), io.spatial_mean))
        return logits


def step_parts(model: ArNet, size: tuple[int, int]) -> list[Part]:
    """The graphs of a stream: the policy first, then those that its actions ask for.

    Raises:
        BadInput: a baseline that several graphs answer for at once, or chance decides in; frames
            smaller than a scale.
    """
    arch = model.arch
    if not arch.deploys:
        raise BadInput(
            f"{arch.name} is a baseline to compare with and has no plan; export the model that "
            "chooses, or a single scale"
        )
    sides = [b.side for b in (arch.policy, *arch.backbones) if b is not None]
    if max(sides) > min(size):
        raise BadInput(
            f"{arch.name} looks at {max(sides)} pixels, and frames have {min(size)}; leave out the "
            "size"
        )
    macs = module_macs(model, size)
    states = {state.name: state for state in describe(model, size).states}
    parts = []
    if arch.policy is not None:
        assert model.policy is not None
        parts.append(
            Part(
                POLICY,
                partial(DeployPolicy, model.policy),
                tuple(states[name] for name in (HIDDEN, CELL)),
                sum(n for path, n in macs.items() if path.startswith("policy.")),
                side=_smaller(arch.policy.side, size),
                whole=False,  # the mean over frames is the host's
            )
        )
    for k, (look, backbone) in enumerate(zip(model.backbones, arch.backbones, strict=True)):
        assert isinstance(look, Look)
        parts.append(
            Part(
                f"backbone_{k}",
                partial(DeployLook, look),
                (),
                sum(n for path, n in macs.items() if path.startswith(f"backbones.{k}.")),
                side=_smaller(backbone.side, size),
                whole=False,
                when=arch.actions[k].name if arch.chooses else None,
            )
        )
    return parts


def _smaller(side: int, size: tuple[int, int]) -> int | None:
    """The side of a graph's frames, where it is not the model's own."""
    return None if size == (side, side) else side
