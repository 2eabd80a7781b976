"""Populations, labels and edge lists from files; what is wrong with a file is said with its place."""

from __future__ import annotations

import json

import pytest
import torch

pytest.importorskip("pyarrow", reason="reading populations needs pyarrow (extra `data`)")

from pyarrow import csv, parquet, table

from pilotage.core.errors import UsageError
from pilotage.systems.societies.agent_torch.data.population_files import read_edges, read_mapping, read_population

PEOPLE = {"age": ["U19", "65A", "U19"], "borough": [1, 0, 1], "income": [1.5, 2.0, 0.0], "household": [4, 4, 9]}


@pytest.fixture(params=[".parquet", ".csv"])
def written(request, tmp_path):
    def write(columns, name="people"):
        path = tmp_path / (name + request.param)
        (parquet.write_table if request.param == ".parquet" else csv.write_csv)(table(columns), path)
        return path

    return write


@pytest.fixture
def mapping(tmp_path):
    def write(content):
        path = tmp_path / "mapping.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def test_columns_are_numbered_by_the_mapping(written, mapping):
    labels = read_mapping(mapping({"age": ["U19", "20t29", "65A"]}))
    got = read_population(written(PEOPLE), labels, size=3)
    assert got["age"].tolist() == [0, 2, 0]
    assert got["household"].dtype == torch.int64
    assert got["income"].tolist() == [1.5, 2.0, 0.0]
    other = read_population(written(PEOPLE), {"age": {"U19": 7, "65A": 3}}, columns=["age"])
    assert other.keys() == {"age"}
    assert other["age"].tolist() == [7, 3, 7]


def test_edges_have_two_ids_and_perhaps_weights_and_networks(written):
    edges = read_edges(written({"a": [0, 1], "b": [2, 2], "weight": [0.5, 2.0], "network": [0, 3]}), agents=3)
    assert (edges.first.tolist(), edges.second.tolist()) == ([0, 1], [2, 2])
    assert edges.weight.tolist() == [0.5, 2.0]
    assert edges.of_network(3).first.tolist() == [1]
    plain = read_edges(written({"from": [0], "to": [1]}))
    assert plain.weight is None
    with pytest.raises(UsageError, match="no edges of network 2; there are"):
        edges.of_network(2)


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        (PEOPLE, {"mapping": {"age": {"U19": 0}}}, "row 2: age is '65A', which the mapping lacks; it has U19"),
        (PEOPLE, {}, "age holds words such as 'U19'; give a mapping.json"),
        ({"borough": [1, 2]}, {"size": 3}, "holds 2 people, 3 are configured"),
        ({"borough": [1, 2]}, {"columns": ["age"]}, "no column age; it has borough"),
        ({"borough": [1, None], "age": [0, 0]}, {}, "row 2: borough is empty"),
    ],
)
def test_wrong_populations_are_refused_with_the_place(written, columns, options, message):
    with pytest.raises(UsageError, match=message):
        read_population(written(columns), **options)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": [0, 1], "b": [1, 9]}, "row 2: b is 9; ids are 0 to 2"),
        ({"a": [0, -1], "b": [1, 2]}, "row 2: a is -1"),
        ({"a": [0.5, 1.0], "b": [1, 2]}, "a must hold whole numbers"),
        ({"a": [0, 1], "weight": [1.0, 1.0]}, "two columns of ids, it has a, weight"),
    ],
)
def test_wrong_edges_are_refused_with_the_row(written, columns, message):
    with pytest.raises(UsageError, match=message):
        read_edges(written(columns), agents=3)


@pytest.mark.parametrize(
    ("content", "message"), [("{", "not JSON"), ([1], "object of columns"), ({"age": {"a": "b"}}, "'age' must be")]
)
def test_wrong_mappings_are_refused(mapping, content, message):
    with pytest.raises(UsageError, match=message):
        read_mapping(mapping(content))


def test_missing_files_and_unknown_kinds_are_refused(tmp_path):
    with pytest.raises(UsageError, match="there is no file"):
        read_population(tmp_path / "people.csv")
    (tmp_path / "people.pkl").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"neither \.parquet nor \.csv"):
        read_population(tmp_path / "people.pkl")
