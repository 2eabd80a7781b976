import pytest
import torch
from toys import generator, small_mlp, unknown

from pilotage.core.errors import UsageError
from pilotage.objectives.noise_paths import VariancePreserving
from pilotage.policies.control.condition import Condition
from pilotage.policies.control.heads.denoiser import Denoiser
from pilotage.policies.control.heads.direct import Mixture
from pilotage.policies.control.heads.energy import EnergyByDescent
from pilotage.policies.control.sampling.guidance import BestOf, chained, classifier_free, holding, uphill

X, LEVEL = torch.randn(4, 2, 1, generator=generator(9)), torch.full((4,), 3)


def counting(answer):
    calls = []

    def denoise(x, level):
        calls.append(level)
        return answer(x)

    return denoise, calls


@pytest.mark.parametrize(("weight", "conditional", "free"), [(1, 1, 0), (0, 0, 1), (1.5, 1, 1), (2.0, 1, 1)])
def test_classifier_free_guidance_extrapolates_and_calls_what_it_needs(weight, conditional, free):
    (with_goal, calls), (goal_free, free_calls) = counting(lambda x: x + 1), counting(lambda x: 2 * x)
    guided = classifier_free(goal_free, weight)(with_goal)(X, LEVEL)
    torch.testing.assert_close(guided, 2 * X + weight * (X + 1 - 2 * X))
    assert (len(calls), len(free_calls)) == (conditional, free)


def test_weights_one_and_zero_are_the_plain_denoisers_bit_for_bit():
    head = Denoiser(small_mlp(), VariancePreserving(10)).eval()
    goal, none = Condition(torch.ones(4, 1)), unknown(4)
    for weight, plain in ((1, goal), (0, none)):
        guide = classifier_free(head.denoiser(none), weight)
        assert torch.equal(head.sample(goal, generator(), None, guide), head.sample(plain, generator()))


def test_gradient_guidance_moves_up_the_score_within_its_bound_and_in_both_directions():
    target = torch.tensor([1.0, -1.0, 0.05, -0.05])[:, None, None].expand(4, 2, 1)
    denoise, _ = counting(torch.zeros_like)

    def score(clean):
        return -(clean - target).square().sum((1, 2))

    change = uphill(score, step=0.3, bound=0.1)(denoise)(X, LEVEL)
    torch.testing.assert_close(change[:, 0, 0], torch.tensor([0.1, -0.1, 0.03, -0.03]))
    free = uphill(score, step=0.3, rounds=20)(denoise)(X, LEVEL)
    torch.testing.assert_close(free, target, rtol=0, atol=1e-4)


def test_gradient_guidance_keeps_to_the_levels_it_is_for():
    denoise, _ = counting(torch.zeros_like)
    guided = uphill(lambda clean: clean.sum((1, 2)), step=1.0, below=10)(denoise)
    assert guided(X, torch.tensor([9, 10, 50, 0]))[:, 0, 0].tolist() == [1, 0, 0, 1]


def test_held_entries_are_seen_and_answered_as_they_are():
    seen = []

    def denoise(x, _):
        seen.append(x)
        return x * 2

    known = torch.tensor([True, False])[None, :, None].expand(4, 2, 1)
    out = holding(torch.full((4, 2, 1), 7.0), known)(denoise)(X, LEVEL)
    assert (seen[0][:, 0] == 7).all()
    assert torch.equal(seen[0][:, 1], X[:, 1])
    assert (out[:, 0] == 7).all()
    assert torch.equal(out[:, 1], 2 * X[:, 1])


def test_guides_are_put_around_one_another():
    denoise, _ = counting(lambda x: x)

    def plus(one):
        return lambda x, level: one(x, level) + 1

    def twice(one):
        return lambda x, level: one(x, level) * 2

    torch.testing.assert_close(chained(plus, twice)(denoise)(X, LEVEL), (X + 1) * 2)


def test_the_best_of_several_is_the_one_of_the_highest_score():
    inner = Mixture(small_mlp(outputs=6), modes=2, low_noise=False).eval()
    head = BestOf(inner, count=16, score=lambda chunk, _: chunk[:, 0, 0])
    rows = [generator(1), generator(2)]
    best = head.sample(unknown(2), rows)
    drawn = inner.sample(unknown(32), [g for seed in (1, 2) for g in [generator(seed)] for _ in range(16)])
    assert torch.equal(best[:, 0, 0], drawn.view(2, 16, 2)[..., 0].amax(1))
    assert torch.equal(best[1:], head.sample(unknown(1), [generator(2)]))


def test_without_a_score_the_lowest_energy_is_kept():
    inner = EnergyByDescent(small_mlp(takes_level=False), steps=1).eval()
    best = BestOf(inner, count=32).sample(unknown(1), generator(1))
    many = inner.sample(unknown(32), generator(1))
    assert torch.equal(best[0], many[inner.energy(many, unknown(32)).argmin()])
    with pytest.raises(UsageError, match="no energy to choose by"):
        BestOf(Mixture(small_mlp(outputs=6), modes=2))
    with pytest.raises(UsageError, match="guide the head within"):
        BestOf(inner).sample(unknown(1), generator(), None, lambda d: d)
