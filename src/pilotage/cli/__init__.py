"""The command line: `pilotage COMMAND …`. Exit codes: 0 done, 1 a run failed, 2 the command cannot work as given."""

from __future__ import annotations

import importlib
import re
import sys
import traceback
import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import IO, cast

from pilotage import __version__
from pilotage.cli.console import Console, Screen, open_closed_streams
from pilotage.core.atomic_io import disk_errors
from pilotage.core.errors import UsageError
from pilotage.core.names import nearest

COMMANDS = {
    "list": "list the systems and the verdicts on the claims of their papers",
    "show": "show one system: what it does, when to use it, what was measured",
    "pieces": "list the pieces of which methods are made, by slot",
    "run": "train one system",
    "compare": "train several systems on the same seeds and say which is better, with a confidence interval",
    "reproduce": "measure the claims of a paper",
    "report": "write a run or a comparison as one HTML page",
    "play": "record videos of a run's policy in its environment",
    "do": "run an action of a system on a finished run",
    "export": "write the policy of a run as a Hugging Face folder",
    "clean": "list stored jobs and artifacts with their sizes, and remove old ones",
    "doctor": "check this machine, and name what is missing and how to install it",
}
"""Command to what it does; each is a module of this package that holds a `COMMAND`."""
MODULES = {"list": "listing", "do": "actions"}
"""Commands whose module has another name: as attributes of this package, theirs would hide a builtin or a keyword."""

_OUT_OF_MEMORY = re.compile("out of memory|(can't|not enough|cannot) allocate memory", re.IGNORECASE)
_NO_MEMORY = (
    "there is not enough memory; what was saved is untouched. Give the process more (`ulimit -v`), or take smaller "
    "batches or a smaller model"
)
DONE, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: the words after `pilotage`; None: those of the process. `--debug` shows tracebacks.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    if not debug:
        warnings.formatwarning = _plain_warning
    words = [word for word in words if word != "--debug"]
    open_closed_streams()
    screen, errors = Screen(sys.stdout), Screen(sys.stderr)
    with redirect_stdout(cast("IO[str]", screen)), redirect_stderr(cast("IO[str]", errors)):
        code = _run(words, debug)
        screen.flush()
        if code == DONE and screen.error is not None and not isinstance(screen.error, BrokenPipeError):
            return _complain(f"the output could not be written ({screen.error.strerror})", FAILED, debug)
        return code


def _run(words: list[str], debug: bool) -> int:
    """Run one command and return its exit code; errors become one sentence."""
    try:
        with disk_errors(Path()):
            return _dispatch(words)
    except UsageError as error:
        return _complain(str(error), MISUSED, debug)
    except KeyboardInterrupt:
        with suppress(KeyboardInterrupt):  # pressed again meanwhile
            _complain("interrupted; the same command goes on where it stopped", INTERRUPTED, debug)
        return INTERRUPTED
    except MemoryError:
        return _complain(_NO_MEMORY, FAILED, debug)
    except Exception as error:
        if isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error)):
            return _complain(_NO_MEMORY, FAILED, debug)
        hint = "" if debug else " (--debug shows the traceback)"
        return _complain(f"{type(error).__name__}: {error}{hint}", FAILED, debug)


def _plain_warning(message: Warning | str, *_: object, **__: object) -> str:
    """Return a warning as one line, without the path of the library that gave it."""
    return f"warning: {message}\n"


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        _overview(Console())
        return DONE if arguments else MISUSED
    if arguments[0] == "--version":
        print(f"pilotage {__version__}")
        return DONE
    name, *arguments = arguments
    if name not in COMMANDS:
        raise UsageError(f"there is no command {name!r}{nearest(name, COMMANDS)}; `pilotage --help` lists them")
    command = importlib.import_module(f"pilotage.cli.{MODULES.get(name, name)}").COMMAND
    before_arms = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if "--help" in before_arms or "-h" in before_arms:
        from pilotage.cli.help import show_help

        show_help(name, command, [word for word in before_arms if word not in ("--help", "-h")], Console())
        return DONE
    code: int = command.main(arguments, Console())
    return code


def _overview(console: Console) -> None:
    console.line("usage: pilotage COMMAND …", style="bold")
    console.heading("commands")
    console.pairs([("  " + name, summary) for name, summary in COMMANDS.items()], style="cyan")
    console.heading("for example")
    for line in (
        "pilotage compare grpo gtpo bnpo",
        "pilotage run grpo --task add --steps 100",
        "pilotage run grpo --help",
    ):
        console.line("  " + line)
    console.heading("options of every command")
    console.pairs([("  --help", "show what a command takes"), ("  --debug", "show the traceback of an error")])


def _complain(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    sys.stdout.flush()
    Console(sys.stderr).line(f"pilotage: {message}", style="red")
    return code
