"""State survives the way to the disk and back: types, shapes, bits, and which tensors are one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilotage.core.errors import UsageError
from pilotage.runs import checkpoints
from pilotage.runs.state import join, split

DTYPES = [
    torch.float32,
    torch.bfloat16,
    torch.float16,
    torch.float64,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
]
SHAPES = [(), (0,), (1,), (3,), (2, 0, 3), (2, 3)]


def there_and_back(state: dict[str, Any], directory: Path) -> dict[str, Any]:
    return checkpoints.read(checkpoints.write(directory, 1, state, {})).state


def alike(a: Any, b: Any) -> bool:
    """Equal in type, bits, order and nesting; NaN equals NaN."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        same = a.dtype == b.dtype and a.shape == b.shape
        return same and a.contiguous().reshape(-1).view(torch.uint8).equal(b.contiguous().reshape(-1).view(torch.uint8))
    if isinstance(a, np.ndarray | np.generic):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return list(a) == list(b) and all(alike(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, float):
        return (a == b and math.copysign(1, a) == math.copysign(1, b)) or (a != a and b != b)
    return a == b


tensors = st.builds(
    lambda dtype, shape, seed: (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 3).to(dtype),
    st.sampled_from(DTYPES),
    st.sampled_from(SHAPES),
    st.integers(0, 99),
)
arrays = st.builds(
    lambda dtype, shape: np.arange(math.prod(shape)).reshape(shape).astype(dtype),
    st.sampled_from(["float32", "float64", "int64", "bool", "uint16", "uint64"]),
    st.sampled_from(SHAPES),
)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(max_size=9), st.floats().map(np.float64)
)
keys = st.one_of(st.text(), st.integers(), st.booleans(), st.tuples(st.integers(), st.text()))
nests = st.recursive(
    scalars | tensors | arrays,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.tuples(inner, inner), st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=5), nests, max_size=4))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_any_nest_comes_back_as_it_was(state: dict[str, Any]) -> None:
    assert alike(join(*split(state)), state)


@given(st.dictionaries(st.text(max_size=5), nests, max_size=4))
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_nest_comes_back_from_the_disk(tmp_path_factory: pytest.TempPathFactory, state: dict[str, Any]) -> None:
    assert alike(there_and_back(state, tmp_path_factory.mktemp("state")), state)


def test_optimiser_with_integer_keys_goes_on_as_if_never_stored(tmp_path: Path) -> None:
    def steps(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(2, 3)).square().sum().backward()
            optimizer.step()

    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, amsgrad=True)
    steps(model, optimizer)
    read = there_and_back({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path)
    other = torch.nn.Linear(3, 2)
    other_optimizer = torch.optim.AdamW(other.parameters(), lr=0.7, amsgrad=True)
    other.load_state_dict(read["model"])
    other_optimizer.load_state_dict(read["optimizer"])
    assert set(read["optimizer"]["state"]) == {0, 1}
    steps(model, optimizer)
    steps(other, other_optimizer)
    assert torch.equal(model.weight, other.weight)


def test_tied_weights_are_stored_once_and_come_back_as_one(tmp_path: Path) -> None:
    embedding = torch.nn.Embedding(50, 8)
    head = torch.nn.Linear(8, 50, bias=False)
    head.weight = embedding.weight
    read = there_and_back({"embedding": embedding.state_dict(), "head": head.state_dict()}, tmp_path)
    assert read["embedding"]["weight"] is read["head"]["weight"]
    assert torch.equal(read["head"]["weight"], embedding.weight)
    assert (tmp_path / "step-00000001" / "tensors.safetensors").stat().st_size < 1.5 * 50 * 8 * 4


def test_views_of_one_memory_come_back_with_their_values_and_no_more(tmp_path: Path) -> None:
    big = torch.arange(10000.0)
    state = {"part": big[3:5], "turned": big[:6].reshape(2, 3).T, "wide": torch.zeros(1).expand(4)}
    read = there_and_back(state, tmp_path)
    assert alike(read, state)
    assert (tmp_path / "step-00000001" / "tensors.safetensors").stat().st_size < 1000
    assert alike(there_and_back({"all": big, "folded": big.view(100, 100)}, tmp_path)["folded"], big.view(100, 100))


def test_tensors_made_on_the_fly_are_not_confused_when_memory_is_reused() -> None:
    class Fresh(dict[str, Any]):
        """Makes each tensor when it is looked at."""

        def items(self) -> Any:
            return ((str(i), torch.full((64,), float(i))) for i in range(50))

    read = join(*split({"fresh": Fresh({str(i): None for i in range(50)})}))
    assert [read["fresh"][str(i)][0].item() for i in range(50)] == list(range(50))


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ({1, 2}, "set"),
        (np.array(["a"]), "numpy array"),
        (lambda: 0, "function"),
        (torch.eye(2).to_sparse(), "layout"),
        (object(), "object"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_its_place(value: Any, named: str) -> None:
    with pytest.raises(UsageError, match=r"state\.sampler\.counts\[1\]") as caught:
        split({"sampler": {"counts": [0, value]}})
    assert named in str(caught.value)
