"""What a run notes about the machine, and that looking does not cost torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pilotage.core.errors import UsageError
from pilotage.runs import hardware


def test_progress_and_hardware_load_without_torch() -> None:
    code = (
        "import sys, pilotage.runs, pilotage.runs.hardware as h\n"
        "from pilotage.runs import Progress\nfrom pilotage.core.errors import RunError\n"
        "assert h.processor_features() is not None and h.versions()['torch'] and h.usable_cores() >= 1\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


def test_numerics_say_threads_kernels_and_precision() -> None:
    found = hardware.numerics("float32")
    assert found["threads"] == torch.get_num_threads()
    assert found["kernels"] == torch.backends.cpu.get_cpu_capability()
    assert found["precision"] == "float32"
    assert hardware.numerics("float32", threads=3)["threads"] == 3
    if not torch.cuda.is_available():  # a finished run of a GPU is opened to be read
        assert hardware.numerics("float32", device="cuda")["device"] == "cuda"


def test_auto_is_bfloat16_only_where_the_processor_multiplies_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for features, expected in ((["avx2", "amx_bf16"], "bfloat16"), (["avx512_bf16"], "float32")):
        monkeypatch.setattr(hardware, "processor_features", lambda features=features: features)
        assert hardware.resolve_precision("auto") == expected
    with pytest.raises(UsageError, match="float8"):
        hardware.resolve_precision("float8")


def test_a_device_that_is_not_there_is_refused_with_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hardware.check_device("cpu") == "cpu"
    for wrong in ("gpu", "cuda:x", "meta", ""):
        with pytest.raises(UsageError, match="is not known; give cpu, cuda"):
            hardware.check_device(wrong)
    for count in (0, 2):
        monkeypatch.setattr(torch.cuda, "is_available", lambda count=count: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
        if count:
            assert hardware.check_device("cuda") == "cuda"
            assert hardware.check_device("cuda:1") == "cuda:1"
        with pytest.raises(
            UsageError, match="the GPUs here are cuda:0 to cuda:1" if count else "no GPU here; .*--device"
        ):
            hardware.check_device("cuda:2")


def test_commit_tells_changes_and_absence(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        identity = ("-c", "user.name=n", "-c", "user.email=e@x")
        subprocess.run(["git", "-C", str(tmp_path), *identity, *words], check=True, capture_output=True)

    assert hardware.commit(tmp_path) is None
    git("init")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-m", "one")
    clean = hardware.commit(tmp_path)
    assert clean
    assert len(clean) == 40
    (tmp_path / "a").write_text("2")
    assert hardware.commit(tmp_path) == f"{clean}-dirty"


def test_the_commit_is_dirty_by_code_not_by_what_reproductions_wrote(tmp_path: Path) -> None:
    assert hardware.commit(tmp_path) is None

    def git(*words: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True)

    (tmp_path / "results").mkdir()
    for name in ("code.py", "results/a.json"):
        (tmp_path / name).write_text("1")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    clean = hardware.commit(tmp_path)
    assert clean is not None
    assert len(clean) == 40
    (tmp_path / "results" / "a.json").write_text("2")
    assert hardware.commit(tmp_path) == clean
    (tmp_path / "code.py").write_text("2")
    assert hardware.commit(tmp_path) == f"{clean}-dirty"


def test_the_commit_of_a_foreign_folder_is_read_without_running_its_programs(tmp_path: Path) -> None:
    repository, ran = tmp_path / "theirs", tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho $0 >> {ran}\ncat\n")
    program.chmod(0o755)

    def git(*words: str) -> None:
        person = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(["git", "-C", str(repository), *person, *words], check=True, capture_output=True)

    repository.mkdir()
    git("init")
    (repository / ".gitattributes").write_text("* filter=theirs\n")
    (repository / "file").write_text("1")
    git("add", ".")
    git("commit", "-m", "x")
    git("config", "core.fsmonitor", str(program))
    git("config", "filter.theirs.clean", str(program))
    git("config", "filter.theirs.required", "true")
    (repository / ".git" / "hooks" / "post-index-change").write_text(program.read_text())
    (repository / ".git" / "hooks" / "post-index-change").chmod(0o755)
    (repository / "file").write_text("2")
    found = hardware.commit(repository)
    assert found is not None
    assert found.endswith("-dirty")
    assert not ran.exists()
    (repository / "file").write_text("1")
    assert hardware.commit(repository) == found.removesuffix("-dirty")
