import pytest
import torch

from pilotage.objectives.shapes import answer_mean, check_shapes, masked, per_token


def test_expect_accepts_what_it_says_and_skips_what_is_absent():
    check_shapes("N N,T 3 N", torch.zeros(2), torch.zeros(2, 5), torch.zeros(3), None)


@pytest.mark.parametrize("given", [(torch.zeros(2), torch.zeros(3)), (torch.zeros(2), torch.zeros(2, 1))])
def test_expect_names_what_was_given_and_what_was_expected(given):
    with pytest.raises(ValueError, match=r"expected tensors of shapes 'N N', got \[2\]"):
        check_shapes("N N", *given)


def test_a_mask_of_numbers_is_refused():
    with pytest.raises(ValueError, match="must be bool"):
        masked(torch.zeros(2, 2), torch.ones(2, 2))


def test_an_advantage_per_answer_is_spread_over_its_tokens():
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert per_token(torch.tensor([2.0, 3.0]), mask).tolist() == [[2, 2, 0], [3, 0, 0]]


def test_the_mean_of_an_empty_answer_is_zero():
    values = torch.tensor([[1.0, 3.0], [torch.nan, torch.nan]])
    assert answer_mean(values, torch.tensor([[True, True], [False, False]])).tolist() == [2, 0]
