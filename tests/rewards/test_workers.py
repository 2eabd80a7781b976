"""Workers that score: nothing outlives its limit, nothing disturbs its neighbours, the same scores everywhere."""

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pilotage.core.errors import UsageError
from pilotage.rewards import MathEquality, UserFunction, WorkerPool
from pilotage.types import Failed, Item, Score

HOSTILE = f"{Path(__file__).with_name('hostile.py')}:obey"
ITEM = Item(id="i", prompt="", answer="4")
LIMIT = 0.6

TEXTS = [
    "score 0.5",
    "abstain",
    "raise no",
    "exit 0",
    "die",
    "string",
    "print",
    "score nan",
    "score inf",
    "memory",
    "4",
]
SCORES = ["0.5", "None", "exception", "exception", "crashed", "exception", "1.0", "nan", "nan", "exception", "1.0"]


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    pool = WorkerPool({"hostile": UserFunction(HOSTILE)}, count=2, limit=LIMIT)
    pool.start()
    yield pool
    pool.close()


def ask(pool: WorkerPool, texts: list[str]) -> list[Score]:
    return pool.score([("hostile", text, ITEM) for text in texts])


def short(scores: list[Score]) -> list[str]:
    return [score.reason if isinstance(score, Failed) else str(score) for score in scores]


def test_every_way_of_failing_has_its_reason_and_leaves_the_others_alone(pool: WorkerPool) -> None:
    assert short(ask(pool, TEXTS)) == SCORES
    assert short(ask(pool, TEXTS[::-1])) == SCORES[::-1]


@pytest.mark.parametrize("text", ["sleep", "power", "deaf"])
def test_what_hangs_is_killed_at_the_limit_and_its_worker_replaced(pool: WorkerPool, text: str) -> None:
    replaced, seconds = pool.replaced, []
    for _ in range(3):
        pool.start()  # all workers are up, so that what is measured is the answer
        started = time.monotonic()
        assert short(ask(pool, [text])) == ["timeout"]
        seconds.append(time.monotonic() - started)
    assert min(seconds) < LIMIT + 0.2, "the best of three, because the machine may be busy"
    assert pool.replaced == replaced + 3
    assert short(ask(pool, ["4", "score 0"] * 4)) == ["1.0", "0.0"] * 4


