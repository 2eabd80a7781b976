import math

import pytest
import torch

from pilotage.objectives.preference import dpo_loss


def test_the_loss_is_ln_two_when_the_policy_is_the_reference():
    chosen, rejected = torch.tensor([-3.0, -20.0]), torch.tensor([-4.0, -1.0])
    for smoothing in (0.0, 0.2):
        loss = dpo_loss(chosen, rejected, chosen, rejected, label_smoothing=smoothing)
        assert loss.tolist() == pytest.approx([math.log(2)] * 2, abs=1e-6)


def test_the_loss_falls_with_the_margin_over_the_reference():
    margin = 1.5 - (-0.5)
    loss = dpo_loss(torch.tensor([-1.5]), torch.tensor([-4.5]), torch.tensor([-3.0]), torch.tensor([-4.0]), beta=0.3)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-0.3 * margin)))
