"""Run bundles: numpy and one engine, never torch.

from movinet_edge.runtime import Stream

with Stream("bundle", backend="litert") as stream:
    prediction = stream.step(frame)  # RGB [H, W, 3], uint8 or float32 in 0..1
    print(prediction.top(5))
"""

from movinet_edge.runtime.stream import Prediction, Score, Stream

__all__ = ["Prediction", "Score", "Stream"]
