import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import generator, small_mlp, small_policy, two_modes

from pilotage.core.errors import UsageError
from pilotage.core.registry import find_pieces
from pilotage.networks.action_transformer import ActionTransformer
from pilotage.networks.framewise import Framewise
from pilotage.networks.gpt import GPT
from pilotage.networks.residual_mlp import ResidualMLP
from pilotage.networks.unet1d import UNet1d
from pilotage.objectives.noise_paths import Karras, Linear, VariancePreserving
from pilotage.policies.control import saving
from pilotage.policies.control.causal_encoder import CausalEncoder
from pilotage.policies.control.encoders import FlattenEncoder, ImageEncoder, MLPEncoder, RecurrentEncoder
from pilotage.policies.control.execution.discrete_entries import BinaryDimsHorizon, SignedGuess
from pilotage.policies.control.execution.executors import RecedingHorizon, TemporalEnsembling
from pilotage.policies.control.heads.context_denoiser import ContextDenoiser
from pilotage.policies.control.heads.denoiser import Denoiser
from pilotage.policies.control.heads.direct import BinsWithOffsets, LatentVariable, Mixture, Regression
from pilotage.policies.control.heads.energy import ContrastiveEnergy, EnergyByDescent
from pilotage.policies.control.heads.energy_optimisation import EnergyOptimisation
from pilotage.policies.control.heads.plans import HeldPlan, LatentPlans, RelayGoals
from pilotage.policies.control.policy import ActionPolicy
from pilotage.policies.control.sampling.guidance import BestOf
from pilotage.policies.control.sampling.restarts import RestartingStart
from pilotage.policies.control.sampling.starts import FreshStart, ShiftedStart
from pilotage.policies.control.saving import SLOTS, describe, rebuild, register
from pilotage.systems.robots.carp.head import NextScaleTokens
from pilotage.systems.robots.carp.model import NextScaleTransformer
from pilotage.systems.robots.carp.tokeniser import MultiscaleTokeniser

STATE = np.array([[0.3, -0.2], [1.0, 2.0]])

SCRIPT = """
import json, sys
import numpy as np
from pilotage.policies.control.policy import ActionPolicy
policy = ActionPolicy.from_pretrained(sys.argv[1])
policy.reset([0, 1], [5, 6])
print(json.dumps([policy.act(np.array(state), [0, 1]).tolist() for state in json.loads(sys.argv[2])]))
"""


def acted(policy, steps=5):
    policy.reset([0, 1], [5, 6])
    return [policy.act(STATE + 0.1 * step, [0, 1]) for step in range(steps)]


def test_a_saved_policy_gives_the_same_action_in_a_fresh_process(tmp_path):
    policy = small_policy(executed=1, initialiser=ShiftedStart([3, 1, 0]))
    policy.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    observations = json.dumps([(STATE + 0.1 * step).tolist() for step in range(5)])
    source = Path(sys.modules["pilotage"].__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), observations],
        capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": str(source)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert np.array_equal(np.array(json.loads(done.stdout), dtype=np.float32), np.stack(acted(policy)))


def pieces():
    torch.manual_seed(0)
    gpt = {"token_dim": 2, "width": 16, "depth": 1, "heads": 2}
    yield "mlp", Denoiser(small_mlp(conditioning="film"), VariancePreserving(10, "linear", 0.5), options={"clip": None})
    yield "unet", Denoiser(UNet1d(1, 4, 2, widths=(8, 16)), Karras(law="log_normal"), sampler="heun", levels=[1.0, 0.0])
    yield (
        "transformer",
        Denoiser(
            ActionTransformer(1, 2, vector_dim=3, width=16, depth=1),
            Linear("beta"),
            predicts="velocity",
            sampler="flow_euler",
        ),
    )
    yield "context", ContextDenoiser(GPT(1, 2, **gpt), Karras(), history=1, context="clean", sigma_min=0.1)
    yield "gpt", Regression(GPT(1, 2, **gpt), kind="absolute")
    yield "mixture", Mixture(small_mlp(outputs=6), modes=2, low_noise=False)
    yield "framewise", Mixture(Framewise(1, 2, token_dim=3, outputs=6), modes=2, per_step=True)
    bins = BinsWithOffsets(small_mlp(outputs=8), bins=4)
    bins.find_bins(two_modes(50, 0)[0].flatten(0, 1), generator())
    yield "bins", bins
    yield "latent", LatentVariable(small_mlp(vector_dim=5), small_mlp(takes_level=False, outputs=8), latent=4)
    yield "contrast", BestOf(ContrastiveEnergy(small_mlp(takes_level=False)), count=3)
    yield "descent", EnergyByDescent(small_mlp(takes_level=False), noise=[0.1, 0.0], steps=2)
    yield "settle", EnergyOptimisation(small_mlp(takes_level=False), steps=2, learn_step=True)
    yield "causal encoder", CausalEncoder(2, 3, width=8, depth=1, heads=2)
    tokeniser = MultiscaleTokeniser(2, 16, codes=16, channels=2, scales=(1, 4))
    sizes = (tokeniser.scales, tokeniser.signals, tokeniser.codes, tokeniser.latent)
    yield "tokens", NextScaleTokens(NextScaleTransformer(*sizes, 3, width=16, depth=1), tokeniser)
    step, ahead = (ResidualMLP(1, 1, 2, width=8, takes_level=False, outputs=outputs) for outputs in (1, 4))
    yield "latent plans", LatentPlans(step, ahead, small_mlp(takes_level=False, outputs=4), horizon=2, latent=2)
    yield "relay", RelayGoals(step, ahead, horizon=2)
    yield "held", HeldPlan(2, 8, 4)
    yield "flatten", FlattenEncoder(2, 3, goal_dim=2, goals=2, goal_dropout=0.1, dropout_kind="whole")
    yield "mlp encoder", MLPEncoder(2, 3, width=8)
    yield "recurrent", RecurrentEncoder(2, 3, width=8)
    yield "image", ImageEncoder(["top"], 0, 1, features=4, keypoints=2, widths=(16, 16))
    yield "receding", RecedingHorizon(2, 8, 4)
    yield "ensembling", TemporalEnsembling(2, 8, 0.1)
    yield "fresh", FreshStart()
    yield "shifted", ShiftedStart([3, 0], executed=2, renoise=VariancePreserving(10))
    alter = SignedGuess([1], 0.1)
    yield "restarting", RestartingStart([3, 0], alter=alter, sampler="ddim", jump=0.5, residual=0.1)
    yield "two-valued", BinaryDimsHorizon(2, 8, 1, [1], 0.1)


