"""Named streams: independent, governed by the seed, resumed exactly."""

from __future__ import annotations

import hashlib

import pytest
import torch

from pilotage.core.errors import UsageError
from pilotage.random.streams import Streams, derive_seed


def test_drawing_from_one_stream_leaves_the_others_alone() -> None:
    one, two = Streams(3), Streams(3)
    one.torch("planner").manual_seed(99)
    torch.rand(100, generator=one.torch("planner"))
    one.numpy("planner").random(7)
    assert torch.equal(torch.rand(5, generator=one.torch("data")), torch.rand(5, generator=two.torch("data")))
    assert (one.numpy("data").random(5) == two.numpy("data").random(5)).all()


def test_streams_differ_by_name_by_seed_and_by_kind() -> None:
    draws = [torch.rand(4, generator=Streams(seed).torch(name)) for seed in (1, 2) for name in ("a", "b")]
    assert len({tuple(draw.tolist()) for draw in draws}) == 4
    seeds = {derive_seed(s, n, *k) for s in (0, 1) for n in ("a", "a1", "") for k in ((), (0,), (0, 1), (1, 0), (1,))}
    assert len(seeds) == 30
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_seeds_are_the_same_in_every_process_and_version() -> None:
    text = hashlib.sha256(b"5\x00rollout\x003\x002").hexdigest()
    assert derive_seed(5, "rollout", 3, 2) == int(text[:16], 16) >> 1


@pytest.mark.parametrize("ask_first", [True, False])
def test_restored_streams_go_on_whether_asked_for_before_or_after(ask_first: bool) -> None:
    streams = Streams(3)
    torch.randn(7, generator=streams.torch("a"))
    streams.numpy("n").random(3)
    state = streams.state_dict()
    expected = torch.randn(3, generator=streams.torch("a")), streams.numpy("n").random(3)
    other = Streams(3)
    if ask_first:
        torch.randn(2, generator=other.torch("a"))
        other.numpy("n").random(9)
        torch.rand(4, generator=other.torch("later"))
    other.load_state_dict(state)
    assert torch.equal(torch.randn(3, generator=other.torch("a")), expected[0])
    assert (other.numpy("n").random(3) == expected[1]).all()
    fresh = torch.rand(4, generator=Streams(3).torch("later"))
    assert torch.equal(torch.rand(4, generator=other.torch("later")), fresh)


def test_a_restored_stream_nobody_asked_for_stays_in_the_next_checkpoint() -> None:
    streams = Streams(3)
    torch.randn(7, generator=streams.torch("seldom"))
    other = Streams(3)
    other.load_state_dict(streams.state_dict())
    assert torch.equal(other.state_dict()["torch"]["seldom"], streams.torch("seldom").get_state())


def test_a_stream_on_another_device_is_refused() -> None:
    streams = Streams(3)
    streams.torch("a")
    with pytest.raises(UsageError, match="lives on cpu"):
        streams.torch("a", "cuda")
