"""Output that is closed, that nobody reads, or that cannot hold every character: the work goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pilotage.cli import main

HERE = Path(__file__).resolve().parent
SHORT = """
import sys
from importlib.metadata import EntryPoint
sys.path.insert(0, {here!r})
from pilotage.core import registry
points = [EntryPoint("fake", "fake_systems:SYSTEM", "pilotage.systems")]
registry.entry_points = lambda group: points if group == "pilotage.systems" else []
from pilotage.cli import main
sys.exit(main())
"""


def shell(folder: Path, command: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a shell command in which `pilotage` is the command line with the fake system."""
    (folder / "short.py").write_text(SHORT.format(here=str(HERE)))
    paths = os.pathsep.join(path for path in sys.path if path)
    program = f'pilotage() {{ {sys.executable} {folder / "short.py"} "$@"; }}; '
    return subprocess.run(
        ["bash", "-c", program + command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        check=False,
    )


def test_a_run_goes_on_when_its_reader_has_gone(tmp_path: Path) -> None:
    done = shell(tmp_path, "pilotage run fake-pilot --out r 2>&1 | true; exit ${PIPESTATUS[0]}")
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "r" / "result.json").exists()


def test_a_run_with_closed_output_writes_its_files_and_nothing_into_them(tmp_path: Path) -> None:
    done = shell(tmp_path, "pilotage run fake-pilot --out r >&- 2>&- <&-")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert (tmp_path / "r" / "result.json").exists()
    assert (tmp_path / "r" / "metrics.jsonl").read_bytes() == b""


@pytest.mark.parametrize("where", [{"PYTHONIOENCODING": "latin-1"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_characters_that_the_output_lacks_are_escaped(tmp_path: Path, where: dict[str, str]) -> None:
    done = shell(tmp_path, "pilotage run 漢字 --überlong; pilotage --help", **where)
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
    assert b"\\u" in done.stderr


def test_output_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    done = shell(tmp_path, "pilotage --help > /dev/full")
    assert done.returncode == 1
    assert b"could not be written (No space left on device)" in done.stderr


def test_broken_characters_of_a_command_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "x\udcff\ud800"]) == 2
    assert "there is no" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["DefaultCPUAllocator: can't allocate memory", "CUDA out of memory. Tried"])
def test_too_little_memory_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    for error in (MemoryError(), RuntimeError(text)):

        def small(_: object, error: Exception = error) -> int:
            raise error

        monkeypatch.setattr("pilotage.cli._dispatch", small)
        assert main(["list"]) == 1
        assert "not enough memory" in capsys.readouterr().err


def test_an_interruption_that_is_repeated_ends_with_the_code_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("pilotage.cli._dispatch", interrupt)
    monkeypatch.setattr("pilotage.cli._complain", interrupt)
    assert main(["list"]) == 130