@pytest.mark.parametrize("name", [name for name, _ in pieces()])
def test_every_piece_is_made_again_from_its_description(name):
    piece = dict(pieces())[name]
    written = json.loads(json.dumps(describe(piece)))
    again = rebuild(written)
    assert type(again) is type(piece)
    assert describe(again) == describe(piece)
    if isinstance(piece, torch.nn.Module):
        again.load_state_dict(piece.state_dict())


def test_every_known_piece_is_tried():
    tried = set()

    def collect(described):
        if isinstance(described, dict):
            tried.add(described.get("piece"))
            for value in described.values():
                collect(value)

    for _, piece in pieces():
        collect(describe(piece))
    declared = {reference.rpartition(":")[2] for slot in SLOTS for reference in find_pieces(slot).values()}
    assert {name for name in declared if name[0].isupper()} <= tried


def test_normalisers_travel_with_the_policy(tmp_path):
    policy = small_policy()
    policy.save_pretrained(tmp_path)
    loaded = ActionPolicy.from_pretrained(tmp_path)
    assert torch.equal(loaded.normalisers["action"].scale, torch.tensor([3.0, 0.5]))
    assert loaded.normalisers["state"].offset == 1.0
    for one, other in zip(acted(policy), acted(loaded), strict=True):
        assert np.array_equal(one, other)


def test_a_policy_that_cannot_be_written_down_is_refused(tmp_path):
    policy = small_policy(executed=1, initialiser=ShiftedStart([0], alter=torch.sign))
    with pytest.raises(UsageError, match=r"saving\.register"):
        policy.save_pretrained(tmp_path)


def test_what_is_no_saved_policy_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"config\.json and model\.safetensors missing"):
        ActionPolicy.from_pretrained(tmp_path)
    small_policy().save_pretrained(tmp_path)
    description = json.loads((tmp_path / "config.json").read_text())

    def changed(**changes):
        (tmp_path / "config.json").write_text(json.dumps(description | changes))

    changed(format=99)
    with pytest.raises(UsageError, match="format 99"):
        ActionPolicy.from_pretrained(tmp_path)
    changed(executor={"piece": "RecedingHorizont", "arguments": {}})
    with pytest.raises(UsageError, match="did you mean 'RecedingHorizon'"):
        ActionPolicy.from_pretrained(tmp_path)
    changed(executor={"piece": "RecedingHorizon", "arguments": {"frames": 2, "speed": 1}})
    with pytest.raises(UsageError, match=r"unknown arguments \['speed'\]"):
        ActionPolicy.from_pretrained(tmp_path)
    changed(encoder=describe(FlattenEncoder(3, 2)), head=describe(Denoiser(small_mlp(), VariancePreserving(10))))
    with pytest.raises(UsageError, match="do not fit its description"):
        ActionPolicy.from_pretrained(tmp_path)


def test_other_pieces_can_join(monkeypatch):
    class Mine(FreshStart):
        pass

    monkeypatch.setattr(saving, "_REGISTERED", {})
    register(Mine)
    assert type(rebuild(describe(Mine()))) is Mine
    with pytest.raises(UsageError, match="another name"):
        register(type("Mine", (), {}))


def test_a_policy_moves_between_folders_and_devices(tmp_path):
    small_policy(goal_dim=2, goal_weight=1.5, seed=3).save_pretrained(tmp_path / "a" / "b")
    loaded = ActionPolicy.from_pretrained(tmp_path / "a" / "b", device="cpu")
    assert isinstance(loaded, ActionPolicy)
    assert (loaded.goal_weight, loaded.seed, str(loaded.device)) == (1.5, 3, "cpu")
