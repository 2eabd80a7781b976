"""The command line: `pilotage VERB …`. Exit codes: 0 done, 1 a run failed, 2 the command cannot work as given."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence

from pilotage import __version__
from pilotage.cli.console import Screen
from pilotage.core.errors import UsageError
from pilotage.core.names import nearest

VERBS = {
    "list": "the systems there are, with the verdicts on what their papers promise",
    "show": "one system: what it does, when to use it, what was measured",
    "run": "train one system",
    "compare": "train several on the same seeds and say which is better, and how sure that is",
    "reproduce": "measure what a paper promises",
    "report": "a run or a comparison as one HTML page",
    "play": "film a run's policy in its world",
    "do": "what else a system can do with a finished run",
    "export": "the policy of a run as a Hugging Face folder",
    "doctor": "what this machine has, what is missing and how to install it",
}
"""Verb to what it does; each is a module of this package that holds a `VERB`."""
MODULES = {"list": "listing"}
"""Verbs whose module cannot have their name: as an attribute of this package it would hide a builtin."""

DONE, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. `--debug` shows tracebacks."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        code = _dispatch(words)
        sys.stdout.flush()
        return code
    except UsageError as error:
        return _complain(str(error), MISUSED, debug)
    except KeyboardInterrupt:
        return _complain("interrupted; the same command goes on where it stopped", INTERRUPTED, debug)
    except BrokenPipeError:
        # Whoever read our output (head, less) has seen enough. Python must not flush into the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:
        hint = "" if debug else " (--debug shows the traceback)"
        return _complain(f"{type(error).__name__}: {error}{hint}", FAILED, debug)


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("--help", "-h", "help"):
        _overview(Screen())
        return DONE if words else MISUSED
    if words[0] == "--version":
        print(f"pilotage {__version__}")
        return DONE
    name = words.pop(0)
    if name not in VERBS:
        raise UsageError(f"there is no command {name!r}{nearest(name, VERBS)}; `pilotage --help` lists them")
    verb = importlib.import_module(f"pilotage.cli.{MODULES.get(name, name)}").VERB
    before_arms = words[: words.index("--")] if "--" in words else words
    if "--help" in before_arms or "-h" in before_arms:
        from pilotage.cli.help import show_help

        show_help(name, verb, [word for word in words if not word.startswith("-")], Screen())
        return DONE
    code: int = verb.main(words, Screen())
    return code


def _overview(screen: Screen) -> None:
    screen.line("usage: pilotage COMMAND …", style="bold")
    screen.heading("commands")
    screen.pairs([("  " + name, summary) for name, summary in VERBS.items()], style="cyan")
    screen.heading("for example")
    for line in (
        "pilotage compare grpo gtpo bnpo",
        "pilotage run grpo --task add --steps 100",
        "pilotage run grpo --help",
    ):
        screen.line("  " + line)
    screen.heading("everywhere")
    screen.pairs([("  --help", "what a command takes"), ("  --debug", "show the traceback of an error")])


def _complain(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    sys.stdout.flush()
    Screen(sys.stderr).line(f"pilotage: {message}", style="red")
    return code
