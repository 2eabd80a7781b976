import pytest
import torch

from pilotage.rewards.temporal_logic.windows import greatest_of_window


@pytest.mark.parametrize("tau", [None, 1.5])
@pytest.mark.parametrize("steps", [1, 5, 17])
def test_windows_of_every_width_are_those_of_a_loop(tau, steps):
    values = torch.randn(3, 17, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def greatest(window):
        return window.amax(-1) if tau is None else torch.logsumexp(tau * window, -1) / tau

    for lower in (0, 1, 4, 16, 30):
        for upper in (None, *range(lower, lower + 20)):
            found = greatest_of_window(values, lower, upper, steps, tau)
            for t in range(steps):
                begin = min(t + lower, 16)
                end = 17 if upper is None else max(t + upper + 1, begin + 1)
                torch.testing.assert_close(found[:, t], greatest(values[:, begin:end]))
