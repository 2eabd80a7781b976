"""Help texts taken from the source: docstrings of the fields of a dataclass and of the parameters of a function."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Callable, Mapping
from functools import cache
from itertools import pairwise
from typing import Any


@cache
def field_docs(config_type: type) -> Mapping[str, str]:
    """Return the docstring of every field of a dataclass (the string literal under it), also of inherited fields."""
    docs: dict[str, str] = {}
    for cls in reversed(config_type.__mro__):
        if not dataclasses.is_dataclass(cls):
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
        except (OSError, TypeError):
            continue
        body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
        for statement, following in pairwise(body):
            if (
                isinstance(statement, ast.AnnAssign)
                and isinstance(statement.target, ast.Name)
                and isinstance(following, ast.Expr)
                and isinstance(following.value, ast.Constant)
                and isinstance(following.value.value, str)
            ):
                docs[statement.target.id] = " ".join(following.value.value.split())
    return docs


def argument_docs(function: Callable[..., Any]) -> Mapping[str, str]:
    """Return what the docstring of a function or class says about each parameter.

    A line `name: …` counts with what is indented below it, anywhere in the docstring; of a class also in those of its
    bases and of `__init__`.
    """
    names = inspect.signature(function).parameters
    owners: list[Any] = [function]
    if inspect.isclass(function):
        owners = [owner for cls in reversed(function.__mro__) for owner in (cls, vars(cls).get("__init__"))]
    docs: dict[str, str] = {}
    for owner in owners:
        text = inspect.cleandoc(owner.__doc__ or "")
        for match in re.finditer(r"^( *)(\w+)(?: \([^)\n]*\))?: (.*(?:\n\1 +\S.*)*)", text, flags=re.MULTILINE):
            if match[2] in names:
                docs[match[2]] = " ".join(match[3].split())
    return docs
