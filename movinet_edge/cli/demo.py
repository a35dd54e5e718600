"""``make demo``: the whole road once, on this machine, with what it has.

Draws motion videos, exports the trained default checkpoint to ONNX and TFLite, verifies parity,
measures latency, classifies a clip and evaluates what was exported. Where real Kinetics-600
weights and clips are at hand (MOVINET_EDGE_SHARED) they are imported and used as well.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

DEFAULT = "motion-a0-stream"
SHOWN = "test/opening/00002.mp4"  # the first test video of a class
WEIGHTS = "data/weights/movinet_a0_stream_k600_int8.tflite"
LABELS = "data/labels/kinetics600.txt"
CLIP = "data/clips/mma_test.mp4"


def say(text: str) -> None:
    print(f"\n== {text}", flush=True)


def movinet_edge(*arguments: str | int | Path) -> None:
    """Run a command as a user would type it."""
    words = [str(a) for a in arguments]
    print(f"$ movinet-edge {' '.join(words)}", flush=True)
    subprocess.run([sys.executable, "-m", "movinet_edge", *words], check=True)


def main() -> None:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "out")
    out.mkdir(parents=True, exist_ok=True)
    shared = Path(os.environ.get("MOVINET_EDGE_SHARED", "../shared"))
    bundle, videos = out / "demo", out / "motion"
    say("1. data: videos whose classes only temporal order can tell")
    shutil.rmtree(videos, ignore_errors=True)
    # Another seed than the checkpoint was trained with: it has seen none of these.
    movinet_edge("data", "make", "motion", "--out", videos, "--per-class", 3, "--seed", 1)
    say("2. export: a trained checkpoint becomes a phone-ready bundle")
    movinet_edge("export", DEFAULT, "--out", bundle)
    say("3. verify: every artefact computes what the PyTorch model computes")
    movinet_edge("verify", bundle, "--video", videos / SHOWN, "--html", out / "report.html")
    say("4. bench: one thread, interleaved")
    movinet_edge("bench", bundle, "--json", out / "bench.json")
    say("5. run: a video, frame by frame")
    movinet_edge("run", bundle, videos / SHOWN)
    say("6. evaluate: the accuracy of what the phone will run")
    movinet_edge("evaluate", bundle, "--data", videos)
    if (shared / WEIGHTS).is_file():
        say("7. the same with real Kinetics-600 weights and a real clip")
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
