"""Every estimator against the exact expectation: all outcomes are enumerated, nothing is sampled."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotage.objectives import discrete_gradients as dg

PROBABILITY = st.floats(0.02, 0.98)
COEFFICIENTS = st.tuples(*[st.floats(-3, 3)] * 3)


def polynomial(c, x):
    return c[0] + c[1] * x + c[2] * x**2


def moments(outcomes, chances, estimator, loss, parameter):
    """Mean and variance of the gradient of loss(estimator(outcome, parameter)) over all outcomes."""
    gradients = []
    for outcome in outcomes:
        p = torch.tensor(parameter, dtype=torch.float64, requires_grad=True)
        x = estimator(torch.tensor(outcome, dtype=torch.float64), p)
        assert x.item() == outcome
        gradients.append(torch.autograd.grad(loss(x) + 0 * p, p)[0].item())
    mean = sum(c * g for c, g in zip(chances, gradients, strict=True))
    return mean, sum(c * (g - mean) ** 2 for c, g in zip(chances, gradients, strict=True))


def binomial(n, p):
    return [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]


def derivative(mean_of, p, step=1e-5):
    return (mean_of(p + step) - mean_of(p - step)) / (2 * step)


@given(p=PROBABILITY, c=COEFFICIENTS)
def test_smoothed_bernoulli_is_unbiased_for_quadratics_and_straight_through_only_for_what_is_linear(p, c):
    def loss(x):
        return polynomial(c, x)

    truth = c[1] + c[2]
    mean, _ = moments([0, 1], [1 - p, p], dg.smoothed_bernoulli, loss, p)
    assert mean == pytest.approx(truth, abs=1e-9)
    mean, _ = moments([0, 1], [1 - p, p], dg.straight_through, loss, p)
    assert mean - truth == pytest.approx(c[2] * (2 * p - 1), abs=1e-9)


@given(p=PROBABILITY, c=COEFFICIENTS)
def test_left_bernoulli_differentiates_the_loss_where_it_happened(p, c):
    mean, _ = moments([0, 1], [1 - p, p], dg.left_bernoulli, lambda x: polynomial(c, x), p)
    assert mean == pytest.approx(c[1] + 2 * c[2], abs=1e-9)
    assert mean - (c[1] + c[2]) == pytest.approx(c[2], abs=1e-9)  # exact for what is linear


@given(p=PROBABILITY)
def test_variances_of_a_linear_loss_are_ordered(p):
    _, of_straight = moments([0, 1], [1 - p, p], dg.straight_through, lambda x: x, p)
    _, of_smoothed = moments([0, 1], [1 - p, p], dg.smoothed_bernoulli, lambda x: x, p)
    scores = [-1 / (1 - p), 1 / p]
    of_score = sum(w * (x * s - 1) ** 2 for w, x, s in zip([1 - p, p], [0, 1], scores, strict=True))
    assert of_straight == 0
    assert of_smoothed == pytest.approx((1 / p + 1 / (1 - p)) / 4 - 1, abs=1e-9)
    assert of_score >= of_straight


@given(p=PROBABILITY, c=COEFFICIENTS, n=st.integers(1, 6))
def test_smoothed_binomial_is_unbiased_for_quadratics(p, c, n):
    mean, _ = moments(
        range(n + 1), binomial(n, p), lambda x, q: dg.smoothed_binomial(x, q, n), lambda x: polynomial(c, x), p
    )
    truth = n * c[1] + c[2] * (n + 2 * n * (n - 1) * p)
    assert mean == pytest.approx(truth, abs=1e-8)


@settings(max_examples=12)
@given(p=st.floats(0.3, 0.95), c=COEFFICIENTS)
def test_smoothed_geometric_is_unbiased_for_quadratics(p, c):
    outcomes = range(150)
    mean, _ = moments(
        outcomes, [p * (1 - p) ** k for k in outcomes], dg.smoothed_geometric, lambda x: polynomial(c, x), p
    )
    truth = derivative(lambda q: sum(q * (1 - q) ** k * polynomial(c, k) for k in range(150)), p)
    assert mean == pytest.approx(truth, rel=1e-5, abs=1e-5)


@given(weights=st.lists(st.floats(0.05, 1), min_size=2, max_size=5), seed=st.integers(0, 99))
def test_categorical_estimators_against_enumeration(weights, seed):
    """Quadratic losses of the one-hot sample: smoothed is exact, straight-through for the linear part alone."""
    classes = len(weights)
    generator = torch.Generator().manual_seed(seed)
    linear = torch.randn(classes, dtype=torch.float64, generator=generator)
    square = torch.randn(classes, classes, dtype=torch.float64, generator=generator)
    logits = torch.tensor(weights, dtype=torch.float64).log()

    def loss(y, quadratic):
        return linear @ y + quadratic * y @ square @ y

    def gradient(estimator, quadratic):
        total = torch.zeros_like(logits)
        for k in range(classes):
            z = logits.clone().requires_grad_()
            p = torch.softmax(z, -1)
            y = torch.nn.functional.one_hot(torch.tensor(k), classes)
            total += p[k].detach() * torch.autograd.grad(loss(estimator(y, p), quadratic), z)[0]
        return total

    def truth(quadratic):
        z = logits.clone().requires_grad_()
        values = torch.stack([loss(torch.eye(classes, dtype=torch.float64)[k], quadratic) for k in range(classes)])
        return torch.autograd.grad(torch.softmax(z, -1) @ values, z)[0]

    assert torch.allclose(gradient(dg.smoothed_categorical, 1.0), truth(1.0), atol=1e-9)
    assert torch.allclose(gradient(dg.straight_through, 0.0), truth(0.0), atol=1e-9)


def chain(estimator, p, first, second, loss):
    """A second draw whose probability depends on the first, p/2 or p."""
    x = estimator(torch.tensor(first, dtype=torch.float64), p)
    q = p * (1 + x) / 2
    return loss(x, estimator(torch.tensor(second, dtype=torch.float64), q))


def chances(p, first, second):
    q = p * (1 + first) / 2
    return (p if first else 1 - p) * (q if second else 1 - q)


@pytest.mark.parametrize("estimator", [dg.straight_through, dg.smoothed_bernoulli, dg.left_bernoulli])
@pytest.mark.parametrize("p", [0.1, 0.6])
def test_gradients_pass_through_a_draw_that_decides_the_next_ones_probability(estimator, p):
    """Infections today decide tomorrow's: E of the second is p(1 + p)/2, whose derivative is (1 + 2p)/2."""
    total = 0.0
    for first in (0, 1):
        for second in (0, 1):
            parameter = torch.tensor(p, dtype=torch.float64, requires_grad=True)
            out = chain(estimator, parameter, first, second, lambda _, y: y)
            total += chances(p, first, second) * torch.autograd.grad(out, parameter)[0].item()
    assert total == pytest.approx((1 + 2 * p) / 2, abs=1e-12)