def test_children_of_a_killed_worker_die_with_it(pool: WorkerPool, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    assert short(ask(pool, [f"child {note}"])) == ["timeout"]
    child = Path(f"/proc/{note.read_text()}/stat")
    deadline = time.monotonic() + 10
    while child.exists() and child.read_text().rpartition(")")[2].split()[0] != "Z" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not child.exists() or child.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize(("kind", "reason"), [("daemon", "timeout"), ("orphan", "crashed")])
def test_children_that_left_the_worker_s_session_die_with_it(
    pool: WorkerPool, tmp_path: Path, kind: str, reason: str
) -> None:
    note = tmp_path / "pid"
    assert short(ask(pool, [f"{kind} {note}"])) == [reason]
    child = psutil.Process(int(note.read_text())) if psutil.pid_exists(int(note.read_text())) else None
    if child is not None:
        psutil.wait_procs([child], timeout=10)
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_reward_that_forks_gives_every_answer_its_own_score() -> None:
    single = WorkerPool({"hostile": UserFunction(HOSTILE)}, count=1, limit=5.0)
    texts = [f"{'fork' if number % 5 == 0 else 'score'} {number}" for number in range(20)]
    assert ask(single, texts) == [float(number) for number in range(20)]
    assert ask(single, texts[::-1]) == [float(number) for number in range(20)][::-1]
    assert single.replaced == 0
    single.close()


@pytest.mark.parametrize("reply", ['{"number": 99, "score": 1.0}', '{"score": "1"}', "[]", "no JSON", '{"process": 1}'])
def test_a_reply_that_belongs_to_no_request_is_a_failure_and_shifts_no_score(pool: WorkerPool, reply: str) -> None:
    scores = ask(pool, [f"reply {reply}"])
    assert short(scores) in (["protocol"], ["0.5"])
    assert short(ask(pool, ["score 1", "score 2", "score 3", "score 4"])) == ["1.0", "2.0", "3.0", "4.0"]


def test_what_an_exception_says_is_printable(pool: WorkerPool) -> None:
    (score,) = ask(pool, ["raise \x1b[2J\x1b]0;title\x07 \u202e\0"])
    assert isinstance(score, Failed)
    assert score.detail.isprintable()
    assert r"\x1b[2J" in score.detail


def test_workers_do_not_load_torch(pool: WorkerPool) -> None:
    assert ask(pool, ["modules"]) == [0.0]


def test_nothing_that_tasks_rewards_and_data_need_loads_torch() -> None:
    program = (
        "import sys; import pilotage.rewards, pilotage.environments.text, pilotage.data.questions\n"
        "import pilotage.data.curricula; print('torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_scores_do_not_depend_on_the_number_of_workers(pool: WorkerPool) -> None:
    single = WorkerPool({"hostile": UserFunction(HOSTILE)}, count=1, limit=LIMIT)
    texts = [*TEXTS, "sleep", "score 3"]
    assert short(ask(single, texts)) == short(ask(pool, texts))
    single.close()


def test_threads_get_the_same_scores(pool: WorkerPool) -> None:
    seen: list[list[str]] = []
    threads = [threading.Thread(target=lambda: seen.append(short(ask(pool, [*TEXTS, "deaf"])))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [[*SCORES, "timeout"]] * 3


def _in_child(pool: WorkerPool | None, pipe) -> None:
    pool = pool or WorkerPool({"hostile": UserFunction(HOSTILE)}, count=2, limit=LIMIT)
    ask(pool, ["4", "4"])
    workers = [worker.process.pid for worker in pool._workers]
    pipe.send((short(ask(pool, [*TEXTS, "deaf"])), workers))
    pool.close()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_get_the_same_scores_and_leave_the_parent_s_workers_alone(pool: WorkerPool, method: str) -> None:
    pool.start()
    workers = [worker.process.pid for worker in pool._workers]
    context = multiprocessing.get_context(method)
    receiver, sender = context.Pipe()
    child = context.Process(target=_in_child, args=(pool if method == "fork" else None, sender))
    child.start()
    assert receiver.poll(60)
    scores, others = receiver.recv()
    child.join()
    assert scores == [*SCORES, "timeout"]
    assert not set(workers) & set(others), "the child has used its parent's workers"
    assert [worker.process.poll() for worker in pool._workers] == [None] * len(workers), "the child has killed them"
    assert [worker.process.pid for worker in pool._workers] == workers
    assert short(ask(pool, TEXTS)) == SCORES


def test_closing_ends_the_processes_and_a_later_use_starts_new_ones() -> None:
    pool = WorkerPool({"hostile": UserFunction(HOSTILE)}, limit=LIMIT)
    assert ask(pool, ["4"]) == [1.0]
    pid = pool._workers[0].process.pid
    pool.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert ask(pool, ["4"]) == [1.0]
    pool.close()


@pytest.mark.parametrize("settings", [{"count": 0}, {"limit": 0.0}, {"limit": float("nan")}, {"memory": -1}])
def test_settings_that_cannot_be_are_refused(settings: dict) -> None:
    with pytest.raises(UsageError, match="expected count ≥ 1"):
        WorkerPool({}, **settings)


def test_a_scorer_that_cannot_be_loaded_is_reported_at_the_start(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("def reward(text, item):\n    return 1.0\nraise ImportError('no such thing')\n")
    with pytest.raises(UsageError, match="no such thing"):
        WorkerPool({"x": UserFunction(f"{broken}:reward")}).start()


def test_a_scorer_s_file_may_hold_dataclasses(tmp_path: Path) -> None:
    """They look their module up by name while it is executed."""
    file = tmp_path / "with_dataclass.py"
    file.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n\n@dataclass\nclass Settings:\n"
        "    worth: float = 0.25\n\ndef reward(text, item):\n    return Settings().worth\n"
    )
    function = UserFunction(f"{file}:reward")
    function.prepare()
    assert function("a", Item("1", "p", "a")) == 0.25


ANSWERS_BUILT_TO_EXPLODE = [
    r"\boxed{9^{9^{9^{9^{9}}}}}",
    r"\boxed{(10^{10^{10}})!}",
    r"\boxed{" + "(" * 3000 + "x" + ")" * 3000 + "}",
    r"\boxed{(x+1)^{100000} - (x-1)^{99999}}",
    "$" + "9" * 20_000 + "$",
    "\\boxed{" * 5000,
    r"\boxed{\int_0^\infty x^{x^{x^x}} e^{\sin(x^{99})} dx}",
]


def test_mathematics_built_to_explode_ends_and_leaves_its_neighbours_alone() -> None:
    pytest.importorskip("math_verify")
    pool = WorkerPool({"math": MathEquality()}, count=2, limit=2.0)
    gold = Item(id="g", prompt="", answer=r"\frac{x^2+1}{2}")
    texts = [text for hostile in ANSWERS_BUILT_TO_EXPLODE for text in (hostile, r"\boxed{\frac{1+x^2}{2}}")]
    scores = pool.score([("math", text, gold) for text in texts])
    assert scores[1::2] == [1.0] * len(ANSWERS_BUILT_TO_EXPLODE)
    for text, score in zip(texts[::2], scores[::2], strict=True):
        assert score == 0.0 or isinstance(score, Failed), text[:40]
    assert "timeout" in short(scores), "none of them is hostile enough to test anything"
    pool.close()
