"""Step modules to TFLite with litert-torch; TensorFlow is not needed."""

from __future__ import annotations

import zipfile
from pathlib import Path

import torch

from movinet_edge.export.step_module import StepModule
from movinet_edge.runtime.quiet import quiet


def to_litert(step: StepModule, path: Path, attachments: dict[str, str]) -> None:
    """Write `step` (NHWC states) to `path`.

    `attachments` (name -> text) are appended as a zip archive, as TFLite metadata does: engines
    ignore what follows the model, and any unzip program lists it.
    """
    with quiet():
        import litert_torch

        litert_torch.config.show_progress = False
        # The greedy partitioner is what leaves no TRANSPOSE behind.
        litert_torch.config.layout_optimize_partitioner = "GREEDY"
        with torch.no_grad():
            litert_torch.convert(step.eval(), sample_kwargs=step.sample()).export(str(path))
    with zipfile.ZipFile(path, "a") as archive:
        for name, text in attachments.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), text)
