"""The verifiable text tasks: pools, splits, gold answers, and a check that nothing can break or fool."""

import pickle
import random
import subprocess
import sys
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotage.core.errors import UsageError
from pilotage.core.pieces import load_piece
from pilotage.core.registry import find_pieces
from pilotage.environments.text import RGTask, split_of, text_task
from pilotage.types import Item

NAMES = sorted(find_pieces("task"))
ITEMS = {name: text_task(name).pool(24, "train") for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_gold_completions_are_right_well_formed_short_enough_and_within_the_vocabulary(name: str) -> None:
    task = text_task(name, load_piece("task", name).known_difficulties)
    assert len(set(task.vocabulary)) == len(task.vocabulary) <= 64
    for item in task.pool(60 * len(task.difficulties), "train"):
        assert task.score(item, item.solution) == 1.0
        assert task.partial(item, item.solution) == 1.0
        assert task.well_formed(item, item.solution)
        assert len(item.solution) + 1 <= task.max_new(item.difficulty)
        assert set(item.prompt + item.solution) <= set(task.vocabulary)


@pytest.mark.parametrize(
    ("name", "difficulty", "prompt", "solution"),
    [
        ("add", 2, "47+85=", "7+5+0=12,4+8+1=13#132"),
        ("add", 3, "100+999=", "0+9+0=9,0+9+0=9,1+9+0=10#1099"),
        ("chain10", 3, "7+5*3-2>", "7+5=2,2*3=6,6-2=4#264"),
    ],
)
def test_gold_completions_are_those_of_the_published_examples(
    name: str, difficulty: int, prompt: str, solution: str
) -> None:
    task = text_task(name, (difficulty,))

    class Scripted(random.Random):
        draws = iter(
            {"47+85=": [47, 85], "100+999=": [100, 999], "7+5*3-2>": [7, 5, 3, 2]}[prompt],
        )
        operations = iter("+*-")

        def randrange(self, *_: object) -> int:
            return next(self.draws)

        def choice(self, _: object) -> str:
            return next(self.operations)

    item = task.make(difficulty, Scripted())
    assert (item.prompt, item.solution) == (prompt, solution)


@pytest.mark.parametrize("name", NAMES)
def test_pools_have_no_duplicates_are_balanced_and_splits_are_disjoint_for_every_seed(name: str) -> None:
    difficulties = load_piece("task", name).default_difficulties[-2:]
    task = text_task(name, difficulties)
    train = [item for seed in (0, 1) for item in task.pool(150, "train", seed)]
    held_out = [item for seed in (0, 2) for item in task.pool(150, "held_out", seed)]
    assert {item.prompt for item in train}.isdisjoint(item.prompt for item in held_out)
    assert all(split_of(item.prompt) == "train" for item in train)
    for pool in (train[:150], held_out[:150]):
        assert len({item.prompt for item in pool}) == len({item.id for item in pool}) == 150
        assert [sum(item.difficulty == difficulty for item in pool) for difficulty in difficulties] == [75, 75]
    assert {item.id for item in train[:150]} != {item.id for item in train[150:]}, "the seed has no effect"


@pytest.mark.parametrize("name", NAMES)
def test_a_pool_is_the_beginning_of_a_larger_one_and_the_same_in_another_process(name: str) -> None:
    task = text_task(name)
    pool = task.pool(40, "held_out", seed=7)
    assert task.pool(13, "held_out", seed=7) == pool[:13]
    program = (
        "from pilotage.environments.text import text_task\n"
        f"print([i.id for i in text_task({name!r}).pool(40, 'held_out', seed=7)])"
    )
    paths = [path for path in sys.path if path.endswith("src")]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}\n{program}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str([item.id for item in pool])


