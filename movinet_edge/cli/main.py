"""``movinet-edge``: the commands, and how failures become exit codes.

Exit 0: done and holds; 1: a check did not hold; 2: wrong use or bad input.
"""

from __future__ import annotations

import signal
import sys

import typer
from typer.exceptions import TyperException

from movinet_edge import __version__
from movinet_edge.cli import (
    bench,
    data,
    devices,
    ensemble,
    evaluate,
    export,
    features,
    import_,
    inspect,
    models,
    report,
    run,
    sensitivity,
    train,
    verify,
)
from movinet_edge.errors import BadInput, CheckFailed

TRAINING = ("torchmetrics", "tensorboardX")  # what the extra [train] adds to [export]

app = typer.Typer(
    name="movinet-edge",
    help="Trained streaming video models become verified, timed, phone-ready step models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("models")(models.models)
app.command("import")(import_.import_)
app.command("export")(export.export)
app.command("ensemble")(ensemble.ensemble)
app.command("inspect")(inspect.inspect)
app.command("verify")(verify.verify)
app.command("bench")(bench.bench)
app.command("devices")(devices.devices)
app.command("report")(report.report)
app.command("run")(run.run)
app.add_typer(data.app, name="data")
app.command("train")(train.train)
app.command("features")(features.features)
app.command("evaluate")(evaluate.evaluate)
app.command("sensitivity")(sensitivity.sensitivity)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version.")) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def main() -> None:
    """The console script."""
    # As if interrupted: what is half-written goes, and so do processes that help.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        code = app(standalone_mode=False)
    except BadInput as error:
        code = fail(str(error), 2)
    except CheckFailed as error:
        code = fail(str(error), 1)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "movinet_edge"):
            raise
        needs = f"this command needs {package}, which is not installed"
        extra = "train" if package in TRAINING else "export"
        code = fail(f"{needs}; pip install 'movinet-edge[{extra}]'", 2)
    except TyperException as error:
        message = error.format_message()  # empty when a command without arguments prints its help
        code = fail(f"{message} (see movinet-edge --help)", 2) if message else 2
    except typer.Exit as error:
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except SystemExit as error:  # how click and rich leave when the reader of our output is gone
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        code = 0
    sys.exit(code or 0)


def fail(message: str, code: int) -> int:
    """Print one sentence to stderr."""
    print(f"error: {message}", file=sys.stderr)
    return code
