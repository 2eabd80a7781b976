"""Files that a run reads: their hashes stand in run.json, and a resumed run notices another content."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pilotage.core.errors import UsageError
from pilotage.runs import Manifest, Run, inputs
from pilotage.runs.inputs import input_hash


def create(directory: Path, data: Path) -> Run:
    return Run.create(directory, system="toy", config={"data": str(data)}, seed=1, inputs={"data": data})


def test_a_run_does_not_go_on_with_another_data_file_and_names_both_hashes(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("1\n")
    with create(tmp_path / "r", data) as run:
        run.log(1, {"loss": 1})
    before = Manifest.read(tmp_path / "r").inputs["data"]
    os.utime(data, (1, 1))
    create(tmp_path / "r", data).close()
    data.write_text("2\n")
    for again in (lambda: create(tmp_path / "r", data), lambda: Run.open(tmp_path / "r")):
        with pytest.raises(UsageError, match="--data") as caught:
            again()
        assert before in str(caught.value)
        assert input_hash(data, "--data") in str(caught.value)
    data.unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        Run.open(tmp_path / "r")
    data.write_text("1\n")
    with create(tmp_path / "r", data) as run:
        run.finish({})
    data.write_text("2\n")
    Run.open(tmp_path / "r").close()  # reading what a finished run did needs no data


def test_a_folder_counts_by_names_and_contents(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "a").write_text("1")
    (folder / "sub" / "b").write_text("2")
    first = input_hash(folder, "--data")
    os.utime(folder / "a", (1, 1))
    (folder / "a").chmod(0o600)
    assert input_hash(folder, "--data") == first
    (folder / "a").rename(folder / "c")
    renamed = input_hash(folder, "--data")
    (folder / "sub" / "b").write_text("3")
    assert len({first, renamed, input_hash(folder, "--data")}) == 3


def test_links_to_files_count_by_their_content_and_loops_end(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (tmp_path / "blob").write_text("1")
    (folder / "file").symlink_to(tmp_path / "blob")
    (folder / "loop").symlink_to(folder)
    (folder / "dangling").symlink_to(tmp_path / "nowhere")
    os.mkfifo(folder / "pipe")
    first = input_hash(folder, "--data")
    (tmp_path / "blob").write_text("2")
    assert input_hash(folder, "--data") != first


def test_beyond_the_limit_size_and_both_ends_of_a_file_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "WHOLE", 10)
    monkeypatch.setattr(inputs, "_END", 4)
    (tmp_path / "d").mkdir()
    hashes = []
    for text in ("aaaa-middle-zzzz", "baaa-middle-zzzz", "aaaa-middle-zzzy", "aaaa-middle2-zzzz"):
        (tmp_path / "d" / "large").write_text(text)
        hashes.append(input_hash(tmp_path / "d", "--data"))
    assert len(set(hashes)) == 4


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="--data: .* is a pipe"):
        create(tmp_path / "r", tmp_path / "pipe")