def test_a_level_with_few_prompts_gives_all_it_has_and_others_fill_up() -> None:
    pool = text_task("add", (1, 2)).pool(500, "train")
    held_out = text_task("add", (1,)).pool(10, "held_out")
    counts = {difficulty: sum(item.difficulty == difficulty for item in pool) for difficulty in (1, 2)}
    assert sum(counts.values()) == 500
    with pytest.warns(UserWarning, match=r"'add' has only \d+ different held_out prompts.*200 were asked"):
        all_held_out = text_task("add", (1,)).pool(200, "held_out")
    assert counts[1] + len(all_held_out) == 100
    assert all_held_out[:10] == held_out


def test_countdown_accepts_any_true_derivation_and_no_false_one() -> None:
    task = text_task("countdown")
    item = Item(id="x", prompt="2,3,7:13=", answer="13", difficulty=2, meta={"numbers": (2, 3, 7)})
    right = ["2*3=6,6+7=13#13", "3*2=6,7+6=13#13", " 2*3=6, 6+7=13 # 13 "]
    wrong = [
        "#13",
        "6+7=13#13",
        "2*3=6,7-6=1#13",
        "2*3=6,6+7=13#14",
        "2*3=7,7+7=14#14",
        "2*3=6,2*3=6,6+7=13#13",
        "2*3=6,6+7=13,#13",
        "2*3=6,6+7=13",
        "2*3=6,6+7=13#13#13",
        "2+3=5,5+7=12#13",
        "7+7=14,14-3=11,11+2=13#13",
    ]
    assert [task.score(item, text) for text in right] == [1.0] * len(right)
    assert [task.score(item, text) for text in wrong] == [0.0] * len(wrong)
    negative = Item(id="y", prompt="2,7,9:4=", answer="4", difficulty=2, meta={"numbers": (2, 7, 9)})
    assert task.score(negative, "2-7=-5,-5+9=4#4") == 1.0
    same = Item(id="z", prompt="5,5:25=", answer="25", difficulty=1, meta={"numbers": (5, 5)})
    assert task.score(same, "5*5=25#25") == 1.0
    once = Item(id="w", prompt="5,3:25=", answer="25", difficulty=1, meta={"numbers": (5, 3)})
    assert task.score(once, "5*5=25#25") == 0.0


def test_maze_accepts_detours_and_refuses_walls_and_edges() -> None:
    task = text_task("maze")
    item = Item(id="m", prompt="s.x/x.g/xx.>", answer="rdr", difficulty=5, meta={"grid": ("s.x", "x.g", "xx.")})
    assert task.score(item, "#rdr") == task.score(item, "#rlrdr") == task.score(item, "#rdrdu") == 1.0
    for text in ("#", "#rrd", "#dr", "#ur", "#rd", "rdr", "#rdrd", "#rdrx", "x#rdr"):
        assert task.score(item, text) == 0.0, text


def test_sort_takes_the_bare_list_too() -> None:
    task = text_task("sort")
    item = Item(id="s", prompt="45,07,93>", answer="07,45,93", difficulty=3)
    assert task.score(item, "07,45,93") == task.score(item, "#07,45,93") == 1.0
    assert task.score(item, "7,45,93") == task.score(item, "45,07,93") == 0.0
    assert task.partial(item, "#45,07,93") == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("text", "share"),
    [("#132", 1.0), ("#131", 2 / 3), ("#032", 2 / 3), ("#32", 2 / 3), ("#1132", 3 / 4), ("#", 0.0), ("132", 0.0)],
)
def test_partial_credit_of_add_is_the_share_of_right_digits(text: str, share: float) -> None:
    item = Item(id="a", prompt="47+85=", answer="132", difficulty=2)
    assert text_task("add").partial(item, text) == pytest.approx(share)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("add", "7+5+0=12,4+8+1=13#132", True),
        ("add", "7+5+0=99#1", False),
        ("add", "7+5+0=12#13 2", False),
        ("add", "7+5+0=12,#132", False),
        ("add", "#132", False),
        ("add", "7+5+0=12##132", False),
        ("chain10", "7+5=3#9", True),
        ("chain10", "7+5=12#2", False),
        ("sort", "#07,45,93", True),
        ("sort", "1#07,45,93", False),
        ("maze", "#urdl", True),
        ("maze", "#urdx", False),
    ],
)
def test_well_formed_looks_at_the_grammar_and_not_at_the_truth(name: str, text: str, expected: bool) -> None:
    assert text_task(name).well_formed(ITEMS[name][0], text) is expected


