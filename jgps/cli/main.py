"""The command line: `jgps list | train | evaluate | report | bench`.

Exit codes: 0 done; 2 a usage mistake, said in one line with the remedy; 130 Ctrl-C; 143 SIGTERM;
1 anything else.
"""

import contextlib
import errno
import importlib.metadata
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jgps.cli import commands
from jgps.cli.arguments import as_options
from jgps.cli.machine import check_platform
from jgps.cli.train import train
from jgps.core.names import unknown
from jgps.training import TrainingError, UsageError
from jgps.training.errors import Terminated
from jgps.training.files import FULL

HELP = """usage: jgps COMMAND ...

  list                 tasks, algorithms, and the backends that work on this machine
  train TASK           trains with live progress, then evaluates, draws figures and a video
  evaluate DIR         success on training, on unseen and (if any) on distracted conditions
  report DIR [DIR ...] figures and a video of one run, or several runs side by side
  bench [SUITE]        speed on this machine

  -h, --help           this text; `jgps COMMAND --help` has every option
  --version            the version of jgps
"""
COMMANDS: dict[str, Callable[[list[str]], int | None]] = {
    "list": commands.list_all,
    "train": train,
    "evaluate": commands.evaluate,
    "report": commands.report,
    "bench": commands.bench,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with _some_output(), warnings.catch_warnings():
            warnings.showwarning = _show_warning
            code = _run(arguments)
            sys.stdout.flush()  # what cannot be written is said here, not at exit
        return code
    except UsageError as error:
        return _say(as_options(error), 2)
    except TrainingError as error:
        return _say(as_options(error), 1)
    except BrokenPipeError:  # whoever read the output has gone, as `head` does
        return _give_up_output(1)
    except OSError as error:
        if error.filename is None and error.errno in (*FULL, errno.EIO):
            return _give_up_output(_say(_describe(error, "output"), 1))
        return _say(_describe(error, str(error.filename or "this")), 1)
    except KeyboardInterrupt as error:
        return _say(error.args[0] if error.args else "interrupted", 128 + signal.SIGINT)
    except Terminated as error:
        return _say(error.text, error.code)


@contextlib.contextmanager
def _some_output() -> Iterator[None]:
    """Puts the output that was closed by whoever started this process nowhere."""
    if sys.stdout is not None:
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def _run(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP, end="")
        return 0 if arguments else 2
    if list(arguments) == ["--version"]:
        print(f"jgps {importlib.metadata.version('jgps')}")
        return 0
    if arguments[0] not in COMMANDS:
        raise UsageError(unknown("command", arguments[0], COMMANDS))
    if not {"-h", "--help"} & set(arguments):
        check_platform()
    return COMMANDS[arguments[0]](list(arguments[1:])) or 0


def _describe(error: OSError, what: str) -> str:
    """What the system said of a file or of the output, with what to do."""
    reason = error.strerror or str(error) or type(error).__name__
    remedy = "make room there" if error.errno in FULL else "see to it that this user may"
    return f"{what} cannot be read or written ({reason}); {remedy} and try again"


def _give_up_output(code: int) -> int:
    """Keeps Python from writing at exit what could not be written before, with a traceback."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError, ValueError):  # it is no file, as in a notebook
        os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    return code


def _say(message: object, code: int) -> int:
    print(f"jgps: {' '.join(str(message).split())}", file=sys.stderr)
    return code


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"jgps: warning: {' '.join(as_options(message).split())}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
