import pytest
import torch

from pilotage.objectives.penalties import kl_in_reward, kl_in_score, overlong, score_on_last_token

MASK = torch.tensor([[True, True, False], [False, True, True], [True, False, True], [False, False, False]])
REWARD = torch.tensor([1.0, 2, 3, 4])


def test_the_score_stands_on_the_last_token_of_the_policy():
    assert score_on_last_token(REWARD, MASK).tolist() == [[0, 1, 0], [0, 0, 2], [0, 0, 3], [0, 0, 0]]


def test_the_divergence_is_taken_off_token_by_token():
    old = torch.where(MASK, 0.5, torch.nan)
    reference = torch.where(MASK, 0.2, torch.nan)
    expected = [[-0.03, 0.97, 0], [0, -0.03, 1.97], [-0.03, 0, 2.97], [0, 0, 0]]
    torch.testing.assert_close(kl_in_reward(REWARD, old, reference, MASK, coefficient=0.1), torch.tensor(expected))
    score = kl_in_score(REWARD[:3], old[:3], reference[:3], MASK[:3], coefficient=0.1)
    torch.testing.assert_close(score, torch.tensor([0.94, 1.94, 2.94]))


def test_reference_overlong_penalty():
    lengths = torch.tensor([3, 15, 17, 20, 21])
    assert overlong(lengths, maximum=20, buffer=5).tolist() == pytest.approx([0, 0, -0.4, -1, -1])
    assert overlong(lengths, maximum=20, buffer=5, factor=2.0)[2].item() == pytest.approx(-0.8)


@pytest.mark.parametrize("buffer", [0, 21])
def test_a_buffer_that_does_not_fit_is_refused(buffer):
    with pytest.raises(ValueError, match="0 < buffer ≤ maximum"):
        overlong(torch.tensor([1]), maximum=20, buffer=buffer)
