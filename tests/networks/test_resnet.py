import pytest
import torch

from pilotage.core.errors import UsageError
from pilotage.networks.resnet import ImageFeatures, ResNet18, expected_coordinates


def test_it_has_the_parameters_of_the_published_network():
    """11,689,512 with its classifier of 512·1000 + 1000; GroupNorm has as many as BatchNorm."""
    with torch.device("meta"):
        network = ResNet18()
    assert sum(p.numel() for p in network.parameters()) == 11_689_512 - 513_000


def test_it_shrinks_images_thirty_two_times():
    network = ResNet18(3, widths=(16, 16, 32, 32))
    assert network(torch.rand(2, 3, 96, 128)).shape == (2, 32, 3, 4)
    with pytest.raises(UsageError, match=r"expected \[batch, 3, height, width\]"):
        network(torch.rand(2, 1, 96, 96))
    with pytest.raises(UsageError, match="multiples of channels_per_group"):
        ResNet18(widths=(8, 16, 16, 16))


def test_a_row_does_not_depend_on_the_batch_in_training_either():
    network, image = ImageFeatures(widths=(16, 16, 16, 16), keypoints=4, features=8), torch.rand(3, 3, 64, 64)
    assert network.training
    torch.testing.assert_close(network(image)[:1], network(image[:1]))


@pytest.mark.parametrize(("row", "column", "x", "y"), [(0, 0, -1, -1), (4, 2, 0, 1), (2, 4, 1, 0)])
def test_the_spatial_softmax_says_where_a_map_is_high(row, column, x, y):
    maps = torch.zeros(1, 1, 5, 5)
    maps[0, 0, row, column] = 50
    torch.testing.assert_close(expected_coordinates(maps), torch.tensor([[float(x), float(y)]]))
    torch.testing.assert_close(expected_coordinates(torch.zeros(1, 2, 5, 7)), torch.zeros(1, 4))


def test_images_that_leave_no_place_to_tell_apart_are_refused():
    with pytest.raises(UsageError, match="more than 32 pixels"):
        ImageFeatures(widths=(16, 16, 16, 16))(torch.rand(1, 3, 32, 64))


def test_it_learns_where_a_spot_is():
    torch.manual_seed(0)
    network = ImageFeatures(1, features=2, keypoints=8, widths=(16, 16, 16, 16))
    place = torch.randint(4, 60, (16, 2), generator=torch.Generator().manual_seed(0))
    image = torch.zeros(16, 1, 64, 64)
    for n, (row, column) in enumerate(place.tolist()):
        image[n, 0, row - 4 : row + 4, column - 4 : column + 4] = 1
    optimiser, target = torch.optim.Adam(network.parameters(), lr=3e-3), place / 32 - 1
    for _ in range(40):
        loss = (network(image) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.3 * target.var().item()
