import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pilotage.objectives.divergences import AdaptiveKL, entropy_from_logits, k1, k2, k3, k3_plus

ESTIMATORS = {"k1": k1, "k2": k2, "k3": k3, "k3_plus": k3_plus}
MASK = torch.tensor([[True]])


def column(value):
    return torch.tensor([[value]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "expected"), [("k1", 0.693147), ("k2", 0.240227), ("k3", 0.193147), ("k3_plus", 0.193147)]
)
def test_reference_values(name, expected):
    value = ESTIMATORS[name](column(math.log(0.5)), column(math.log(0.25)), MASK)
    assert value.item() == pytest.approx(expected, abs=5e-7)


@pytest.fixture
def policies():
    """A policy with gradient, a reference, and the exact KL between them, over a vocabulary of 6."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, generator=generator, dtype=torch.float64).requires_grad_()
    reference = torch.randn(6, generator=generator, dtype=torch.float64).log_softmax(-1)
    logp = logits.log_softmax(-1)
    return logits, logp, reference, (logp.exp() * (logp - reference)).sum()


@pytest.mark.parametrize("name", ["k1", "k3", "k3_plus"])
def test_unbiased_estimators_average_to_the_divergence(policies, name):
    _, logp, reference, exact = policies
    mask = torch.ones(1, 6, dtype=torch.bool)
    mean = (logp.exp().detach() * ESTIMATORS[name](logp[None], reference[None], mask)[0]).sum()
    assert mean.item() == pytest.approx(exact.item())


@pytest.mark.parametrize(("name", "right"), [("k2", True), ("k3_plus", True), ("k3", False), ("k1", False)])
def test_which_estimators_have_the_gradient_of_the_divergence(policies, name, right):
    logits, logp, reference, exact = policies
    mask = torch.ones(1, 6, dtype=torch.bool)
    loss = (logp.exp().detach() * ESTIMATORS[name](logp[None], reference[None], mask)[0]).sum()
    ours = torch.autograd.grad(loss, logits, retain_graph=True)[0]
    theirs = torch.autograd.grad(exact, logits)[0]
    assert torch.allclose(ours, theirs) == right


@given(st.floats(-50, 50))
def test_k3_is_never_negative_and_limits_hold(d):
    value = k3(column(d), column(0.0), MASK, limit=20.0, ceiling=10.0).item()
    assert 0 <= value <= 10
    assert abs(k1(column(d), column(0.0), MASK, limit=20.0).item()) <= 20


def test_the_reference_gets_no_gradient():
    reference = column(0.3).requires_grad_()
    for estimator in ESTIMATORS.values():
        loss = estimator(column(0.5).requires_grad_(), reference, MASK).sum()
        loss.backward()
    assert reference.grad is None


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=8))
def test_entropy_equals_that_of_the_distribution(logits):
    tensor = torch.tensor(logits, dtype=torch.float64)
    expected = torch.distributions.Categorical(logits=tensor).entropy()
    torch.testing.assert_close(entropy_from_logits(tensor), expected, rtol=1e-6, atol=1e-9)


def test_impossible_tokens_do_not_spoil_the_entropy():
    logits = torch.tensor([0.0, 0.0, -torch.inf], requires_grad=True)
    entropy = entropy_from_logits(logits)
    entropy.backward()
    assert entropy.item() == pytest.approx(math.log(2))
    assert logits.grad.isfinite().all()


def test_the_controller_moves_towards_its_target():
    controller = AdaptiveKL(coefficient=0.1, target=0.1, horizon=1000)
    assert controller.update(kl=0.1, samples=100) == pytest.approx(0.1)
    assert controller.update(kl=9.0, samples=100) == pytest.approx(0.1 * 1.02)
    assert controller.update(kl=0.0, samples=100) == pytest.approx(0.1 * 1.02 * 0.98)
    other = AdaptiveKL(target=0.1, horizon=1000)
    other.load_state_dict(controller.state_dict())
    assert other.update(kl=0.11, samples=50) == controller.update(kl=0.11, samples=50)
    with pytest.raises(ValueError, match="above 0"):
        AdaptiveKL(target=0.0)
