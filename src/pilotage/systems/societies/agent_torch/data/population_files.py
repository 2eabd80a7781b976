"""Populations and networks from files: columns of a table (.parquet, .csv), labels (.json), edge lists.

A population is a table with a row per person; columns with words are turned into numbers by a `mapping.json` such as
`{"age": ["U19", "20t29"], "borough": {"BX": 0, "BK": 1}}`: a list numbers its labels from 0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pilotage.core.errors import UsageError

Mappings = Mapping[str, Mapping[str, int]]
"""Column -> label -> number."""


@dataclass(frozen=True)
class EdgeList:
    """Edges as pairs of ids."""

    first: Tensor
    """[E] int64."""
    second: Tensor
    """[E] int64."""
    weight: Tensor | None
    """[E] float32."""
    network: Tensor | None
    """[E] int64: to which of several networks each pair belongs."""

    def __len__(self) -> int:
        return len(self.first)

    def of_network(self, number: int) -> EdgeList:
        """Return the pairs of one network. Raises UsageError when there is none of that number."""
        if self.network is None or not (here := self.network == number).any():
            known = [] if self.network is None else self.network.unique().tolist()
            raise UsageError(f"there are no edges of network {number!r}; there are {known}")
        weight = None if self.weight is None else self.weight[here]
        return EdgeList(self.first[here], self.second[here], weight, self.network[here])


def read_mapping(path: Path | str) -> Mappings:
    """Read the labels of columns from a JSON file. Raises UsageError unless it holds an object of lists or objects."""
    place = _existing(path)
    try:
        read = json.loads(place.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{place} is not JSON: {error}") from error
    if not isinstance(read, dict):
        raise UsageError(f"{place} must be an object of columns, it is a {type(read).__name__}")
    mappings = {}
    for column, labels in read.items():
        numbered = dict(zip(labels, range(len(labels)), strict=True)) if isinstance(labels, list) else labels
        if not isinstance(numbered, dict) or not all(type(number) is int for number in numbered.values()):
            raise UsageError(f"{place}: {column!r} must be a list of labels or an object of label: number")
        mappings[str(column)] = {str(label): number for label, number in numbered.items()}
    return mappings


def read_population(
    path: Path | str, mapping: Mappings | None = None, *, columns: Sequence[str] | None = None, size: int | None = None
) -> dict[str, Tensor]:
    """Read the columns of a population, [agents] int64 each (float32 where the file has fractions).

    Args:
        path: .parquet or .csv with a header.
        mapping: see `read_mapping`.
        columns: columns to read; None: all.
        size: expected number of people; None: any.

    Raises:
        UsageError: with column, row and label: a label is not in the mapping, a column of words has no mapping, a cell
            is empty, a column is missing, or there is another number of people.
    """
    place = _existing(path)
    table = _table(place, columns)
    out = {name: _encoded(place, name, values, (mapping or {}).get(name)) for name, values in table.items()}
    count = len(next(iter(out.values()))) if out else 0
    if not count:
        raise UsageError(f"{place} holds no people")
    if size is not None and count != size:
        raise UsageError(f"{place} holds {count} people, {size} are configured; change one of them, or sample")
    return out


def read_edges(path: Path | str, *, agents: int | None = None) -> EdgeList:
    """Read pairs of ids from the first two columns, and the columns `weight` and `network` where there are any.

    path: .parquet or .csv. agents: ids are 0 … agents − 1. Raises UsageError, with the row, for other ids.
    """
    place = _existing(path)
    table = _table(place, None)
    names = [name for name in table if name not in ("weight", "network")]
    if len(names) < 2:
        raise UsageError(f"{place} needs two columns of ids, it has {', '.join(table)}")
    first, second = (_whole(place, name, table[name]) for name in names[:2])
    for name, ids in zip(names, (first, second), strict=False):
        bad = ((ids < 0) | (ids >= (agents if agents is not None else 2**31))).nonzero()[:, 0]
        if len(bad):
            row, last = int(bad[0]), (agents if agents is not None else 2**31) - 1
            raise UsageError(f"{place}, row {row + 1}: {name} is {int(ids[row])}; ids are 0 to {last}")
    weight = _encoded(place, "weight", table["weight"], None).float() if "weight" in table else None
    network = _whole(place, "network", table["network"]) if "network" in table else None
    return EdgeList(first, second, weight, network)


def _existing(path: Path | str) -> Path:
    place = Path(path)
    if not place.is_file():
        raise UsageError(f"there is no file {place}")
    return place


def _table(place: Path, columns: Sequence[str] | None) -> dict[str, np.ndarray[Any, Any]]:
    try:
        import pyarrow
        from pyarrow import csv, parquet
    except ImportError as error:
        raise UsageError("populations from files need the extra `data`: pip install 'pilotage[data]'") from error
    if place.suffix not in (".parquet", ".csv"):
        raise UsageError(f"{place} is neither .parquet nor .csv")
    try:
        table = parquet.read_table(place) if place.suffix == ".parquet" else csv.read_csv(place)
    except (pyarrow.ArrowException, OSError) as error:
        raise UsageError(f"{place} cannot be read: {error}") from error
    names = list(table.column_names) if columns is None else list(columns)
    if absent := [name for name in names if name not in table.column_names]:
        raise UsageError(f"{place} has no column {', '.join(absent)}; it has {', '.join(table.column_names)}")
    for name in names:
        if table.column(name).null_count:
            empty = next(i for i, value in enumerate(table.column(name)) if not value.is_valid)
            raise UsageError(f"{place}, row {empty + 1}: {name} is empty")
    return {name: table.column(name).to_numpy() for name in names}


def _encoded(place: Path, name: str, values: np.ndarray[Any, Any], labels: Mapping[str, int] | None) -> Tensor:
    if labels is None:
        if values.dtype.kind not in "biuf":
            raise UsageError(f"{place}: {name} holds words such as {values[0]!r}; give a mapping.json with its labels")
        if values.dtype.kind == "f":
            if not np.isfinite(values).all():
                raise UsageError(f"{place}, row {int(np.argmin(np.isfinite(values))) + 1}: {name} is no number")
            if (values != np.floor(values)).any():
                return torch.from_numpy(values.astype(np.float32))
        return torch.from_numpy(values.astype(np.int64))
    words, first, codes = np.unique(values.astype(str), return_index=True, return_inverse=True)
    unknown = [(int(row), str(word)) for word, row in zip(words, first, strict=True) if str(word) not in labels]
    if unknown:
        row, word = min(unknown)
        raise UsageError(
            f"{place}, row {row + 1}: {name} is {word!r}, which the mapping lacks; it has {', '.join(labels)}"
        )
    numbers = np.array([labels[str(word)] for word in words], dtype=np.int64)
    return torch.from_numpy(numbers[codes])


def _whole(place: Path, name: str, values: np.ndarray[Any, Any]) -> Tensor:
    encoded = _encoded(place, name, values, None)
    if encoded.is_floating_point():
        raise UsageError(f"{place}: {name} must hold whole numbers")
    return encoded
