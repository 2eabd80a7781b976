from __future__ import annotations

from pilotage.training.running_means import RunningMeans


def test_means_are_over_the_steps_that_gave_a_number_and_begin_anew() -> None:
    means = RunningMeans()
    for loss in (1.0, 2.0, 6.0):
        means.add(loss=loss)
    means.add(loss=3.0, norm=5.0)
    resumed = RunningMeans()
    resumed.load_state_dict(means.state_dict())
    assert means.pop_metrics() == resumed.pop_metrics() == {"loss": 3.0, "norm": 5.0}
    assert means.pop_metrics() == {}
