from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_system
import pytest

from pilotage.core.claims import Arm, Claim, Criterion
from pilotage.core.errors import UsageError
from pilotage.experiments import JobEvent, ModuleNames, audit, provenance, reproduce

DRAWN = Claim(
    name="high-above-low",
    statement="High is above low.",
    source="§1",
    arms={"high": Arm("bandit"), "low": Arm("bandit")},
    metric="value",
    criterion=Criterion("better", 0.3),
    compare=("high", "low"),
    measure=fake_system.measure_draw,
    primary=True,
    unit="draw",
    cost=1.0,
)
TRAINED = Claim(
    name="fast learns more",
    statement="A larger step learns more in as many steps.",
    source="§2",
    arms={
        "fast": Arm("bandit --steps 6", ("--lr 0.1", "--lr 1.0")),
        "slow": Arm("bandit --steps 6", ("--lr 0.01", "--lr 0.02")),
    },
    metric="held_out/accuracy",
    criterion=Criterion("better"),
    compare=("fast", "slow"),
    gates={"slow": ("held_out/accuracy", 0.1)},
    note="A note.",
)
BASE = {"name": "base", "key": "1234", "contents": "abcd", "seconds": 5.0}
"""What every run of the fake system says that it used."""
KEYS = {"format", "system", "made", "seconds", "artifacts", "claims"}
CLAIM_KEYS = "name statement source primary tier kind margin unit n metric arms comparison gates tuning verdict note"


class Bench:
    """Runs reproductions of the bandit in one folder, and remembers what was said and what happened."""

    def __init__(self, folder: Path, modules: ModuleNames) -> None:
        self.folder, self.modules = folder, modules
        self.said: list[str] = []
        self.events: list[JobEvent] = []

    def __call__(self, *claims: Claim, **options: Any) -> dict[str, Any]:
        self.said.clear()
        self.events.clear()
        options = {"root": self.folder / "home", **options}
        path = reproduce(
            "bandit",
            claims,
            out=self.folder / "results",
            modules=self.modules,
            say=self.said.append,
            on_event=self.events.append,
            **options,
        )
        return json.loads(path.read_text())

    def started(self) -> int:
        return sum(event.kind == "started" for event in self.events)


@pytest.fixture(scope="module")
def shared_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose jobs several tests use, so that each is run once."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def bench(tmp_path: Path, modules: ModuleNames) -> Bench:
    return Bench(tmp_path, modules)


def test_claims_are_measured_judged_and_written_in_the_agreed_form(bench: Bench, shared_root: Path) -> None:
    long = replace(DRAWN, name="later", tier="long", primary=False)
    later_claim = replace(long, metric="cost", higher_is_better=False, n=6)
    document = bench(DRAWN, TRAINED, later_claim, root=shared_root)
    assert set(document) == KEYS
    assert all(set(entry) == set(CLAIM_KEYS.split()) for entry in document["claims"])
    drawn, trained, later = document["claims"]
    assert drawn["verdict"] == "holds"
    assert (drawn["kind"], drawn["margin"], drawn["unit"], drawn["n"]) == ("better", 0.3, "draw", 5)
    assert [len(values) for values in drawn["arms"].values()] == [5, 5]
    low, high = drawn["comparison"]["interval"]
    assert low < drawn["comparison"]["difference"] < high
    assert drawn["comparison"]["difference"] == pytest.approx(0.5, abs=0.1)
    assert drawn["tuning"] == {}

    assert trained["verdict"] == "holds"
    tuning = trained["tuning"]
    assert tuning["chosen"] == {"fast": "--lr 1.0", "slow": "--lr 0.02"}
    assert tuning["seeds"] == [1000]
    assert [len(setting["values"]) for setting in tuning["settings"]["fast"]] == [1, 1]
    assert trained["gates"] == {"slow": {"metric": "held_out/accuracy", "least": 0.1}}
    assert trained["note"].endswith("A note.")
    assert later["verdict"] == "not measured (long tier; run with --long)"
    assert (later["arms"], later["comparison"]) == ({}, None)
    assert document["artifacts"] == [BASE]

    lines = (bench.folder / "results" / "bandit.jsonl").read_text().splitlines()
    jobs = [json.loads(line) for line in lines]
    assert len(jobs) == 10 + 10 + 4
    assert [job["key"] for job in jobs] == sorted(job["key"] for job in jobs)
    values = {job["seed"]: job["metrics"]["value"] for job in jobs if job.get("arm") == "high"}
    assert [values[seed] for seed in range(5)] == drawn["arms"]["high"]
    (made,) = document["made"]
    assert (made["commit"], made["jobs"], made["processor"]) == ("0123abc", 24, "Test Processor")


def test_finished_jobs_count_and_committed_ones_too(bench: Bench) -> None:
    first = bench(DRAWN)
    assert bench.started() == 10
    written = (bench.folder / "results" / "bandit.json").read_bytes()
    again = bench(DRAWN)
    assert bench.started() == 0
    # A fresh machine has only what was committed.
    committed = bench(DRAWN, root=bench.folder / "elsewhere")
    assert bench.started() == 0
    assert first == again == committed
    assert (bench.folder / "results" / "bandit.json").read_bytes() == written
    bench(replace(DRAWN, n=7), root=bench.folder / "elsewhere")
    assert bench.started() == 4


