"""How the outputs of a streaming model feed its inputs, found from the names alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import chain

import numpy as np

from movinet_edge.bundle import Record
from movinet_edge.errors import BadInput

# What converters and authors put around a state's name. Taken off until nothing more comes off.
PREFIXES = ("serving_default_", "new_", "next_", "old_", "prev_", "in_", "out_")
MARKS = ("new", "next", "old", "prev", "in", "out", "input", "output")
SUFFIXES = (":0", *(f"{joint}{mark}" for mark in MARKS for joint in "_."))


class Tensor(Record):
    """An input or output: its name in the signature, shape, numpy dtype, and stored zero."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    zero: int = 0

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


class Wiring(Record):
    """`states` pairs each state's input with the output that is its next value."""

    frame: Tensor
    states: tuple[tuple[Tensor, Tensor], ...]
    answers: tuple[Tensor, ...]

    @property
    def nbytes(self) -> int:
        """What a step reads and writes."""
        return sum(t.nbytes for t in (self.frame, *self.answers, *chain(*self.states)))

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the frame, in pixels."""
        size = frame_size(self.frame)
        assert size is not None
        return size


def bare_name(name: str) -> str:
    """A name without its decorations: ``serving_default_pool_out:0`` -> ``pool``."""
    while True:
        shorter = name
        for prefix in PREFIXES:
            shorter = shorter.removeprefix(prefix) or shorter
        for suffix in SUFFIXES:
            shorter = shorter.removesuffix(suffix) or shorter
        if shorter == name:
            return name
        name = shorter


def wire(inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> Wiring:
    """Pair states by equal names, then by equal bare names; what is left is frame and answers.

    Raises:
        BadInput: an input is neither the frame nor fed by an output; a state's two ends differ;
            there is no frame, or no answer.
    """
    pairs = _pairs(inputs, outputs)
    fed = {name for name, _ in pairs}
    used = {name for _, name in pairs}
    left = [t for t in inputs if t.name not in fed]
    answers = [t for t in outputs if t.name not in used]
    frames = [t for t in left if frame_size(t) is not None]
    unmatched = [t.name for t in left if len(frames) != 1 or t is not frames[0]]
    if unmatched:
        raise BadInput(
            "no output carries the next value of the inputs "
            f"{', '.join(sorted(unmatched))}; rename the states so that both ends match"
        )
    if not frames or not answers:
        missing = "frame input (float, 3 channels, one image)" if not frames else "answer output"
        raise BadInput(f"the model has no {missing} beside its states")
    by_input, by_output = {t.name: t for t in inputs}, {t.name: t for t in outputs}
    states = tuple((by_input[a], by_output[b]) for a, b in pairs)
    for before, after in states:
        if (before.shape, before.dtype) != (after.shape, after.dtype):
            raise BadInput(
                f"state {before.name!r} goes in as {before.dtype} {list(before.shape)} and comes "
                f"out of {after.name!r} as {after.dtype} {list(after.shape)}"
            )
    return Wiring(frame=frames[0], states=states, answers=tuple(answers))


def frame_size(tensor: Tensor) -> tuple[int, int] | None:
    """Height and width if this can be one RGB image in [0, 1], channels first or last."""
    shape = tensor.shape
    if len(shape) not in (4, 5) or not tensor.dtype.startswith("float"):
        return None
    leading = len(shape) - 3  # batch, and time in rank 5
    if shape[-1] == 3 and all(n == 1 for n in shape[:leading]):
        return shape[-3], shape[-2]
    rest = shape[:-2]
    if sorted(rest) == [1] * leading + [3]:
        return shape[-2], shape[-1]
    return None


def _pairs(inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> list[tuple[str, str]]:
    """Names of a state's input and output, in the order of the inputs."""
    exact = {t.name for t in outputs} & {t.name for t in inputs}
    ins = _unique_bare([t.name for t in inputs if t.name not in exact])
    outs = _unique_bare([t.name for t in outputs if t.name not in exact])
    found = {name: name for name in exact}
    found |= {ins[bare]: outs[bare] for bare in ins.keys() & outs.keys()}
    return [(t.name, found[t.name]) for t in inputs if t.name in found]


def _unique_bare(names: Sequence[str]) -> dict[str, str]:
    """Bare name -> name; names that become the same are left out, for they say nothing."""
    counts = Counter(bare_name(name) for name in names)
    return {bare_name(name): name for name in names if counts[bare_name(name)] == 1}
