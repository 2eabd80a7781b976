"""`pilotage doctor`: what this machine has, what is missing, and the line that installs it."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution, requires, version
from pathlib import Path

from pilotage.cli.arguments import Command, NoOptions, exactly, split
from pilotage.cli.console import Console
from pilotage.core.paths import home

Check = tuple[str, str, str]
"""The thing that was checked, its state (ok, missing, failed) and a detail or a remedy."""

LEAST_DISK = 2.0
"""Free space, in GB, below which a run may not find room for its checkpoints."""
LIBRARIES = (
    (
        "opencv-python",
        "libGL.so.1",
        "gym-pusht imports opencv-python, which loads it",
        "libgl1 libglib2.0-0",
    ),
    (
        "mujoco",
        "libEGL.so.1",
        "MuJoCo renders without a screen through it (MUJOCO_GL=egl)",
        "libegl1 libegl-mesa0 libgl1-mesa-dri",
    ),
)
"""Package, library of the operating system, what for, and what Debian's apt-get installs."""
DEVELOPERS_ONLY = ("docs", "test")


def doctor(arguments: Sequence[str], console: Console) -> int:
    """Check the machine and return 1 when something that is needed fails."""
    exactly(split(arguments, NoOptions, "doctor"), 0, COMMAND.usage)
    checks = {
        "hardware": hardware(),
        "Python": python(),
        "extras": extras(),
        "system libraries": libraries(),
        "storage": storage(),
        "services": [("services", "ok", "none needed by the systems installed")],
    }
    for title, rows in checks.items():
        console.heading(title)
        console.table(("what", "state", "detail"), rows)
    failed = [row for rows in checks.values() for row in rows if row[1] == "failed"]
    console.line()
    if failed:
        console.line("not ready: " + "; ".join(f"{name}: {detail}" for name, _, detail in failed))
        return 1
    console.line("ready")
    return 0


def hardware() -> list[Check]:
    """Check cores, memory, the matrix instructions of the processor, and the GPU."""
    import psutil

    from pilotage.runs import hardware as machine

    found = machine.hardware()
    wanted = ("avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16")
    features = [feature for feature in wanted if feature in machine.processor_features()]
    free = psutil.virtual_memory().available / 2**30
    return [
        ("processor", "ok", f"{found['processor']}, {found['cores']} of {os.cpu_count()} cores usable"),
        ("memory", "ok", f"{found['memory_gib']} GiB, {free:.1f} GiB free"),
        ("instructions", "ok", ", ".join(features) or "none of " + ", ".join(wanted)),
        ("GPU", "ok", ", ".join(found["gpus"]) or "none (every system has a default that runs on the CPU)"),
    ]


def python() -> list[Check]:
    """Check Python, torch and the packages that the library needs."""
    import torch

    rows: list[Check] = [
        (
            "python",
            "ok" if sys.version_info >= (3, 11) else "failed",
            f"{platform.python_version()} in {sys.prefix}",
        ),
        ("torch", "ok", f"{torch.__version__}, {torch.get_num_threads()} threads"),
    ]
    for requirement in _requirements(None):
        if requirement != "torch":
            rows.append(_installed(requirement))
    return rows


def extras() -> list[Check]:
    """Check every optional extra: name what is installed, or the line that installs it."""
    rows: list[Check] = []
    if not _has("pilotage"):
        return [
            (
                "pilotage",
                "missing",
                "run from its source folder; `pip install -e .` makes the extras known",
            )
        ]
    for extra in _extras():
        missing = [name for name in _requirements(extra) if not _has(name)]
        if missing and extra not in DEVELOPERS_ONLY:
            rows.append((extra, "missing", f"{install_line(extra)}   (missing: {', '.join(missing)})"))
        elif not missing:
            rows.append((extra, "ok", ", ".join(f"{name} {version(name)}" for name in _requirements(extra))))
    return rows


def install_line(extra: str) -> str:
    """Return the line that installs an extra."""
    return f"pip install 'pilotage[{extra}]'"


def libraries() -> list[Check]:
    """Check the libraries of the operating system that installed packages load when they are first used."""
    rows: list[Check] = []
    for package, library, needed, line in LIBRARIES:
        if sys.platform != "linux" or not _has(package):
            continue
        try:
            ctypes.CDLL(library)
            rows.append((library, "ok", needed))
        except OSError:
            rows.append((library, "missing", f"{needed}; apt-get install {line}"))
    return rows or [("system libraries", "ok", "none needed by what is installed")]


def storage() -> list[Check]:
    """Check that PILOTAGE_HOME and the current folder can be written and have room."""
    return [_writable("PILOTAGE_HOME", home()), _writable("current folder", Path.cwd())]


def _writable(name: str, folder: Path) -> Check:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return name, "failed", f"{folder} cannot be written ({error.strerror}); set PILOTAGE_HOME to a folder that can"
    free = shutil.disk_usage(folder).free / 1e9
    if free < LEAST_DISK:
        return name, "failed", f"{folder} has {free:.1f} GB left, {LEAST_DISK:g} GB are needed; make room"
    return name, "ok", f"{folder}, {free:.0f} GB left"


def _extras() -> list[str]:
    try:
        return sorted(distribution("pilotage").metadata.get_all("Provides-Extra") or [])
    except PackageNotFoundError:
        return []


def _requirements(extra: str | None) -> list[str]:
    """Names of the distributions that pilotage (or one of its extras) requires."""
    try:
        lines = requires("pilotage") or []
    except PackageNotFoundError:
        return []
    names = []
    for line in lines:
        condition = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", line)
        name = re.match(r"[\w.-]+", line)
        if name and (condition[1] if condition else None) == extra and name[0] != "pilotage":
            names.append(name[0])
    return names


def _has(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _installed(name: str) -> Check:
    if _has(name):
        return name, "ok", version(name)
    return name, "failed", f"missing; pip install {name}"


COMMAND = Command(
    "doctor",
    "Check this machine, and name what is missing and how to install it. Exit code 1: something needed is missing.",
    NoOptions,
    doctor,
)