def test_jobs_of_another_commit_are_used_and_reported_and_fresh_runs_them_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench(DRAWN)
    monkeypatch.setenv("FAKE_COMMIT", "89abcde012")
    provenance._here.cache_clear()
    bench(replace(DRAWN, n=6))
    assert bench.started() == 2
    assert "used: 10 jobs from commit 0123abc (20" in bench.said[1]
    document = bench(replace(DRAWN, n=6), fresh=True)
    assert bench.started() == 10
    assert [(made["commit"], made["jobs"]) for made in document["made"]] == [("89abcde012", 12)]
    bench(replace(DRAWN, n=6), fresh=True)
    assert bench.started() == 0
    assert len((bench.folder / "results" / "bandit.jsonl").read_text().splitlines()) == 12
    provenance._here.cache_clear()


def test_a_line_that_a_kill_cut_off_is_run_again(bench: Bench) -> None:
    bench(DRAWN)
    path = bench.folder / "results" / "bandit.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    document = bench(DRAWN, root=bench.folder / "elsewhere")
    assert bench.started() == 1
    assert document["claims"][0]["verdict"] == "holds"
    assert len(path.read_text().splitlines()) == 10


def test_an_audit_runs_stored_jobs_again_and_names_numbers_that_differ(bench: Bench) -> None:
    bench(TRAINED)
    asked = {"out": bench.folder / "results", "root": bench.folder / "home", "modules": bench.modules}
    said: list[str] = []
    assert audit("bandit", 3, [TRAINED], say=said.append, **asked)
    assert said[-1] == "3 of 3 jobs came out again"
    assert "bit for bit" in said[0]
    path = bench.folder / "results" / "bandit.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line["metrics"]["held_out/accuracy"] *= 1.01
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert not audit("bandit", 100, [TRAINED], say=said.append, **asked)
    assert said[-1] == "0 of 14 jobs came out again"
    assert "differing: held_out/accuracy 0." in said[-2]
    for line in lines:
        line["made"]["processor"] = "Another Processor"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert audit("bandit", 2, [TRAINED], say=said.append, **asked), "one per cent is within the tolerance"


def test_arms_that_two_claims_share_are_trained_once(bench: Bench) -> None:
    other = replace(TRAINED, name="not worse", criterion=Criterion("not_worse", 0.1))
    first = bench(TRAINED, other)
    assert bench.started() == 10 + 4
    committed = bench(TRAINED, other, root=bench.folder / "elsewhere")
    assert bench.started() == 0
    assert "nothing to run: all 14 jobs are there" in bench.said[0]
    assert first["artifacts"] == committed["artifacts"] == [BASE]


def test_a_quick_pass_is_marked_and_overwrites_nothing(bench: Bench) -> None:
    bench(DRAWN)
    committed = bench.folder / "results" / "bandit.json"
    before = committed.read_bytes()
    document = bench(TRAINED, quick=True)
    assert committed.read_bytes() == before
    assert document["quick"] is True
    (entry,) = document["claims"]
    assert entry["verdict"] == "undecided"
    assert "2 of 5 declared units ran" in entry["note"]
    assert "its verdicts mean nothing" in bench.said[-1]
    assert all(event.placed.job.command.endswith("--steps 3") for event in bench.events)
    assert bench.started() == 4


def test_over_budget_is_refused_before_anything_runs(bench: Bench) -> None:
    with pytest.raises(UsageError, match=r"100 processor minutes is over the budget of 25; give --budget 101"):
        bench(replace(DRAWN, cost=600.0))
    assert not bench.events
    assert "10 jobs to run (0 are there): about 1 h 40 min of processor time" in bench.said[0]


def test_only_one_claim_runs_and_others_count_where_they_are_there(bench: Bench) -> None:
    twin = replace(DRAWN, name="twin", metric="cost", higher_is_better=False)
    other = replace(TRAINED, name="other")
    assert bench(DRAWN, twin, only="twin")["claims"][0]["verdict"] == "not measured (only twin was asked for)"
    document = bench(DRAWN, twin, other, only="twin")
    assert [entry["verdict"] for entry in document["claims"]] == [
        "holds",  # its jobs are the twin's
        "holds",
        "not measured (only twin was asked for)",
    ]
    with pytest.raises(UsageError, match="no claim 'thrice'"):
        bench(DRAWN, only="thrice")


