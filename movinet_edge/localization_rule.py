"""How a bundle finds segments: what its manifest says on it, and whether its graphs agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from movinet_edge.record import Record

if TYPE_CHECKING:
    from movinet_edge.bundle import Manifest, ModelFile

SCORES = ("overlap", "actionness", "start", "end")  # outputs of a localization head


class Localization(Record):
    """How the scores of a window of `snippets` features become segments.

    ``overlap`` and ``actionness`` are [1, durations, snippets]: of a segment that begins at a
    snippet and has 1, 2, ... snippets, nothing where it would end behind the window; ``start`` and
    ``end`` are [1, snippets], the answer [1, snippets, classes] the logits of every snippet. A
    segment's score is overlap * actionness times the probability of its class, whose logits are
    the mean over its snippets. With `peaks` it begins and ends where start and end peak or are
    above half of their maximum; soft-NMS has the variance `theta` and keeps `keep` segments;
    those of `longest` snippets and more are given up (None: none are).

    `whole`: a file is read as so many snippets spread over all of it, as in training; otherwise in
    windows, as a stream is.
    """

    snippets: int = Field(ge=1)
    durations: int = Field(ge=1)
    peaks: bool = True
    theta: float = Field(gt=0)
    keep: int = Field(ge=1)
    longest: float | None = None
    whole: bool = True


def check_localization(manifest: Manifest) -> None:
    """Raise `ValueError` unless task, rule, plan and graphs go together."""
    rule, steps = manifest.localization, manifest.plan.steps
    if (rule is None) != (manifest.task == "classification"):
        raise ValueError("a task and its rules do not agree")
    if rule is None:
        if any(step.snippets or step.after for step in steps):
            raise ValueError("snippets are for localization")
        return
    if manifest.schema_version < 3:
        raise ValueError("localization needs schema version 3")
    if len(steps) != 2 or steps[0].snippets is None or steps[1].after is None:
        raise ValueError("localization is an encoder of snippets and a head behind it")
    if rule.durations > rule.snippets:
        raise ValueError(f"no {rule.durations} durations in {rule.snippets} snippets")
    clock, arrivals = steps[0].snippets, steps[1].after
    if arrivals.count > rule.snippets:
        raise ValueError(f"the head would miss features: {arrivals.count} come between runs")
    if rule.snippets % arrivals.count:
        raise ValueError(f"no window of {rule.snippets} would begin with the stream")
    encoder, head = (manifest.graph(step.graph) for step in steps)
    steps_apart = encoder.frames == 1 and clock.hop < clock.frames
    if steps_apart or encoder.frames not in (1, clock.frames):
        raise ValueError(f"snippets of {clock.frames} frames do not suit {encoder.name!r}")
    for file in head.files:
        _check_head(file, rule, arrivals.feature, manifest)
    for file in encoder.files:
        if all(o.name != arrivals.feature or o.role != "feature" for o in file.outputs):
            raise ValueError(f"{file.path} gives no {arrivals.feature!r}")


def _check_head(file: ModelFile, rule: Localization, feature: str, manifest: Manifest) -> None:
    """Raise `ValueError` unless a head's file has the window and the scores."""
    window = [spec.window for spec in file.inputs if spec.feature == feature]
    if window != [rule.snippets]:
        raise ValueError(f"{file.path} does not take {rule.snippets} of {feature!r}")
    maps, curve = (1, rule.durations, rule.snippets), (1, rule.snippets)
    wanted = dict(zip(SCORES, (maps, maps, curve, curve), strict=True))
    wanted[manifest.plan.answer] = (1, rule.snippets, manifest.classes)
    shapes = {o.name: o.shape for o in file.outputs}
    for name, shape in wanted.items():
        if shapes.get(name) != shape:
            raise ValueError(f"{file.path} lacks {name!r} of shape {list(shape)}")
