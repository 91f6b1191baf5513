"""The command line: ``distvi COMMAND``; one thin file a command.

Exit status: 0 done, 1 the run failed, 2 the user's input was wrong, 128 + N stopped by signal N
(130 for Ctrl-C; a checkpoint was written). Errors take one line on standard error.
"""

import os
import signal
import sys
import warnings
from collections.abc import Sequence

from cyclopts import App, CycloptsError, Parameter, UnknownOptionError

from distvi import __version__
from distvi.errors import DistviError
from distvi.system.compilation_cache import keep_compiled
from distvi.system.precision import FLOAT32
from distvi.system.streams import open_standard_streams

app = App(
    name="distvi",
    version=__version__,
    suppress_keyboard_interrupt=False,  # which signal it was decides the exit status
    default_parameter=Parameter(
        negative=(), allow_repeating=True
    ),  # scripts and aliases: the last wins
    help="Distributed stochastic variational inference of Bayesian deep models.",
)
COMMANDS = {
    "train": "Train a model on a data set and write a run folder.",
    "resume": "Go on with a run that was stopped, bit for bit as if it had not been.",
    "evaluate": "Print the test metrics of a run.",
    "predict": """Write predictions with their uncertainty for a table of inputs.

    Regression and counts: mean, sd and quantiles of each target. Classification: the predicted
    class and the probability of each.
    """,
    "simulate": "Time schemes on a simulated cluster, without gradients, and write tables and "
    "pictures.",
    "calibrate": """\
Measure this machine for a minute and write what a simulated cluster like it costs.

    Engine local trains in turns with three batch sizes around the given one, with one worker alone
    and with another number of servers. The file is for `distvi train --engine simulated --cluster
    FILE` and `distvi simulate`.
    """,
    "study": "Train many settings, and report what they do to time and error.",
    "data": "List, describe, download and augment data sets.",
}
"""What each is for. ``distvi --help`` says it without importing any: JAX takes seconds."""

for _name, _purpose in COMMANDS.items():
    _is_group = _name in ("study", "data")
    _where = f"distvi.cli.{_name}:{'app' if _is_group else _name}"
    app.command(_where, name=_name, help=_purpose, sort_key=list(COMMANDS).index(_name))

for _flag, _where, _purpose in (
    ("--help-model", "model_help:print_model_settings", "List the settings of the models."),
    ("--help-schemes", "scheme_help:print_schemes", "List the schemes and their options."),
    ("--help-rules", "rule_help:print_rules", "List the rules and their options."),
):
    app.command(f"distvi.cli.{_where}", name=_flag, help=_purpose, sort_key=len(COMMANDS))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with its status."""
    open_standard_streams()
    warnings.showwarning = warn
    os.environ.update(FLOAT32)  # before JAX is imported
    keep_compiled()
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run a command; errors that are the user's to mend are told in one line."""
    try:
        app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        return complain(explain(error), 2)
    except DistviError as error:
        return complain(str(error), error.exit_status)
    except KeyboardInterrupt as error:
        return complain(str(error) or "interrupted", 128 + getattr(error, "signum", 2))
    except BrokenPipeError:  # the reader has gone, as in: distvi evaluate RUN --json | head -1
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # silent at exit, too
        return 128 + signal.SIGPIPE
    return 0


def warn(message: Warning | str, *where: object) -> None:
    """Say what went wrong while a command goes on, in one line."""
    print(f"distvi: warning: {' '.join(str(message).split())}", file=sys.stderr)


def complain(message: str, status: int) -> int:
    """Say what was wrong, in one line, and give the exit status back."""
    print(f"distvi: error: {' '.join(message.split())}", file=sys.stderr)
    return status


def explain(error: CycloptsError) -> str:
    """What was wrong with the command line."""
    from pydantic import ValidationError

    from distvi.cli.options import option
    from distvi.config.old_keys import renamed
    from distvi.system.settings import complaint

    cause = error.__cause__
    if isinstance(cause, ValidationError):
        return complaint(cause, spell=option)
    if isinstance(error, UnknownOptionError) and error.token.keyword:
        typed = error.token.keyword
        if new := renamed(typed.removeprefix("--").replace("-", "_")):
            return f"Unknown option: {typed}. Did you mean {option(new)}?"
    return str(error)
