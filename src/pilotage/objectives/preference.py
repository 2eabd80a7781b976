"""Losses of preference pairs, from log-probabilities of whole answers."""

from __future__ import annotations

import torch
from torch import Tensor

from pilotage.objectives.shapes import check_shapes


def dpo_loss(
    chosen_logp: Tensor,
    rejected_logp: Tensor,
    chosen_logp_ref: Tensor,
    rejected_logp_ref: Tensor,
    *,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return −log σ(β·[(ℓ_w − ℓ_w^ref) − (ℓ_l − ℓ_l^ref)]) per pair: log-probabilities summed over an answer, [N] ->
    [N].

    ln 2 when the policy is the reference. `label_smoothing` ε in [0, ½): the share of flipped labels (conservative
    DPO). Rafailov et al. 2023 (arXiv 2305.18290), eq. 7.
    """
    check_shapes("N N N N", chosen_logp, rejected_logp, chosen_logp_ref, rejected_logp_ref)
    chosen, rejected = chosen_logp - chosen_logp_ref.detach(), rejected_logp - rejected_logp_ref.detach()
    margin = beta * (chosen - rejected)
    log_sigmoid = torch.nn.functional.logsigmoid
    return -(1 - label_smoothing) * log_sigmoid(margin) - label_smoothing * log_sigmoid(-margin)
