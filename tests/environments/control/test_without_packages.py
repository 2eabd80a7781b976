"""What is said where packages or drivers are missing."""

from __future__ import annotations

import builtins

import pytest

from pilotage.core.errors import UsageError
from pilotage.environments.control import control_env
from pilotage.environments.control.graphics import explain_rendering


def refusing(monkeypatch, package: str, error: ImportError):
    real = builtins.__import__

    def imported(name, *rest, **options):
        if name.split(".")[0] == package:
            raise error
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", imported)


def test_a_missing_package_names_the_line_that_installs_it(monkeypatch):
    pytest.importorskip("gymnasium")
    refusing(monkeypatch, "gym_pusht", ModuleNotFoundError("No module named 'gym_pusht'", name="gym_pusht"))
    with pytest.raises(UsageError, match=r"gym_pusht, which is not installed: pip install 'pilotage\[robots\]'"):
        control_env("push-t")


def test_a_missing_libgl_names_what_to_install(monkeypatch):
    pytest.importorskip("gymnasium")
    refusing(monkeypatch, "gym_pusht", ImportError("libGL.so.1: cannot open shared object file"))
    with pytest.raises(UsageError, match="apt-get install libgl1"):
        control_env("push-t")


def test_other_errors_of_a_world_pass_through(monkeypatch):
    pytest.importorskip("gymnasium")
    refusing(monkeypatch, "gym_pusht", ModuleNotFoundError("No module named 'something'", name="something"))
    with pytest.raises(ModuleNotFoundError):
        control_env("push-t")


def test_a_missing_graphics_driver_names_the_setting_and_the_packages():
    with pytest.raises(UsageError, match="MUJOCO_GL=egl.*libegl1.*libosmesa6"), explain_rendering():
        raise AttributeError("'NoneType' object has no attribute 'glGetError'")
    with pytest.raises(ValueError, match="other"), explain_rendering():
        raise ValueError("other")
