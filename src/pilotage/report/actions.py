"""Results of `pilotage do`, kept below `actions/` of a run, as sections of the run's report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pilotage.charts.panels import Panel
from pilotage.core.serialisation import line
from pilotage.core.text import number

FOLDER = "actions"
MOST_ROWS = 200
"""Rows of a table that a report shows; the file holds all of them."""


def action_record(name: str, options: Mapping[str, Any], result: Any) -> dict[str, Any]:
    """Return what is kept of an action's result as plain JSON; what JSON cannot hold is kept as text."""
    record: dict[str, Any] = {"action": name, "options": {key: _plain(value) for key, value in options.items()}}
    return {**record, "result": _plain(result)}


def action_panels(directory: Path) -> list[Panel]:
    """Return one section per action that was done on the run in `directory`, in order of their names."""
    panels = []
    for path in sorted((directory / FOLDER).glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        result = record["result"]
        if not isinstance(result, Mapping):
            result = {"": result}
        chosen = ", ".join(f"{key} {number(value)}" for key, value in record["options"].items() if value is not None)
        key = f"action-{record['action']}"
        note = f"Made by `pilotage do … {record['action']}`" + (f" with {chosen}" if chosen else "") + "."
        values = tuple((name, number(value)) for name, value in result.items() if not is_table(value))
        if values:
            panels.append(Panel(key, record["action"], note=note, columns=("", "value"), rows=values))
        for name, value in result.items():
            if is_table(value):
                title = " ".join(filter(None, (record["action"], str(name))))
                panels.append(_table_panel(f"{key}-{name}", title, note, value))
    return panels


def is_table(value: Any) -> bool:
    """Return whether a value is a list of mappings, which is shown as a table."""
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(row, Mapping) for row in value)


def _table_panel(key: str, title: str, note: str, rows: Any) -> Panel:
    headers = tuple(dict.fromkeys(column for row in rows for column in row))
    cells = tuple(tuple(number(row[h]) if h in row else "" for h in headers) for row in rows[:MOST_ROWS])
    if len(rows) > MOST_ROWS:
        note += f" The first {MOST_ROWS} of {len(rows)} rows."
    return Panel(key, title, note=note, columns=headers, rows=cells)


def _plain(value: Any) -> Any:
    try:
        return json.loads(line({"value": value}))["value"]
    except TypeError:
        return str(value)
