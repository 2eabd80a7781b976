"""A system is added by its folder or by its package alone, and every reference of every system leads somewhere."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from pilotage.core.references import load_reference
from pilotage.core.registry import all_pieces, all_systems
from pilotage.training.language.columns import ALWAYS, LIVE, ON_DEMAND

SRC = Path(__file__).resolve().parents[2] / "src"
FILES = {
    "__init__.py": '''
from dataclasses import dataclass

from pilotage.core.system import Card, System


@dataclass(frozen=True)
class Config:
    steps: int = 3
    """Number of steps."""


SYSTEM = System(
    Card("steady", "demos", "Does nothing, steadily.", "Tests.", "one tests", "one does not"),
    Config(),
    run="{package}.train:train",
    actions={{"estimate_cost": "{package}.train:estimate_cost", "steps": "{package}.actions:steps"}},
    panels="{package}.report:panels",
    pieces={{
        "advantage": {{"steady": "{package}.pieces:steady"}},
        "head": {{"steady": "{package}.model:SteadyHead"}},
        "env": {{"steady-field": "{package}.env:SteadyField"}},
        "expert": {{"steady-field": "pilotage.environments.control.pillar:SwerveExpert"}},
    }},
    metric="steps",
)
''',
    "train.py": """
from pilotage.core.system import Result


def train(config, run):
    return Result(str(run.directory), {{"steps": float(config.steps)}})


def estimate_cost(config):
    return {{"steps": config.steps, "seconds": 1.0}}
""",
    "actions.py": '''
def steps(config, run, times: int = 2):
    """Return the number of steps.

    Args:
        config: the configuration of the run.
        run: the run's directory.
        times: the factor.
    """
    return {{"steps": config.steps * times}}
''',
    "pieces.py": '''
def steady(reward, *, scale: float = 2.0):
    """Return the reward times a factor.

    Args:
        reward: one number per answer.
        scale: the factor.
    """
    return reward * scale


def pays(completion, *, amount: float = 1.0):
    """Return the length of an answer times an amount.

    Args:
        completion: the text.
        amount: the factor.
    """
    return len(completion) * amount
''',
    "task.py": """
from pilotage.environments.text import TextTask


class Parity(TextTask):
    name, known_difficulties, default_difficulties = "parity", (1,), (1,)
    vocabulary, instruction, step_pattern = "0123456789#", "Even: 0, odd: 1.", None

    def make(self, difficulty, rng):
        drawn = rng.randrange(1000)
        return self._item(difficulty, str(drawn), "", str(drawn % 2))

    def longest(self, difficulty):
        return 2
""",
    "model.py": """
from pilotage.policies.control.heads.direct import Regression


class SteadyHead(Regression):
    '''Regression under another name.'''
""",
    "env.py": """
from pilotage.environments.control.pillar import Pillar


class SteadyField(Pillar):
    '''The field with the pillar under another name.'''
""",
    "report.py": """
from pilotage.charts.panels import Panel


def panels(run):
    return [Panel(key="steadiness", title="How steady it was")]
""",
    "claims.py": """
from pilotage.core.claims import Arm, Claim, Criterion

CLAIMS = [
    Claim("equal", "Steps are equal.", "section 1", {{"a": Arm("steady"), "b": Arm("steady")}}, "steps",
          Criterion("same", 0.1), compare=("a", "b")),
]
""",
}
ENTRY_POINTS = """
[pilotage.systems]
steady = {package}:SYSTEM
[pilotage.claims]
steady = {package}.claims:CLAIMS
[pilotage.pieces]
advantage.steadier = {package}.pieces:steady
reward.pays = {package}.pieces:pays
task.steadier = {package}.task:Parity
"""
USE_IT = """
import sys
import pilotage.systems
pilotage.systems.__path__.extend(sys.argv[1:])
from pilotage.cli import main
from pilotage.core.pieces import parse_term, resolve

