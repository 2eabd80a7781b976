"""Claims of stability count events beside their mean."""

from __future__ import annotations

import pytest

from pilotage.core.claims import Arm, Claim, Criterion, Events, steadier
from pilotage.core.errors import UsageError
from pilotage.experiments.claim_result import judge_claim

ARMS = {"calm": Arm("grpo"), "wild": Arm("grpo --lr 1")}


def jobs(collapsed_of, collapsed_against):
    return {
        "calm": [{"accuracy": 0.50 + 0.001 * seed, "collapsed": c} for seed, c in enumerate(collapsed_of)],
        "wild": [{"accuracy": 0.40, "collapsed": c} for c in collapsed_against],
    }


@pytest.mark.parametrize(
    ("of", "against", "most", "verdict"),
    [
        ([0] * 5, [1] * 5, None, "holds"),
        ([0] * 5, [1, 1, 1, 1, 0], None, "undecided"),
        ([0] * 5, [0] * 5, None, "undecided"),
        ([0] * 5, [0] * 5, 0.55, "holds"),
        ([1, 0, 0, 0, 0], [1] * 5, 0.55, "undecided"),
    ],
)
def test_a_mean_alone_does_not_make_a_claim_of_stability_hold(of, against, most, verdict):
    claim = steadier("calm", "It does not collapse.", "", ARMS, "accuracy", Events("collapsed", 0.5, most))
    judgement = judge_claim(claim, jobs(of, against)).judgement
    assert judgement.verdict == verdict
    assert "collapsed: " in judgement.reason


def test_fractions_of_events_are_refused_with_the_claims_name():
    claim = Claim("seldom", "It is rare.", "", {"calm": Arm("grpo")}, "rate", Criterion("rare", 0.5))
    with pytest.raises(UsageError, match=r"'seldom' counts whole events.*0.2 of 1"):
        judge_claim(claim, {"calm": [{"rate": 0.2}] * 5})
