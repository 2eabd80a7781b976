"""How token losses become one number. Every mode is linear: it gives coefficients c [N, T] with loss = Σ c·l.

The coefficients come from the mask of the *whole* batch, so that the gradient does not depend on how the batch is cut
into micro-batches. Masked slots have coefficient 0, and an all-masked batch gives 0, not NaN.
TRL's loss_type="bnpo" divides by the tokens of the local micro-batch; that depends on the cut, and is not offered here
(and it has nothing to do with the method BNPO, see beta_normalisation).
"""

from __future__ import annotations

import torch
from torch import Tensor

from pilotage.core.ranges import PositiveInt
from pilotage.objectives.shapes import check_shapes


def token_mean(mask: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the coefficients of ΣlM / ΣM, every token counting once: mask [N, T] bool -> [N, T].

    Yu et al. 2025, DAPO, eq. 12.
    """
    check_shapes("N,T", mask)
    return mask.to(dtype) / mask.sum().clamp(min=1).to(dtype)


def seq_mean_token_mean(mask: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the coefficients of mean_n(Σ_t lM / L_n), every answer counting once (empty ones not): mask [N, T] bool ->
    [N, T]. GRPO, eq. 3.
    """
    check_shapes("N,T", mask)
    length = mask.sum(-1, keepdim=True).clamp(min=1).to(dtype)
    return mask.to(dtype) / length / mask.any(-1).sum().clamp(min=1).to(dtype)


def seq_mean_token_sum(mask: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the coefficients of mean_n Σ_t lM, the plain policy gradient (empty answers do not count): mask [N, T]
    bool -> [N, T].
    """
    check_shapes("N,T", mask)
    return mask.to(dtype) / mask.any(-1).sum().clamp(min=1).to(dtype)


def const_norm(mask: Tensor, *, maximum: PositiveInt, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the coefficients of ΣlM / (N·`maximum`), `maximum` being the token limit: mask [N, T] bool -> [N, T].

    Liu et al. 2025, Dr.GRPO.

    Args:
        maximum: token limit of an answer.
    """
    check_shapes("N,T", mask)
    if maximum < 1:
        raise ValueError(f"maximum is {maximum}; it must be the token limit, at least 1")
    return mask.to(dtype) / (max(len(mask), 1) * maximum)


def token_sum_norm(mask: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the coefficients of mean_n(L_n · l_n) for a loss l_n that is the same on all tokens of an answer: mask [N,
    T] bool -> [N, T].

    TRL's loss_type="luspo"; unlike seq_mean_token_sum, empty answers count in the mean.
    """
    check_shapes("N,T", mask)
    return mask.to(dtype) / max(len(mask), 1)


def weighted_sum(token_loss: Tensor, coefficients: Tensor) -> Tensor:
    """Return Σ c·l over tokens whose coefficient is not 0; the others may hold anything: [N, T] twice -> []."""
    check_shapes("N,T N,T", token_loss, coefficients)
    coefficients = coefficients.to(token_loss.dtype)
    return (torch.where(coefficients != 0, token_loss, 0.0) * coefficients).sum()
