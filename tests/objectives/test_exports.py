"""The package `pilotage.objectives` offers the public functions of its modules, and loads them late."""

from __future__ import annotations

import inspect
import pkgutil
import subprocess
import sys
from collections import Counter
from importlib import import_module

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


def test_every_public_function_is_exported():
    functions = _public_functions()
    assert {name for name, count in Counter(name for _, name in functions).items() if count > 1} == set()
    assert set(objectives.__all__) == {name for _, name in functions}
    for module, name in functions:
        defined = getattr(import_module(f"{objectives.__name__}.{module}"), name)
        assert getattr(objectives, name) is defined


def test_no_function_has_the_name_of_a_module():
    """Importing a module sets an attribute of the package, which would hide a function of the same name."""
    assert not {info.name for info in pkgutil.iter_modules(objectives.__path__)} & set(objectives.__all__)


def test_importing_the_package_loads_no_torch():
    code = "import sys, pilotage.objectives; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_functions_can_be_imported_from_the_package():
    code = "import sys; from pilotage.objectives import clip, group_zscore; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
