"""Energies are compared with those of known observations."""

import pytest
import torch

from pilotage.core.errors import UsageError
from pilotage.systems.robots.ebt_policy.confidence import EnergyConfidence


def test_quantiles_scores_and_alarms(tmp_path):
    known = torch.arange(1001, dtype=torch.float64)
    fitted = EnergyConfidence.fitted(known)
    asked = torch.tensor([500.0, 0.0, 2000.0])
    torch.testing.assert_close(fitted.z(asked)[0], torch.tensor(0.0, dtype=torch.float64))
    torch.testing.assert_close(fitted.share_below(asked), torch.tensor([0.5, 0.0, 1.0]))
    assert fitted.odd(torch.tensor([980.0, 995.0])).tolist() == [False, True]
    fitted.save(tmp_path / "confidence.json")
    assert EnergyConfidence.load(tmp_path / "confidence.json") == fitted


def test_bad_input(tmp_path):
    with pytest.raises(UsageError, match="20 or more"):
        EnergyConfidence.fitted(torch.zeros(3))
    with pytest.raises(UsageError, match="calibrate"):
        EnergyConfidence.load(tmp_path / "confidence.json")
    with pytest.raises(UsageError, match="false_alarms"):
        EnergyConfidence.fitted(torch.arange(30.0)).odd(torch.zeros(1), false_alarms=0)
