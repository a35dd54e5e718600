"""``make demo``: the whole road once, on this machine, with what it has.

Exports the default model to ONNX and TFLite, verifies parity, measures latency and classifies a
clip. Until a trained default ships with the project, the default's weights are seeded noise and
the clip is generated; where real Kinetics-600 weights and clips are at hand (MOVINET_EDGE_SHARED)
they are imported and used as well.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

DEFAULT = "movinet-a0-stream"
WEIGHTS = "data/weights/movinet_a0_stream_k600_int8.tflite"
LABELS = "data/labels/kinetics600.txt"
CLIP = "data/clips/mma_test.mp4"


def say(text: str) -> None:
    print(f"\n== {text}", flush=True)


def movinet_edge(*arguments: str | Path) -> None:
    """Run a command as a user would type it."""
    words = [str(a) for a in arguments]
    print(f"$ movinet-edge {' '.join(words)}", flush=True)
    code = "from movinet_edge.cli.main import main; main()"
    subprocess.run([sys.executable, "-c", code, *words], check=True)


def write_clip(path: Path, seconds: int = 8, fps: int = 25) -> None:
    """A generated mp4 of moving patterns."""
    import av

    from movinet_edge.pattern import moving_pattern

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 240, 180, "yuv420p"
        for image in moving_pattern(seconds * fps, 180, 240, seed=7):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def main() -> None:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "out")
    out.mkdir(parents=True, exist_ok=True)
    shared = Path(os.environ.get("MOVINET_EDGE_SHARED", "../shared"))
    bundle, clip = out / "demo", out / "demo.mp4"
    say("1. export: a checkpoint becomes a phone-ready bundle")
    print(f"(the default {DEFAULT} has seeded, untrained weights and the clip is generated)")
    write_clip(clip)
    movinet_edge("export", DEFAULT, "--out", bundle)
    say("2. verify: every artefact computes what the PyTorch model computes")
    movinet_edge("verify", bundle, "--video", clip, "--html", out / "report.html")
    say("3. bench: one thread, interleaved")
    movinet_edge("bench", bundle, "--json", out / "bench.json")
    say("4. run: a video, frame by frame")
    movinet_edge("run", bundle, clip)
    if (shared / WEIGHTS).is_file():
        say("5. the same with real Kinetics-600 weights and a real clip")
        checkpoint, real = out / "k600.safetensors", out / "k600"
        movinet_edge("import", shared / WEIGHTS, "--labels", shared / LABELS, "--out", checkpoint)
        movinet_edge("export", checkpoint, "--out", real)
        movinet_edge("run", real, shared / CLIP, "--save", out / "k600_answer.mp4")
    say("done")
    print(f"bundle: {bundle.resolve()}")
    print(f"report: {(out / 'report.html').resolve()}")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
