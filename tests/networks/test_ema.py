import pytest
import torch
from torch import nn

from pilotage.core.errors import UsageError
from pilotage.networks.ema import AveragedWeights


def walked(module, average, steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator))
        average.update(module)


def test_the_decay_grows_from_zero_to_its_cap():
    average = AveragedWeights(nn.Linear(2, 1))
    assert average.decay_at(0) == 0
    assert average.decay_at(15) == pytest.approx(1 - 16**-0.75)
    assert average.decay_at(10**9) == 0.9999
    assert AveragedWeights(nn.Linear(2, 1), decay=0.9).decay_at(0) == 0.9
    with pytest.raises(UsageError, match="below 1"):
        AveragedWeights(nn.Linear(2, 1), decay=1.0)


def test_it_agrees_with_diffusers():
    training_utils = pytest.importorskip("diffusers.training_utils")
    module = nn.Linear(3, 2)
    theirs = training_utils.EMAModel(module.parameters(), decay=0.9999, use_ema_warmup=True, power=0.75)
    ours, generator = AveragedWeights(module), torch.Generator().manual_seed(0)
    for _ in range(20):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator))
        theirs.step(module.parameters())
        ours.update(module)
    for shadow, mine in zip(theirs.shadow_params, ours.weights.values(), strict=True):
        torch.testing.assert_close(mine, shadow, rtol=0, atol=1e-5)


def test_a_constant_decay_is_a_geometric_mean_of_the_past():
    module = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        module.weight.fill_(0.0)
        average = AveragedWeights(module, decay=0.5)
        for value in (1.0, 2.0, 3.0):
            module.weight.fill_(value)
            average.update(module)
    assert average.weights["weight"].item() == 0.5 * 3 + 0.25 * 2 + 0.125 * 1


def test_swapping_in_evaluates_the_average_and_gives_the_weights_back():
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = AveragedWeights(module, decay=0.9)
    walked(module, average, 3)
    own = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with average.swapped_in(module):
        assert torch.equal(module[0].weight, average.weights["0.weight"])
        assert not torch.equal(module[0].weight, own["0.weight"])
    assert all(torch.equal(tensor, own[name]) for name, tensor in module.state_dict().items())
    with pytest.raises(IndexError), average.swapped_in(module):
        module[7]
    assert all(torch.equal(tensor, own[name]) for name, tensor in module.state_dict().items())


def test_buffers_are_copied():
    module = nn.BatchNorm1d(2)
    average = AveragedWeights(module, decay=0.9)
    module.running_mean.fill_(7.0)
    module.num_batches_tracked.fill_(3)
    average.update(module)
    assert average.weights["running_mean"].tolist() == [7, 7]
    assert average.weights["num_batches_tracked"].item() == 3


def test_a_restored_average_goes_on_as_if_undisturbed():
    module, average = nn.Linear(2, 1), None
    average = AveragedWeights(module)
    walked(module, average, 5)
    copy, state = nn.Linear(2, 1), average.state_dict()
    copy.load_state_dict(module.state_dict())
    restored = AveragedWeights(copy)
    restored.load_state_dict(state)
    walked(module, average, 5, seed=1)
    walked(copy, restored, 5, seed=1)
    assert torch.equal(restored.weights["weight"], average.weights["weight"])
    with pytest.raises(UsageError, match="another module"):
        AveragedWeights(nn.Linear(3, 1)).load_state_dict(state)