@settings(max_examples=150, deadline=None)
@given(data=st.data(), name=st.sampled_from(NAMES))
def test_no_text_makes_the_check_raise_and_partial_is_one_only_where_score_is(data: st.DataObject, name: str) -> None:
    task = text_task(name)
    item = data.draw(st.sampled_from(ITEMS[name]))
    alphabet = st.sampled_from(task.vocabulary + " \n٣²\ud800")
    near = st.text(alphabet, max_size=40)
    text = data.draw(st.one_of(st.text(max_size=40), near, near.map(lambda tail: item.solution + tail)))
    score, partial = task.score(item, text), task.partial(item, text)
    assert score in (0.0, 1.0)
    assert 0.0 <= partial <= 1.0
    assert (partial == 1.0) == (score == 1.0)
    assert task.well_formed(item, text) in (True, False)


@pytest.mark.parametrize(
    "text", ["#" + "9" * 10_000, "9" * 5000 + "*2=1#1", "-" * 9000, "1" * 20 + "+1=2#13", "²*3=6#6"]
)
@pytest.mark.parametrize("name", NAMES)
def test_huge_and_strange_digits_are_just_wrong(name: str, text: str) -> None:
    assert text_task(name).score(ITEMS[name][0], text) == 0.0


def test_the_check_never_looks_at_the_gold_solution() -> None:
    for name in NAMES:
        for item in ITEMS[name]:
            blind = Item(item.id, item.prompt, item.answer, "", item.difficulty, item.meta)
            assert text_task(name).score(blind, item.solution) == 1.0


def test_warm_up_weights_fall_with_difficulty_and_sum_to_one() -> None:
    weights = text_task("add", (1, 2, 3)).weights
    assert list(weights) == [1, 2, 3]
    assert sum(weights.values()) == pytest.approx(1.0)
    assert weights[1] == pytest.approx(3 * weights[3])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: text_task("countdwon"), "did you mean .countdown"),
        (lambda: text_task("zzz"), "there are add, chain10, countdown, maze, sort"),
        (lambda: text_task("add", (9,)), r"difficulties \[9\]; it has \[1, 2"),
        (lambda: text_task("add", ()), "name at least one"),
        (lambda: text_task("add", (1, 1)), "none twice"),
        (lambda: text_task("add").pool(-1, "train"), "count must be 0 or more"),
        (lambda: text_task("add").pool(1, "test"), "'train' and 'held_out'"),  # type: ignore[arg-type]
        (lambda: text_task("reasoning-gym:countdwon"), "did you mean .countdown"),
        (lambda: RGTask("maze", compact=True), "no compact prompts"),
        (lambda: RGTask("countdown", settings={"nonsense": 1}), "refuses"),
        (lambda: text_task("reasoning-gym:chain_sum", (99,)), "it has"),
    ],
)
def test_wrong_names_and_values_are_refused_with_what_to_do(call, message: str) -> None:
    if "rg" in message or "reasoning" in message or "countdown" in message:
        pytest.importorskip("reasoning_gym")
    with pytest.raises(UsageError, match=message):
        call()


OWN = """
import random
from pilotage.environments.text import TextTask

class Echo(TextTask):
    "Copies a digit."
    name, known_difficulties, default_difficulties = "echo", (1, 2), (1,)
    vocabulary, instruction, step_pattern = "0123456789>#", "Copy.", None

    def __init__(self, difficulties=None, *, shift=0):
        super().__init__(difficulties)
        self.shift = shift

    def make(self, difficulty, rng):
        drawn = rng.randrange(1000)
        return self._item(difficulty, f"{drawn}>", "", str(drawn + self.shift))

    def longest(self, difficulty):
        return 5

class Fixed:
    "Has no difficulties to choose from."
    name, difficulties, max_new = "fixed", (0,), staticmethod(lambda difficulty: 3)
    def pool(self, count, split, seed=0): return []
    def score(self, item, text): return 0.0

def nothing():
    return 3
"""


