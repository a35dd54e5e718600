"""The number formats of model files: what each needs, and how far it may be from float32."""

from __future__ import annotations

from dataclasses import dataclass

from movinet_edge.bundle import Precision, Threshold


@dataclass(frozen=True)
class Format:
    """A precision: `about` in a few words, and its limits for streams and for whole clips.

    `calibrated`: activations are integers, whose ranges come from videos.
    """

    about: str
    stream: Threshold
    clip: Threshold | None
    calibrated: bool = False


def _limits(error: float, cosine: float, agreement: float) -> Threshold:
    return Threshold(max_error=error, min_cosine=cosine, min_top1_agreement=agreement)


# Errors are relative to the standard deviation of the reference's logits. A clip's are larger
# where its means over time are matrix products. What fewer bits change is a matter of the weights
# (fp16 of an untrained A2: 0.02, of trained ones 0.001): these limits catch what is broken,
# accuracy is `evaluate`'s to tell.
PRECISIONS: dict[Precision, Format] = {
    "fp32": Format("floats", _limits(1e-4, 0.999999, 1.0), _limits(1e-3, 0.99999, 1.0)),
    "fp16": Format(
        "weights in 16 bits, computation in floats",
        _limits(0.03, 0.9999, 0.98),
        _limits(0.03, 0.9999, 0.98),
    ),
    "int8-weights": Format(
        "weights in 8 bits, computation in floats",
        _limits(0.5, 0.99, 0.9),
        _limits(0.5, 0.99, 0.9),
    ),
    "dynamic": Format(
        "dense layers in 8 bits, the rest in floats",
        _limits(0.3, 0.995, 0.9),
        _limits(0.3, 0.995, 0.9),
    ),
    "int8": Format(
        "weights and activations in 8 bits", _limits(1.5, 0.9, 0.75), None, calibrated=True
    ),
}