for line in (
    "list", "show steady", "run steady --dry-run", "run steady --steps 5 --out here", "report here",
    "do steady steps --from here --times 3", "run grpo --advantage steady:scale=3 --help",
):
    print("$", line, flush=True)
    assert main(line.split()) == 0, line
print(resolve("advantage", parse_term("steady:scale=3"))({"reward": 7}.__getitem__))
"""

SCORE_WITH_IT = """
from pilotage.rewards import build_rewards, score_answers
from pilotage.types import Item

rewards = build_rewards("pays:amount=2+0.5*exact", type("Task", (), {"score": lambda self, item, text: 1.0})())
print(score_answers(rewards, ["abc"], [Item("1", "", "")], None).total.tolist())
rewards.close()
"""


ACT_WITH_IT = """
import sys
import pilotage.systems
pilotage.systems.__path__.extend(sys.argv[1:])
from pilotage.cli import main

line = (
    "run bc-mlp --head steady --env steady-field --network residual_mlp:width=8,depth=1 --demonstrations 2 "
    "--validation 0 --steps 2 --batch 4 --evaluation-episodes 2 --evaluation-steps 5 --videos 0 --out acting"
)
assert main(line.split()) == 0
assert main(["run", "bc-mlp", "--env", "steady-feeld", "--out", "wrong"]) == 2
"""


def write_package(folder: Path, package: str) -> None:
    folder.mkdir(parents=True)
    for name, text in FILES.items():
        (folder / name).write_text(text.format(package=package))


def use(tmp_path: Path, *system_folders: Path, script: str = USE_IT, search: Path | None = None) -> str:
    path = ":".join(str(place) for place in (SRC, search) if place)
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, system_folders)],
        cwd=tmp_path,
        env={"PYTHONPATH": path, "PILOTAGE_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check(tmp_path: Path, output: str) -> None:
    listed, shown, cost, ran, _, acted, helped = output.split("$ ")[1:]
    assert "Does nothing, steadily" in listed
    assert "Steps are equal." in shown
    assert "expected time  1 s" in cost
    assert "steps" in ran
    assert "15" in acted
    assert "options of the advantage piece steady" in helped
    assert "the factor [a number] (default: 3)" in helped
    assert output.endswith("\n21\n")
    assert "How steady it was" in (tmp_path / "here" / "report.html").read_text()


def test_a_system_is_added_by_its_folder(tmp_path: Path) -> None:
    family = tmp_path / "systems" / "demos"
    write_package(family / "steady", "pilotage.systems.demos.steady")
    (family / "__init__.py").touch()
    check(tmp_path, use(tmp_path, tmp_path / "systems"))


def test_a_system_is_added_by_an_installed_package(tmp_path: Path) -> None:
    site = tmp_path / "site"
    write_package(site / "my_package", "my_package")
    metadata = site / "my_package-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS.format(package="my_package"))
    check(tmp_path, use(tmp_path, search=site))
    pieces = "from pilotage.core.registry import find_pieces; print(find_pieces('advantage')['steadier'])"
    assert use(tmp_path, script=pieces, search=site) == "my_package.pieces:steady\n"
    assert use(tmp_path, script=SCORE_WITH_IT, search=site) == "[6.5]\n"
    task = "from pilotage.environments.text import text_task; print(text_task('steadier').pool(1, 'train')[0].answer)"
    assert use(tmp_path, script=task, search=site) in ("0\n", "1\n")


PARTS = """
from pilotage.core.pieces import declare
from pilotage.data.demonstrations import Demonstrations
from pilotage.data.formats.numpy_archive import read_npz
from pilotage.objectives.noise_paths import VariancePreserving


@declare(recognises=lambda path: path.suffix == ".steady")
def read_steady(path):
    return read_npz(path)


@declare(path=VariancePreserving)
def keep(denoise, levels, x, generator, *, factor=1.0):
    return factor * x


def height(energy, chunk, mask, generator):
    return energy(chunk)
