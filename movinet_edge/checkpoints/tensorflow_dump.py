"""Child process: the variables of a TensorFlow checkpoint as an .npz file.

TensorFlow has a process of its own because it and triton, which CUDA builds of torch load when
they export, crash in one. Run as ``python -m movinet_edge.checkpoints.tensorflow_dump PREFIX OUT``;
it ends with `UNREADABLE` where the checkpoint is at fault.
"""

from __future__ import annotations

import os
import sys

import numpy as np

UNREADABLE = 3  # the exit code where the file is at fault
VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


def main(prefix: str, out: str) -> int:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    try:
        reader = tf.train.load_checkpoint(prefix)
        names = [name for name in reader.get_variable_to_shape_map() if is_weight(name)]
        values = {name.removesuffix(VALUE): reader.get_tensor(name) for name in names}
    except (ValueError, RuntimeError, tf.errors.OpError):
        return UNREADABLE
    # Names hold slashes, which archives of arrays do not keep: a list beside numbered arrays.
    arrays = {f"v{number}": value for number, value in enumerate(values.values())}
    np.savez(out, names=np.array(list(values)), **arrays)
    return 0


def is_weight(name: str) -> bool:
    """Not a slot variable of the optimiser, not its counters."""
    return "layer_with_weights-" in name and ".OPTIMIZER_SLOT" not in name and name.endswith(VALUE)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
