"""The progress line: clean when piped, live on a terminal, silent when asked."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys

import pytest

from pilotage.runs.progress import Progress


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_piped_lines_come_with_each_tenth_and_each_period_and_at_the_end() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress(100, "grpo", every=30, stream=stream, clock=clock) as progress:
        for step in range(1, 16):
            clock.now += 2
            progress.advance(step, reward=0.25, state="ok")
        clock.now += 30
        progress.advance(16)
    lines = stream.getvalue().splitlines()
    assert [line.split()[2] for line in lines] == ["10/100", "16/100"]
    assert lines[0] == "grpo: step 10/100 (10 %)  2.0 s/step  3 min 00 s left  reward 0.25  state ok"
    assert "\x1b" not in stream.getvalue()


def test_rate_counts_only_the_steps_of_this_process() -> None:
    clock = Clock()
    progress = Progress(100, "x", start=50, stream=io.StringIO(), clock=clock)
    assert progress.left is None
    clock.now = 5
    progress.advance(60)
    assert progress.rate == 2
    assert progress.left == 20


@pytest.mark.parametrize("total", [0, 3])
def test_short_work_ends_with_one_line_said_once(total: int) -> None:
    stream = io.StringIO()
    with Progress(total, "x", stream=stream) as progress:
        for step in range(1, total + 1):
            progress.advance(step)
    assert stream.getvalue().count(f"{total}/{total}") == 1


def test_quiet_says_nothing() -> None:
    stream = io.StringIO()
    with Progress(2, "x", stream=stream, quiet=True, every=0) as progress:
        progress.advance(2)
    assert stream.getvalue() == ""


def test_on_a_terminal_a_live_line_is_drawn() -> None:
    ours, theirs = pty.openpty()
    code = (
        "from pilotage.runs.progress import Progress\n"
        "with Progress(4, 'grpo [x]') as p:\n"
        "    for i in range(1, 5): p.advance(i, reward=.5)\n"
        "import sys; assert 'torch' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path), "TERM": "xterm", "COLUMNS": "120"}
    done = subprocess.run([sys.executable, "-c", code], stderr=theirs, stdout=subprocess.PIPE, env=environment)
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert done.returncode == 0, shown
    assert done.stdout == b""
    assert "4/4" in shown
    assert "grpo [x]" in shown
    assert "reward 0.5" in shown
    assert "\x1b[" in shown
