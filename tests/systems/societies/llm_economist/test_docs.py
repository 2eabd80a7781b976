"""The page on tax design runs as it is written."""

from __future__ import annotations

import re
import shlex
import warnings

import pytest
from tests.conftest import ROOT

from pilotage.cli.actions import action_named, options_of
from pilotage.core.configuration import configure, read_options
from pilotage.core.registry import find_system

PAGE = (ROOT / "docs/tax-design.md").read_text(encoding="utf-8")
SYSTEM = find_system("llm-economist")
OWN = {"--out", "--from", "--dry-run", "--seeds"}


def commands() -> list[list[str]]:
    """Every command of the page, options that are not the system's own left out."""
    found = re.findall(r"^pilotage (?:run|do) .*$", PAGE, re.MULTILINE)
    return [shlex.split(line)[1:] for line in found]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_can_be_given(words: list[str]) -> None:
    verb, name, *rest = words
    assert name == "llm-economist"
    if verb == "run":
        kept = [w for i, w in enumerate(rest) if w not in OWN and (not i or rest[i - 1] != "--out")]
        configure(SYSTEM, kept)
        return
    action, at = action_named(SYSTEM, rest[0]), rest.index("--from")
    read_options(options_of(action, rest[0]), [*rest[1:at], *rest[at + 2 :]], rest[0])


def test_options_in_the_table_exist() -> None:
    for options in re.findall(r"\| `(--[^`]+)` \|", PAGE):
        configure(SYSTEM, shlex.split(options))


def test_the_python_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exec(compile(block, "docs/tax-design.md", "exec"), {})
    assert re.fullmatch(r"\d\d\.\d% of the optimum at \d\d hours\n", capsys.readouterr().out)
