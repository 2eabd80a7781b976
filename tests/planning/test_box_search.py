import pytest
import torch

from pilotage.core.errors import UsageError
from pilotage.planning.box_search import ascend, cma_es, enumerate_grid, pattern_search, restarts


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def bowl(*centre):
    """Best at the centre, 0 there."""
    at = torch.tensor(centre, dtype=torch.float64)
    return lambda points: -(points - at).square().sum(-1)


def start(dimensions, value=50.0):
    return torch.full((dimensions,), value, dtype=torch.float64)


def test_enumeration_meets_every_point_once_in_order():
    found = enumerate_grid(bowl(20, 60), [0, 20, 60], 2, batch=4)
    assert found.points.tolist() == [[a, b] for a in (0, 20, 60) for b in (0, 20, 60)]
    assert found.point.tolist() == [20, 60]
    assert found.evaluations == 9
    with pytest.raises(UsageError, match="ten million"):
        enumerate_grid(bowl(0), range(11), 7)


def test_pattern_search_stays_in_the_box_and_finds_a_corner():
    found = pattern_search(bowl(130, 20, -40), start(3))
    assert found.point.tolist() == [100, 20, 0]
    assert found.points.min() >= 0
    assert found.points.max() <= 100
    assert len(found.points.unique(dim=0)) == found.evaluations


def test_evaluations_are_a_limit():
    assert pattern_search(bowl(90, 90, 90), start(3), evaluations=4).evaluations == 4
    assert cma_es(bowl(90, 90, 90), start(3), generator(), evaluations=20).evaluations <= 20


def test_cma_es_follows_a_turned_narrow_valley():
    turn = torch.linalg.qr(torch.randn(5, 5, generator=generator(3), dtype=torch.float64)).Q
    width = torch.tensor([1.0, 3, 10, 30, 100], dtype=torch.float64)

    def valley(points):
        return -(((points - 42) @ turn) * width).square().sum(-1)

    found = cma_es(valley, start(5, 60.0), generator(), evaluations=2000)
    assert found.value > -1e-3
    assert (found.point - 42).abs().max() < 0.05


def test_cma_es_finds_a_corner_and_stays_inside():
    found = cma_es(bowl(130, 20, -40), start(3), generator(), evaluations=600)
    assert found.point.tolist() == pytest.approx([100, 20, 0], abs=0.1)
    assert found.points.max() <= 100


def test_ascent_reaches_the_top_and_the_border():
    found = ascend(bowl(130, 20), start(2)[None], steps=200)
    assert found.point.tolist() == pytest.approx([100, 20], abs=0.3)
    with pytest.raises(UsageError, match="no gradient"):
        ascend(lambda points: points.detach().sum(-1), start(2)[None])


def test_restarts_keep_the_best_of_all():
    def two_hills(points):
        return torch.maximum(-(points[:, 0] - 10).abs(), 5 - (points[:, 0] - 90).abs())

    starts = torch.tensor([[0.0], [100.0]], dtype=torch.float64)
    found = restarts(lambda s: pattern_search(two_hills, s), starts)
    assert found.point.tolist() == [90]
    assert found.evaluations == len(found.points) > 4


def test_scores_that_are_no_numbers_are_refused():
    with pytest.raises(UsageError, match="one number for each"):
        pattern_search(lambda points: torch.full((len(points),), float("nan")), start(2))
    with pytest.raises(UsageError, match="one number for each"):
        enumerate_grid(lambda points: points, [0, 1], 2)
