"""Action policies from disk: the policy's parts and the normalisers that travel with them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pilotage.data.normalisers import Normaliser
from pilotage.policies.control.lerobot_checkpoint import load_lerobot
from pilotage.policies.control.policy import ActionPolicy
from pilotage.policies.control.saving import load_policy
from pilotage.runs import check_device


def load_action_policy(folder: Path | str, device: str = "cpu") -> ActionPolicy:
    """The policy that `ActionPolicy.save` wrote into `folder`: `reset(rows)`, then `act(observations, rows)`.

    Raises UsageError for a folder without a policy, another format, weights that do not fit, or an absent device."""
    return load_policy(folder, _normaliser, device=check_device(device))


def load_lerobot_policy(folder: Path | str, device: str = "cpu") -> ActionPolicy:
    """The diffusion policy that LeRobot saved into `folder`; see `policies.control.lerobot_checkpoint`."""
    return load_lerobot(folder, _normaliser, device=check_device(device))


def _normaliser(state: Mapping[str, Any]) -> Normaliser:
    made = Normaliser.unfitted(tuple(state["offset"].shape))
    made.load_state_dict(dict(state))
    return made
