"""What a training run leaves on disk: recipe, logs, the state to resume from, checkpoints.

``run.json``, ``log.csv`` (every few steps), ``epochs.csv``, ``tensorboard/``, ``state.pt`` (to
resume), ``last.safetensors`` and ``best.safetensors``. Every file but the growing logs is written
aside and renamed, so a kill or a full disk leaves the one before.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from movinet_edge.bundle import Record
from movinet_edge.checkpoints.native import Checkpoint, save_checkpoint
from movinet_edge.errors import BadInput
from movinet_edge.files import atomic_file, write_errors, write_text
from movinet_edge.train.recipe import Recipe

RUN, STATE, LAST, BEST = "run.json", "state.pt", "last.safetensors", "best.safetensors"
STEPS, EPOCHS = "log.csv", "epochs.csv"
FEATURES = "features"  # of a run that extracts them itself


class RunRecord(Record):
    """What a run was begun with: its recipe, and where the videos lay.

    Of localization `data` are annotations, and their videos or features in folders of their own.
    """

    recipe: Recipe
    data: str
    val: str | None = None
    videos: str | None = None
    features: str | None = None


class RunFolder:
    """The folder of one run.

    Raises:
        BadInput: from every method that writes, when the disk is full or the place is closed.
    """

    def __init__(self, path: Path):
        self.path = path
        self._writer: Any = None

    def check_new(self) -> None:
        """Raise `BadInput` if there is something at the place already.

        Features that a run extracted before it was killed may be.
        """
        there = self.path.exists() and not self.path.is_dir()
        if there or any(p.name != FEATURES for p in self._entries()):
            raise BadInput(
                f"{self.path} exists already; continue it with --resume or choose another --out"
            )

    def _entries(self) -> list[Path]:
        return list(self.path.iterdir()) if self.path.is_dir() else []

    def begin(self, record: RunRecord) -> None:
        """Make the folder of a new run."""
        write_text(self.path / RUN, record.model_dump_json(indent=1) + "\n")

    def record(self) -> RunRecord:
        """How the run was begun.

        Raises:
            BadInput: this is no run.
        """
        try:
            return RunRecord.model_validate_json((self.path / RUN).read_bytes())
        except OSError:
            raise BadInput(f"{self.path} is no training run; start one without --resume") from None
        except ValidationError:
            raise BadInput(f"{self.path / RUN} is damaged; start a new run") from None

    def state(self) -> dict[str, Any] | None:
        """What `save_state` stored; None when the run was stopped before its first save.

        Raises:
            BadInput: the file is damaged.
        """
        path = self.path / STATE
        if not path.exists():
            return None
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch.load raises what the damage happens to hit
            raise BadInput(f"{path} is damaged; start a new run from {LAST}") from error

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Replace the state to resume from."""
        path = self.path / STATE
        with atomic_file(path) as work:
            try:
                torch.save(dict(state), work)
            except (OSError, RuntimeError) as error:  # torch's own writer raises the latter
                kept = "; the state before is kept" if path.exists() else ""
                raise BadInput(
                    f"{path} was not written: is the disk full?{kept}; free some space and go on "
                    "with --resume"
                ) from error

    def save_checkpoint(self, checkpoint: Checkpoint, name: str) -> None:
        """Replace a checkpoint of the run."""
        save_checkpoint(checkpoint, self.path / name)

    def log(self, name: str, row: Mapping[str, float]) -> None:
        """Append a row to ``log.csv`` or ``epochs.csv`` and to TensorBoard.

        Both have a column `step`; TensorBoard shows the other columns over it.
        """
        path = self.path / name
        with write_errors(path):
            new = not path.exists() or not path.stat().st_size
            with path.open("a", newline="") as file:
                writer = csv.DictWriter(file, list(row))
                if new:
                    writer.writeheader()
                writer.writerow(
                    {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()}
                )
            board = self._board()
            for key, value in row.items():
                if key != "step":
                    board.add_scalar(f"{path.stem}/{key}", value, int(row["step"]))

    def forget_after(self, step: int, epochs: int) -> None:
        """Cut from the logs what a run resumed at `step`, after `epochs` epochs, does again."""
        for name, column, last in ((STEPS, "step", step), (EPOCHS, "epoch", epochs - 1)):
            path = self.path / name
            if not path.exists():
                continue
            # A kill may have left half a line.
            lines = [line for line in path.read_text("utf-8").splitlines(True) if line[-1] == "\n"]
            rows = list(csv.DictReader(lines))
            kept = [n for n, row in enumerate(rows, start=1) if int(row[column]) <= last]
            if not kept:
                path.unlink()
                continue
            write_text(path, "".join([lines[0], *(lines[n] for n in kept)]))
        self._board(purge_step=step + 1)

    def _board(self, purge_step: int | None = None) -> Any:
        """TensorBoard's writer; what an earlier one wrote from `purge_step` on is hidden."""
        if self._writer is None:
            from tensorboardX import SummaryWriter

            place = str(self.path / "tensorboard")
            self._writer = SummaryWriter(place, purge_step=purge_step, flush_secs=30)
        return self._writer

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