def test_a_missing_extra_leaves_its_claim_unmeasured(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilotage.experiments.reproduction.missing_extras", list)
    (entry,) = bench(replace(DRAWN, needs=("robots",)))["claims"]
    assert entry["verdict"] == "not measured (needs robots: pip install 'pilotage[robots]')"


@pytest.mark.parametrize(
    ("changes", "verdict", "note"),
    [
        ({"criterion": Criterion("rare", 0.01), "metric": "events", "compare": None}, "holds", "0 of 500"),
        ({"criterion": Criterion("exact"), "metric": "is_true", "compare": None}, "holds", "5 of 5"),
        ({"criterion": Criterion("exact"), "metric": "value"}, "does not hold", "true in 0 of 5"),
        ({"criterion": Criterion("rank"), "compare": None}, "does not hold", "τ -1"),
        ({"criterion": Criterion("trend"), "compare": None, "higher_is_better": False}, "holds", "difference +0."),
        ({"criterion": Criterion("frontier", 0.1), "metric": "value, -cost"}, "holds", "differences"),
        ({"compare": ("low", "high")}, "does not hold", "reversed"),
        ({"metric": "is_true", "criterion": Criterion("not_worse", 0.1)}, "undecided", "never happened"),
        ({"gates": {"low": ("value", 5.0)}}, "undecided", "below its gate"),
        ({"measure": fake_system.measure_nothing, "n": 6}, "undecided", "3 of 6 units gave no number"),
    ],
)
def test_every_kind_of_criterion(
    bench: Bench, shared_root: Path, changes: dict[str, Any], verdict: str, note: str
) -> None:
    (entry,) = bench(replace(DRAWN, **changes), root=shared_root)["claims"]
    assert entry["verdict"] == verdict
    assert note in entry["note"]


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ([replace(DRAWN, name=str(i)) for i in range(4)], "4 claims are primary"),
        ([DRAWN, DRAWN], "share a name"),
        ([replace(DRAWN, name=str(i), primary=False) for i in range(11)], "11 claims; at most 10"),
        ([replace(TRAINED, arms={**TRAINED.arms, "slow": Arm("bandit")})], "different numbers of settings"),
        ([replace(DRAWN, compare=("high", "none"))], "no arms of it"),
        ([replace(DRAWN, n=0)], "0 seeds"),
        ([replace(DRAWN, tuning_seeds=3)], "tunes on 3 seeds; expected 1 to 2"),
        ([replace(DRAWN, metric="valeu")], "no metric 'valeu', only.*value"),
    ],
)
def test_claims_that_break_the_rules_are_refused(bench: Bench, claims: list[Claim], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        bench(*claims)


def test_settings_are_chosen_by_the_metric_and_on_the_seeds_that_a_claim_names(bench: Bench, shared_root: Path) -> None:
    tuned = replace(TRAINED, measure=fake_system.measure_trained, metric="arm", gates={})
    by_value = replace(tuned, name="by accuracy", tuned_by="twice", tuning_seeds=1)
    plain, chosen = bench(tuned, by_value, root=shared_root)["claims"]
    # The metric itself is the same for all settings, and the first is taken.
    assert plain["tuning"]["chosen"] == {"fast": "--lr 0.1", "slow": "--lr 0.01"}
    assert chosen["tuning"]["chosen"] == {"fast": "--lr 1.0", "slow": "--lr 0.02"}
    assert (chosen["tuning"]["metric"], chosen["tuning"]["seeds"]) == ("twice", [1000])
    assert [len(setting["values"]) for setting in chosen["tuning"]["settings"]["slow"]] == [1, 1]
    # Higher is better for what tunes, whatever the claim's metric is.
    (lower,) = bench(replace(by_value, higher_is_better=False), root=shared_root)["claims"]
    assert lower["tuning"]["chosen"] == chosen["tuning"]["chosen"]


def test_a_tie_within_rounding_is_decided_by_the_order_of_the_grid_and_said(bench: Bench, shared_root: Path) -> None:
    tied = replace(TRAINED, measure=fake_system.measure_trained, metric="twice", tuned_by="nearly", gates={})
    (entry,) = bench(tied, root=shared_root)["claims"]
    assert entry["tuning"]["chosen"] == {"fast": "--lr 0.1", "slow": "--lr 0.01"}
    assert entry["tuning"]["ties"] == {"fast": ["--lr 1.0"], "slow": ["--lr 0.02"]}
    assert "Tuning of fast: --lr 0.1 and --lr 1.0 gave the same nearly" in entry["note"]


def test_an_unknown_cost_is_called_unknown(bench: Bench) -> None:
    bench(replace(TRAINED, cost=None))
    assert "14 jobs to run (0 are there): cost unknown" in bench.said[0]


def test_a_callback_is_called_during_a_training_of_its_own_that_measures_share(bench: Bench) -> None:
    looked = replace(
        TRAINED, arms={"slow": Arm("bandit --steps 4")}, metric="apart", criterion=Criterion("exact"), compare=None
    )
    looked = replace(looked, measure=fake_system.measure_looked, gates={}, n=2)
    (entry,) = bench(looked)["claims"]
    assert entry["verdict"] == "holds"
    (again,) = bench(replace(looked, arms={"other": Arm("bandit --steps 4")}, metric="looks"))["claims"]
    assert again["arms"] == {"other": [1.0, 1.0]}
