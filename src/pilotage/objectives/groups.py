"""Statistics over the answers of one group (the answers to one prompt instance). Groups may have any sizes."""

from __future__ import annotations

import torch
from torch import Tensor

from pilotage.objectives.shapes import check_shapes


def group_index(group: Tensor) -> tuple[Tensor, int]:
    """Groups numbered from 0 without gaps: ([N] int64, how many there are)."""
    check_shapes("N", group)
    unique, index = torch.unique(group, return_inverse=True)
    return index, len(unique)


def per_group_sum(values: Tensor, group: Tensor) -> Tensor:
    """Sum of `values` [N] in each group: [Q], groups in ascending order of their number."""
    check_shapes("N N", values, group)
    index, count = group_index(group)
    return values.new_zeros(count).index_add(0, index, values)


def per_group_mean(values: Tensor, group: Tensor) -> Tensor:
    """Return the mean of `values` [N] in each group: [Q], groups in ascending order of their number."""
    return per_group_sum(values, group) / per_group_sum(torch.ones_like(values), group)


def group_sum(values: Tensor, group: Tensor) -> Tensor:
    """Return for every row the sum of `values` [N] over its group, [N]."""
    return per_group_sum(values, group)[group_index(group)[0]]


def group_size(group: Tensor) -> Tensor:
    """Return for every row the number of rows in its group, [N] int64."""
    return group_sum(torch.ones_like(group), group)


def group_mean(values: Tensor, group: Tensor) -> Tensor:
    """Return for every row the mean of `values` [N] over its group, [N]."""
    return group_sum(values, group) / group_size(group)


def group_spread(values: Tensor, group: Tensor) -> Tensor:
    """Return for every row the largest minus the smallest of `values` [N] in its group; exactly 0 for ties, [N]."""
    check_shapes("N N", values, group)
    index, count = group_index(group)
    extreme = values.new_zeros(count)
    largest = extreme.scatter_reduce(0, index, values, "amax", include_self=False)
    smallest = extreme.scatter_reduce(0, index, values, "amin", include_self=False)
    return (largest - smallest)[index]


def group_std(values: Tensor, group: Tensor, *, unbiased: bool = True) -> Tensor:
    """Return for every row the standard deviation of `values` [N] in its group; 0 for ties and groups of one, [N]."""
    squares = group_sum((values - group_mean(values, group)) ** 2, group)
    size = group_size(group) - int(unbiased)
    return torch.where(group_spread(values, group) > 0, squares / size.clamp(min=1), 0.0).sqrt()