def test_a_task_of_ones_own_is_named_by_its_file_or_given_as_a_class(tmp_path) -> None:
    path = tmp_path / "own.py"
    path.write_text(OWN)
    task = text_task(f"{path}:Echo:shift=2", (1, 2))
    assert (task.name, task.difficulties) == ("echo", (1, 2))
    (item,) = task.pool(1, "train")
    assert int(item.answer) == int(item.prompt[:-1]) + 2
    assert text_task(type(task)).difficulties == (1,)
    assert text_task(f"{path}:Fixed").difficulties == (0,)
    for choice, difficulties, message in (
        ("Fixed", (1,), r"no difficulties to choose from; \[1\] were given"),
        ("Echo:shfit=2", None, "did you mean 'shift'"),
        ("Echo:difficulties=2", None, "has no option 'difficulties'"),
        ("nothing", None, "makes a int without name, difficulties"),
        ("Ehco", None, "did you mean 'Echo'"),
    ):
        with pytest.raises(UsageError, match=message):
            text_task(f"{path}:{choice}", difficulties)


# ---- reasoning-gym ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["countdown", "chain_sum", "basic_arithmetic", "maze", "number_sorting", "n_queens"])
def test_generators_of_reasoning_gym_give_disjoint_pools_with_right_answers(name: str) -> None:
    pytest.importorskip("reasoning_gym")
    task = text_task(f"reasoning-gym:{name}")
    train, held_out = task.pool(12, "train"), task.pool(6, "held_out")
    assert len({item.id for item in train + held_out}) == 18
    assert task.pool(5, "train") == train[:5]
    for item in train:
        assert task.score(item, item.solution) == 1.0
        assert task.well_formed(item, item.solution)
        assert task.score(item, f"I think so.\n<answer>{item.answer}</answer>") == 1.0
        assert len(item.solution) < task.max_new(item.difficulty)
        assert item.meta["entry"]["question"] in task.render_chat(item)[0]["content"]
    assert pickle.loads(pickle.dumps(task)).score(train[0], train[0].solution) == 1.0


def test_partial_credit_of_reasoning_gym_is_not_a_right_answer() -> None:
    pytest.importorskip("reasoning_gym")
    task = text_task("reasoning-gym:countdown")
    item = task.pool(1, "train")[0]
    assert task.partial(item, "#1+1") == pytest.approx(0.05)
    assert task.score(item, "#1+1") == 0.0
    assert item.prompt.endswith(f":{item.meta['entry']['metadata']['target']}=")


@pytest.mark.parametrize("name", ["countdown", "n_queens", "string_insertion", "polynomial_multiplication"])
def test_answers_are_not_executed_by_scorers_that_evaluate(name: str, tmp_path) -> None:
    pytest.importorskip("reasoning_gym")
    task = text_task(f"reasoning-gym:{name}")
    item = task.pool(1, "train")[0]
    target = tmp_path / "written"
    for attack in (
        f"open('{target}', 'w')",
        f"[open('{target}', 'w')]",
        f"__import__('pathlib').Path('{target}').touch()",
    ):
        assert task.score(item, f"<answer>{attack}</answer>") == 0.0
        assert task.score(item, f"#{attack}") == 0.0
    assert not target.exists()


def test_levels_of_reasoning_gym_are_those_of_its_curriculum() -> None:
    pytest.importorskip("reasoning_gym")
    task = text_task("reasoning-gym:chain_sum", (0, 3))
    pool = task.pool(20, "train")
    terms = {
        difficulty: {i.meta["entry"]["metadata"]["num_terms"] for i in pool if i.difficulty == difficulty}
        for difficulty in (0, 3)
    }
    assert max(terms[3]) > max(terms[0])


def test_pools_below_the_limit_do_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(text_task("add").pool(100, "held_out")) == 100
