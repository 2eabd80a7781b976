"""Functions that stand in no module: their names, their kept source, and their way to other processes."""

from __future__ import annotations

import functools
import linecache
import subprocess
import sys
import threading
from itertools import count
from typing import Any

import pytest

from pilotage.core.errors import UsageError
from pilotage.core.references import (
    dump_functions,
    function_name,
    function_source,
    load_function,
)
from pilotage.core.session_source import NotKept, session_source

_NUMBER = count()
CELL = """
import math
from math import sqrt as root

SCALE = 2.0

def twice(x):
    return SCALE * x

def signed(reward, *, margin=0.5):
    "Sum of a root and a margin."
    return root(twice(reward)) + margin + math.pi

class Shift:
    def __init__(self, by):
        self.by = by

    def __call__(self, reward):
        return reward + self.by + SCALE

plain = lambda reward: reward * SCALE
two = [lambda reward: reward + 1, lambda reward: reward + 2]
half = functools.partial(signed, margin=0.25)
shift = Shift(3)
method = shift.__call__

def make(by):
    def closed(reward):
        return reward * by
    return closed

closed = make(7)
"""


def run_cell(text: str, *, keeps_text: bool = True) -> dict[str, Any]:
    """Execute a text as a notebook does: in `__main__`, its lines in linecache under a name that is no file."""
    name = f"<cell {next(_NUMBER)}>"
    if keeps_text:
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    space: dict[str, Any] = {"__name__": "__main__", "functools": functools}
    exec(compile(text, name, "exec"), space)
    return space


@pytest.mark.parametrize("name", ["signed", "plain", "half", "shift", "method", "closed"])
def test_the_kept_source_gives_the_function_again(name):
    function = run_cell(CELL)[name]
    space: dict[str, Any] = {"__name__": "again"}
    exec(session_source(function, "again"), space)
    assert space["again"](8.0) == function(8.0)


def test_two_lambdas_of_one_line_are_told_apart():
    first, second = run_cell(CELL)["two"]
    assert "reward + 1" in session_source(first, "f")
    assert "reward + 2" in session_source(second, "f")


def test_equal_definitions_have_one_name_and_other_ones_another():
    names = {function_name(run_cell(CELL)["signed"]) for _ in range(2)}
    assert len(names) == 1
    assert next(iter(names)).startswith("session:signed_")
    assert function_name(run_cell(CELL.replace("SCALE = 2.0", "SCALE = 3.0"))["signed"]) not in names
    shifts = {function_name(run_cell(CELL)["Shift"](by)) for by in (1, 2)}
    assert len(shifts) == 2


def test_a_function_of_a_module_keeps_its_name():
    assert function_name(run_cell) == f"{__name__}:run_cell"


def test_text_that_changed_since_is_not_kept():
    space = run_cell("def f(x):\n    return x + 1\n")
    file = space["f"].__code__.co_filename
    linecache.cache[file] = (1, None, ["def f(x):\n", "    return x + 2\n"], file)
    with pytest.raises(NotKept, match="changed"):
        session_source(space["f"], "f")


@pytest.mark.parametrize(
    ("text", "reason"),
    [("def f(x):\n    return lock\n", "lock"), ("f = eval('lambda x: x')", "text")],
)
def test_what_cannot_be_written_down_is_said(text, reason):
    space = run_cell(text)
    space["lock"] = threading.Lock()
    reference = function_name(space["f"])
    assert load_function(reference) is space["f"]
    with pytest.raises(UsageError, match=reason):
        function_source(space["f"], reference)


def test_functions_travel_to_a_process_that_cannot_import_them():
    functions = run_cell(CELL, keeps_text=False)
    names = [function_name(functions[name]) for name in ("signed", "plain", "half", "shift", "closed")]
    script = (
        "import sys\nfrom pilotage.core.references import function_name, load_function, load_functions\n"
        "load_functions(sys.stdin.buffer.read())\n"
        "for name in sys.argv[1:]:\n    f = load_function(name)\n    assert function_name(f) == name\n    print(f(8.0))"
    )
    done = subprocess.run([sys.executable, "-c", script, *names], input=dump_functions(names), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    expected = [functions[name](8.0) for name in ("signed", "plain", "half", "shift", "closed")]
    assert [float(line) for line in done.stdout.split()] == expected


def test_what_cannot_travel_is_refused_with_the_remedy():
    space = run_cell("def f(x):\n    return lock\n")
    space["lock"] = threading.Lock()
    with pytest.raises(UsageError, match="into a file"):
        dump_functions([function_name(space["f"])])


def test_functions_of_nobody_send_nothing():
    assert dump_functions(["zscore", "json:loads"]) == b""


def test_the_name_of_a_session_that_is_over_is_explained():
    with pytest.raises(UsageError, match="session that is over"):
        load_function("session:gone_0123abcd")
