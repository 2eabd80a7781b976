"""The package `pilotage.objectives` offers the public functions of its modules, and loads them late."""

from __future__ import annotations

import inspect
import pkgutil
import subprocess
import sys
from collections import Counter
from importlib import import_module

import pytest

from pilotage import objectives


def _public_functions() -> list[tuple[str, str]]:
    """Return (module, function) for every public function, in the module that defines it."""
    found = []
    for info in pkgutil.iter_modules(objectives.__path__):
        module = import_module(f"{objectives.__name__}.{info.name}")
        for name, value in vars(module).items():
            if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_"):
                found.append((info.name, name))
    return found


def test_every_public_function_with_a_name_of_its_own_is_exported():
    functions = _public_functions()
    times = Counter(name for _, name in functions)
    unique = {name: module for module, name in functions if times[name] == 1}
    assert set(objectives.__all__) == set(unique)
    for name, module in unique.items():
        defined = getattr(import_module(f"{objectives.__name__}.{module}"), name)
        assert getattr(objectives, name) is defined


def test_only_leave_one_out_is_defined_by_two_modules():
    times = Counter(name for _, name in _public_functions())
    assert {name for name, count in times.items() if count > 1} == {"leave_one_out"}
    with pytest.raises(AttributeError, match="leave_one_out"):
        _ = objectives.leave_one_out


def test_no_function_has_the_name_of_a_module():
    """Importing a module sets an attribute of the package, which would hide a function of the same name."""
    assert not {info.name for info in pkgutil.iter_modules(objectives.__path__)} & set(objectives.__all__)


def test_importing_the_package_loads_no_torch():
    code = "import sys, pilotage.objectives; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_functions_can_be_imported_from_the_package():
    code = "import sys; from pilotage.objectives import clip, group_zscore; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
