from __future__ import annotations

import json
from dataclasses import replace

import pytest
from benchmarks.harness import Figure, Side, SideFailedError, Target, alternate, figure
from benchmarks.results import from_json, merged, target_of, to_json, to_markdown, verdict

from benchmarks import bookkeeping, sampling, scaling, step, workload

TARGETS = {module.NAME: module.TARGETS for module in (sampling, step, scaling, bookkeeping)}


def made(name: str = "sampling/full/1 thread", ours: float = 2.0, peer: float = 3.0) -> Figure:
    return figure(name, [ours] * 3, [peer] * 3, peer_version="other 1.0")


def test_a_figure_has_medians_and_the_ratios_of_rounds() -> None:
    found = figure("a", [1.0, 2.0, 10.0], [2.0, 3.0, 40.0], peer_version="other 1.0")
    assert (found.ours, found.peer, found.ratio, found.pairs, found.spread) == (2.0, 3.0, 2.0, 3, (1.5, 4.0))


@pytest.mark.parametrize(("ours", "peer"), [([], []), ([1.0], [1.0, 2.0]), ([0.0], [1.0])])
def test_rounds_that_are_no_pairs_are_refused(ours: list[float], peer: list[float]) -> None:
    with pytest.raises(ValueError, match="pairs of times above 0"):
        figure("a", ours, peer, peer_version="other")


def test_figures_survive_the_file_and_unknown_fields_do_not() -> None:
    figures = [made(), made("step/peak memory/x")]
    assert from_json(to_json(figures)) == figures
    wrong = json.loads(to_json(figures))
    wrong[0]["speed"] = 1
    with pytest.raises(ValueError, match="speed"):
        from_json(json.dumps(wrong))


def test_figures_of_what_was_not_measured_now_are_kept() -> None:
    old, new = [made("sampling/a"), made("step/a")], [made("step/b")]
    assert [one.name for one in merged(old, new, ["step"])] == ["sampling/a", "step/b"]


def test_every_part_keeps_its_own_day_and_machine() -> None:
    old, new = replace(made("step/a"), measured="then"), replace(made("sampling/a"), measured="now")
    page = to_markdown(merged([old], [new], ["sampling"]), TARGETS, {})
    assert page.index("Measured then.") < page.index("## sampling") < page.index("Measured now.")


def test_targets_are_found_by_name_and_missed_by_how_much() -> None:
    assert target_of("sampling/full/2 threads", TARGETS) == Target(1.7)
    assert target_of("step/96-token prompts, natural/1 thread", TARGETS) == Target(2.8)
    assert target_of("sampling/products alone/full/1 thread", TARGETS) is None
    assert verdict(made(peer=4.0), Target(1.7)) == "met"
    assert verdict(made(peer=2.72), Target(1.7)) == "missed by 20%"
    assert verdict(made(ours=1.0, peer=0.06), Target(0.03, at_most=True)) == "missed by 100%"


def test_the_table_says_everything_once() -> None:
    one = replace(made(peer=2.72), measured="today; a machine")
    page = to_markdown([one, replace(one, name="sampling/full/2 threads")], TARGETS, {"sampling": "Why."})
    row = next(line for line in page.splitlines() if line.startswith("| full"))
    for part in ("full/1 thread", "other 1.0", "1.36", "≥ 1.7", "missed by 20%"):
        assert part in row
    assert page.count("Measured today; a machine.") == 1
    assert "Why." in page


def test_natural_lengths_have_the_mean_that_the_table_names() -> None:
    lengths = workload.lengths(256, 64, natural=True)
    assert int(lengths.max()) == int(lengths[0]) == 64
    assert int(lengths.min()) >= 8
    assert 0.52 < float(lengths.float().mean()) / 64 < 0.6
    assert workload.lengths(4, 64, natural=False).tolist() == [64] * 4


def test_sides_take_turns_and_a_broken_one_says_why() -> None:
    sides = [Side("tests.benchmarks.sides:add", {"step": step}) for step in (1, 10)]
    first, second = alternate(sides, threads=1, rounds=2)
    assert [reading["total"] for reading in first] == [2, 3]
    assert [reading["total"] for reading in second] == [20, 30]
    assert all(reading["seconds"] > 0 and reading["peak_mib"] > 1 for reading in first)
    with pytest.raises(SideFailedError, match="it broke here"):
        alternate([Side("tests.benchmarks.sides:broken")], threads=1, rounds=1)