"""
PARTS_ENTRY_POINTS = """
[pilotage.pieces]
reader.steady = my_parts:read_steady
denoising_sampler.keep = my_parts:keep
energy_loss.height = my_parts:height
"""
LEARN_WITH_PARTS = """
import numpy as np
from pilotage.cli import main

with open("set.steady", "wb") as file:
    np.savez(file, action=np.eye(8, 2, dtype="f4"), state=np.eye(8, 3, dtype="f4"), episode_ends=[8])
common = "--env none --validation 0 --steps 1 --batch 4 --network residual_mlp:width=8,depth=1"
for line in (
    "run diffusion-mlp --data set.steady --sampler keep:factor=2 --out a",
    "run ebt-policy --data steady:set.steady --head descent:training_loss=height --out b",
):
    assert main([*line.split(), *common.split()]) == 0, line
assert main(["run", "diffusion-mlp", "--sampler", "keep:factor=2", "--help"]) == 0
assert main(["run", "diffusion-mlp", "--data", "steedy:set.steady", "--env", "none", "--out", "c"]) == 2
"""


def test_a_reader_a_sampler_and_a_loss_of_energies_are_added_by_an_installed_package(tmp_path: Path) -> None:
    site = tmp_path / "site"
    metadata = site / "my_parts-1.0.dist-info"
    metadata.mkdir(parents=True)
    (site / "my_parts.py").write_text(PARTS)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-parts\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(PARTS_ENTRY_POINTS)
    output = use(tmp_path, script=LEARN_WITH_PARTS, search=site)
    assert "options of the denoising_sampler piece keep, written --sampler keep:option=value" in output
    assert all((tmp_path / run / "policy").is_dir() for run in "ab")


def test_a_new_head_acts_in_a_new_environment(tmp_path: Path) -> None:
    pytest.importorskip("gymnasium", reason="control environments need pilotage[robots]")
    family = tmp_path / "systems" / "demos"
    write_package(family / "steady", "pilotage.systems.demos.steady")
    (family / "__init__.py").touch()
    use(tmp_path, tmp_path / "systems", script=ACT_WITH_IT)
    assert (tmp_path / "acting" / "policy").is_dir()


def required(function: object) -> list[str]:
    """The names of the positional arguments without a default."""
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]


@pytest.mark.parametrize("system", all_systems(), ids=lambda system: system.name)
def test_what_a_system_names_is_there_and_takes_what_it_is_given(system) -> None:
    assert required(system.load_run()) == ["config", "run"]
    for name in system.actions:
        action = system.load_action(name)
        assert required(action) == (["config"] if name == "estimate_cost" else ["config", "run"]), name
        assert inspect.getdoc(action), name
    if system.panels is not None:
        assert len(required(load_reference(system.panels))) == 1
    for reference in (system.run, *system.actions.values(), system.panels):
        assert reference is None or isinstance(reference, str), reference


PIECES = [(slot, name, reference) for slot, of in all_pieces().items() for name, reference in of.items()]
OF_COLUMNS = {"filter", "penalty", "advantage", "shaping", "weights", "surrogate", "aggregate", "regulariser"}
COLUMNS = {*ALWAYS, *ON_DEMAND, *LIVE, "advantage", "token_reward", "token_weight"}


@pytest.mark.parametrize(("slot", "name", "reference"), PIECES, ids=lambda part: part)
def test_a_piece_is_there_and_takes_what_its_slot_gives(slot: str, name: str, reference: str) -> None:
    piece = load_reference(reference)
    if slot == "sampler" and hasattr(piece, "select"):
        assert {"select", "update", "state_dict", "load_state_dict"} <= set(dir(piece)), name
    if slot not in OF_COLUMNS:
        assert inspect.signature(piece) is not None
        return
    written = {column for _, _, other in PIECES for column in getattr(load_reference(other), "writes", ())}
    taken = required(piece.__call__)[1:] if inspect.isclass(piece) else required(piece)
    assert taken
    assert set(taken) <= COLUMNS | written
