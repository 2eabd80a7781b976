# ruff: noqa: ARG002 - stand-ins take what the real ones take
"""The training loop: what is logged, evaluated and saved at which step."""

from __future__ import annotations

from pilotage.training.loop import Hooks, train_loop


class FakeRun:
    system = "fake"

    def __init__(self, start: int = 0) -> None:
        self.start, self.saved, self.logged = start, [], []

    def restore(self, state):
        return self.start

    def save(self, step, state):
        self.saved.append(step)

    def log(self, step, metrics):
        self.logged.append(step)


class Counter(Hooks):
    def state(self):
        return {}

    def step(self, step):
        pass

    def evaluate(self, done, last):
        return {"done": float(done)}


def test_the_last_step_is_saved_logged_and_evaluated_whatever_the_intervals():
    run = FakeRun()
    assert train_loop(run, Counter(), 7, checkpoint_every=4, log_every=3) == {"done": 7.0}
    assert run.saved == [0, 4, 7]
    assert run.logged == [3, 4, 6, 7]


def test_a_loop_that_was_killed_after_its_last_step_is_evaluated_again():
    run = FakeRun(start=7)
    assert train_loop(run, Counter(), 7, checkpoint_every=4) == {"done": 7.0}
    assert run.saved == []
