import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pilotage.objectives.denoising import chunk_error, fill_padding, needed_mask, step_mean, valid_mean, weighted_rows


def chunks(rows=4, steps=6, dims=2, seed=0):
    return torch.randn(rows, steps, dims, generator=torch.Generator().manual_seed(seed))


def edge_mask(rows, steps, before, after):
    mask = torch.ones(rows, steps, dtype=torch.bool)
    mask[:, :before] = False
    mask[:, steps - after :] = False
    return mask


@pytest.mark.parametrize("kind", ["squared", "absolute"])
@given(before=st.integers(0, 3), after=st.integers(0, 3), garbage=st.sampled_from([float("nan"), 1e30, -7.0]))
def test_what_stands_in_the_padding_changes_nothing(kind, before, after, garbage):
    mask = edge_mask(4, 6, before, after)
    output, target = chunks().requires_grad_(), chunks(seed=1)
    dirty = torch.where(mask[..., None], target, torch.full_like(target, garbage))
    clean_loss, dirty_loss = (chunk_error(output, t, mask, kind=kind) for t in (target, dirty))
    assert torch.equal(clean_loss, dirty_loss)
    gradients = [torch.autograd.grad(loss.sum(), output)[0] for loss in (clean_loss, dirty_loss)]
    assert torch.equal(*gradients)
    assert (gradients[0][~mask] == 0).all()


def test_a_missing_mask_raises():
    with pytest.raises(ValueError, match="without its mask"):
        chunk_error(chunks(), chunks(), None)
    with pytest.raises(ValueError, match="without its mask"):
        fill_padding(chunks(), None)
    with pytest.raises(ValueError, match="must be bool"):
        needed_mask(torch.ones(4, 6), chunks())
    with pytest.raises(ValueError, match="expected tensors of shapes"):
        needed_mask(torch.ones(4, 5, dtype=torch.bool), chunks())


def test_errors_are_means_over_real_actions_of_each_row():
    output, target = torch.zeros(2, 3, 2), torch.tensor([[[1.0, 3], [2, 2], [9, 9]], [[2.0, 0], [9, 9], [9, 9]]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert chunk_error(output, target, mask).tolist() == [(1 + 9 + 4 + 4) / 4, 2.0]
    assert chunk_error(output, target, mask, kind="absolute").tolist() == [2.0, 1.0]
    assert chunk_error(output, target, torch.zeros(2, 3, dtype=torch.bool)).tolist() == [0, 0]
    with pytest.raises(ValueError, match="kind"):
        chunk_error(output, target, mask, kind="huber")


def test_padding_repeats_the_nearest_real_action():
    chunk = torch.arange(6.0).view(1, 6, 1)
    mask = torch.tensor([[False, False, True, True, False, False]])
    assert fill_padding(chunk, mask).flatten().tolist() == [2, 2, 2, 3, 3, 3]
    mask = torch.tensor([[True, False, True, True, True, True]])
    assert fill_padding(chunk, mask).flatten().tolist() == [0, 0, 2, 3, 4, 5]
    nothing = torch.full_like(chunk, float("nan"))
    assert fill_padding(nothing, torch.zeros(1, 6, dtype=torch.bool)).eq(0).all()


def test_step_mean_and_row_weights():
    values = torch.tensor([[1.0, float("nan")], [2.0, 4.0]])
    mask = torch.tensor([[True, False], [True, True]])
    assert step_mean(values, mask).tolist() == [1.0, 3.0]
    weighted = weighted_rows(torch.tensor([2.0, 3.0]), torch.tensor([0.5, 2.0], dtype=torch.float64))
    assert weighted.dtype == torch.float32
    assert weighted.tolist() == [1.0, 6.0]


def test_rows_that_are_not_valid_reach_neither_loss_nor_gradient():
    loss = torch.tensor([1.0, float("nan"), 3.0, 1e30], requires_grad=True)
    valid = torch.tensor([True, False, True, False])
    mean = valid_mean(loss, valid)
    assert mean == 2
    mean.backward()
    assert loss.grad.tolist() == [0.5, 0, 0.5, 0]
    assert valid_mean(loss, torch.zeros(4, dtype=torch.bool)) == 0
    with pytest.raises(ValueError, match="bool"):
        valid_mean(loss.detach(), valid.float())