@given(p=st.floats(0.05, 0.95), values=st.lists(st.floats(-5, 5), min_size=4, max_size=4), base=st.floats(-5, 5))
def test_the_score_function_is_unbiased_for_any_loss_and_any_baseline(p, values, base):
    total, expected = 0.0, torch.tensor(0.0, dtype=torch.float64)
    parameter, other = (torch.tensor(p, dtype=torch.float64, requires_grad=True) for _ in range(2))
    for first in (0, 1):
        for second in (0, 1):
            loss = torch.tensor(values[2 * first + second], dtype=torch.float64)
            q = parameter * (1 + first) / 2
            log_p = dg.bernoulli_log_probability(torch.tensor(first), parameter) + dg.bernoulli_log_probability(
                torch.tensor(second), q
            )
            surrogate = dg.score_function(log_p, loss, base)
            assert surrogate.item() == pytest.approx(loss.item())
            total += chances(p, first, second) * torch.autograd.grad(surrogate, parameter)[0].item()
            again = other * (1 + first) / 2
            expected = expected + (other if first else 1 - other) * (again if second else 1 - again) * loss
    assert total == pytest.approx(torch.autograd.grad(expected, other)[0].item(), abs=1e-9)


def test_the_others_mean_lowers_the_variance_of_the_score_function_and_keeps_its_mean():
    """Two independent draws with loss 10 + x: enumerate all four pairs."""
    p = 0.3
    results = {}
    for name in ("none", "others"):
        gradients, weights = [], []
        for a in (0, 1):
            for b in (0, 1):
                parameter = torch.tensor([p, p], dtype=torch.float64, requires_grad=True)
                x = torch.tensor([a, b], dtype=torch.float64)
                loss = 10 + x
                log_p = dg.bernoulli_log_probability(x, parameter)
                baseline = dg.mean_of_others(loss) if name == "others" else 0.0
                surrogate = dg.score_function(log_p, loss, baseline).mean()
                gradients.append(torch.autograd.grad(surrogate, parameter)[0].sum().item())
                weights.append((p if a else 1 - p) * (p if b else 1 - p))
        mean = sum(w * g for w, g in zip(weights, gradients, strict=True))
        results[name] = mean, sum(w * (g - mean) ** 2 for w, g in zip(weights, gradients, strict=True))
    assert results["none"][0] == pytest.approx(1) == results["others"][0]
    assert results["others"][1] < results["none"][1] / 20


def test_gumbel_softmax_nears_the_categorical_and_hard_samples_are_one_hot():
    logits = torch.tensor([0.2, 1.0, -0.5], dtype=torch.float64)
    side = (torch.arange(48, dtype=torch.float64) + 0.5) / 48
    grid = torch.cartesian_prod(side, side, side)
    cold = dg.gumbel_softmax(logits.expand_as(grid), grid, temperature=0.01)
    assert torch.allclose(cold.mean(0), torch.softmax(logits, -1), atol=0.01)
    warm = logits.expand_as(grid).clone().requires_grad_()
    hard = dg.gumbel_softmax(warm, grid, temperature=0.7, hard=True)
    assert torch.equal(hard.sort(-1).values, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand_as(hard))
    soft_gradient = torch.autograd.grad(dg.gumbel_softmax(warm, grid, temperature=0.7)[:, 0].sum(), warm)[0]
    assert torch.allclose(torch.autograd.grad(hard[:, 0].sum(), warm)[0], soft_gradient)
    assert dg.gumbel_softmax(logits, torch.zeros(3), temperature=1.0).isfinite().all()


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_certain_draws_have_finite_gradients(p):
    probability = torch.full((2,), p, dtype=torch.float64, requires_grad=True)
    sample = torch.full((2,), p, dtype=torch.float64)
    for estimator in (dg.straight_through, dg.left_bernoulli, dg.smoothed_bernoulli, dg.bernoulli_log_probability):
        gradient = torch.autograd.grad(estimator(sample, probability).sum(), probability)[0]
        assert gradient.isfinite().all()


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        dg.straight_through(torch.zeros(3), torch.zeros(2))
    with pytest.raises(ValueError, match="N ≥ 2"):
        dg.mean_of_others(torch.zeros(1))
    with pytest.raises(ValueError, match="above 0"):
        dg.gumbel_softmax(torch.zeros(2), torch.zeros(2), temperature=0)
