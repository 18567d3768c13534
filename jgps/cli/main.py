"""The command line: `jgps list | train | evaluate | report | bench`.

Exit codes: 0 done; 2 a usage mistake, said in one line with the remedy; 1 anything else.
"""

import importlib.metadata
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from jgps.cli import commands
from jgps.cli.arguments import as_options
from jgps.cli.train import train
from jgps.core.names import unknown
from jgps.training import TrainingError, UsageError

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
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP, end="")
        return 0 if arguments else 2
    if arguments == ["--version"]:
        print(f"jgps {importlib.metadata.version('jgps')}")
        return 0
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            if arguments[0] not in COMMANDS:
                raise UsageError(unknown("command", arguments[0], COMMANDS))
            return COMMANDS[arguments[0]](arguments[1:]) or 0
    except UsageError as error:
        return _say(as_options(error), 2)
    except (TrainingError, OSError) as error:
        return _say(error, 1)
    except KeyboardInterrupt:
        return _say("interrupted", 1)


def _say(message: object, code: int) -> int:
    print(f"jgps: {' '.join(str(message).split())}", file=sys.stderr)
    return code


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"jgps: warning: {' '.join(str(message).split())}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
