"""What a run runs on: processor, memory, versions, commit, and what decides its rounding. No torch at import."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from pilotage.core.errors import UsageError

PRECISIONS = ("float32", "bfloat16", "float16", "float64")
_FEATURES = frozenset(
    (
        *("sse4_1", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16"),
        *("avx512_fp16", "avx_vnni", "amx_tile", "amx_bf16", "amx_int8"),
        *("asimd", "asimdhp", "asimddp", "sve", "sve2", "bf16", "i8mm"),
    )
)
"""Instruction sets by which numerical libraries choose their kernels, and with them the order of sums."""


_QUIET: Any = {"capture_output": True, "text": True, "errors": "replace", "timeout": 10}


@cache
def _processor() -> Mapping[str, str]:
    """Return `/proc/cpuinfo` of the first processor; empty where there is none."""
    source = Path("/proc/cpuinfo")
    if not source.exists():
        return {}
    first = source.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    pairs = (row.partition(":") for row in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def processor_features() -> list[str]:
    """Return the instruction sets of this processor that kernels are chosen by, sorted."""
    flags = _processor().get("flags", _processor().get("Features", ""))
    return sorted(_FEATURES.intersection(flags.split()))


def usable_cores() -> int:
    """Return the number of cores that this process may use (affinity respected)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def hardware() -> dict[str, Any]:
    """Return processor, usable cores, memory in GiB, operating system, and the GPUs if torch sees any."""
    import psutil
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "processor": _processor().get("model name", platform.processor() or platform.machine()),
        "cores": usable_cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "gpus": gpus,
    }


def versions() -> dict[str, str | None]:
    """Return the versions of Python and of the packages that decide the numbers; None for one that is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in ("torch", "numpy", "transformers", "safetensors", "pilotage"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def commit(directory: Path | None = None) -> str | None:
    """Return the git commit of the code (of the current directory by default), "-dirty" with changes; None outside git.

    What reproductions write beside the code, into `results/`, is no change of it.
    """
    try:
        where = str(directory or Path.cwd())
        head = _git(where, "rev-parse", "HEAD")
        status = _git(where, "status", "--porcelain", "--untracked-files=no", "--", ":(top,exclude)results")
    except (OSError, subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return None
    return head.strip() + ("-dirty" if status.strip() else "")


def _git(where: str, *words: str) -> str:
    """Return the output of a command of git, without the programs that the repository's own settings name.

    A folder from a stranger may name programs that git calls by itself: a monitor of files, hooks, filters.
    """
    safe = ["git", "-C", where, "--no-optional-locks", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"]
    found = subprocess.run(
        [*safe, "config", "--show-scope", "--name-only", "--get-regexp", r"^filter\."],
        **_QUIET,
        check=False,  # 1: there is none
    )
    for scope, _, name in (line.partition("\t") for line in found.stdout.splitlines()):
        if scope in ("local", "worktree"):
            safe += ["-c", f"{name}=" + ("false" if name.endswith(".required") else "")]
    return str(subprocess.run([*safe, *words], **_QUIET, check=True).stdout)


def check_device(device: str) -> str:
    """Return `device`, on which torch computes here (cpu, cuda, cuda:1, mps).

    Raises UsageError otherwise: what there is.
    """
    import torch

    try:
        asked = torch.device(device)
    except RuntimeError:
        asked = torch.device("meta")
    if asked.type not in ("cpu", "cuda", "mps"):
        raise UsageError(f"device {device!r} is not known; give cpu, cuda, cuda:1 and so on, or mps")
    if asked.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError(f"device {device!r}: torch finds no Apple GPU here; give --device cpu")
    if asked.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            raise UsageError(
                f"device {device!r}: torch {torch.__version__} finds no GPU here; give --device cpu, or repair the "
                "driver or the installation of torch (`pilotage doctor` shows both)"
            )
        if (asked.index or 0) >= count:
            raise UsageError(f"device {device!r}: the GPUs here are cuda:0 to cuda:{count - 1}; give one of them")
    return device


def resolve_precision(requested: str, device: str = "cpu") -> str:
    """Return the precision of matrix products: "auto" becomes bfloat16 on a device that multiplies it natively.

    On a CPU that is AMX, on a GPU what torch reports. Raises UsageError for an unknown name.
    """
    if requested != "auto":
        if requested not in PRECISIONS:
            raise UsageError(f"precision {requested!r} is not known; give auto or one of {', '.join(PRECISIONS)}")
        return requested
    if device.startswith("cuda"):
        import torch

        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if device == "cpu" and "amx_bf16" in processor_features() else "float32"


def numerics(precision: str, threads: int | None = None, device: str = "cpu") -> dict[str, Any]:
    """Return what the last bits of a result depend on: precision, threads, processor, and the kernels of torch.

    Two processes whose numerics differ do not compute the same bits.
    """
    import torch

    # A finished run may be opened where its device is not; an unfinished one is refused by the difference.
    named = device.startswith("cuda") and torch.cuda.is_available()
    return {
        "precision": resolve_precision(precision, device),
        "threads": torch.get_num_threads() if threads is None else threads,
        "vendor": _processor().get("vendor_id", platform.machine()),
        "features": processor_features(),
        "kernels": torch.backends.cpu.get_cpu_capability(),
        "device": torch.cuda.get_device_name(torch.device(device)) if named else device,
    }
