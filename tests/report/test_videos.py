from __future__ import annotations

import builtins

import numpy as np
import pytest

from pilotage.core.errors import UsageError
from pilotage.environments.control.drawing import GroundPlan
from pilotage.report.videos import paths_plot, write_strip, write_video


def frames(count: int = 12, size=(33, 41)) -> list[np.ndarray]:
    """A red square that moves to the right."""
    out = []
    for index in range(count):
        frame = np.full((*size, 3), 240, np.uint8)
        frame[10:20, 2 * index : 2 * index + 8] = (200, 20, 20)
        out.append(frame)
    return out


def centre(frame: np.ndarray) -> float:
    return float(np.argwhere(frame[..., 1] < 120)[:, 1].mean())


@pytest.mark.parametrize("ending", [".mp4", ".gif"])
def test_a_film_holds_the_frames_in_order(tmp_path, ending):
    imageio = pytest.importorskip("imageio.v2")
    pytest.importorskip("imageio_ffmpeg")
    path = write_video(frames(), tmp_path / f"new/film{ending}", fps=8)
    shown = [np.asarray(frame)[..., :3] for frame in imageio.mimread(path)]
    assert len(shown) == 12
    assert [centre(frame) for frame in shown] == pytest.approx([2 * i + 3.5 for i in range(12)], abs=1.0)
    if ending == ".mp4":
        assert imageio.get_reader(path).get_meta_data()["fps"] == pytest.approx(8)


def test_a_strip_shows_the_first_the_last_and_what_lies_between(tmp_path):
    from PIL import Image

    strip = np.asarray(Image.open(write_strip(frames(11), tmp_path / "strip.png", count=3, gap=5)))
    assert strip.shape == (33, 3 * 41 + 2 * 5, 3)
    for place, index in enumerate((0, 5, 10)):
        np.testing.assert_array_equal(strip[:, place * 46 : place * 46 + 41], frames(11)[index])
    one = write_strip(frames(2), tmp_path / "two.png", count=6)
    assert np.asarray(Image.open(one)).shape[1] == 2 * 41 + 4


@pytest.mark.parametrize(
    ("given", "path", "fps", "words"),
    [
        ([], "film.mp4", 10, "no frames"),
        (frames(2), "film.avi", 10, "ends in .mp4 or .gif"),
        (frames(2), "film.mp4", 0, "fps must be above 0"),
        ([*frames(1), *frames(1, (8, 8))], "film.mp4", 10, "of one size"),
        ([np.zeros((4, 4, 3))], "film.gif", 10, "uint8"),
    ],
)
def test_what_cannot_be_filmed_is_refused(tmp_path, given, path, fps, words):
    with pytest.raises(UsageError, match=words):
        write_video(given, tmp_path / path, fps)


@pytest.mark.parametrize(("package", "ending"), [("imageio", ".gif"), ("imageio_ffmpeg", ".mp4")])
def test_a_missing_package_names_the_line_that_installs_it(tmp_path, monkeypatch, package, ending):
    if package == "imageio_ffmpeg":
        pytest.importorskip("imageio")
    real = builtins.__import__

    def imported(name, *rest, **options):
        if name.split(".")[0] == package:
            raise ModuleNotFoundError(name=package)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", imported)
    with pytest.raises(UsageError, match=r"pip install 'pilotage\[robots\]'"):
        write_video(frames(), tmp_path / f"film{ending}")


def test_paths_are_drawn_over_the_map_and_the_file_is_the_same_again(tmp_path):
    plan = GroundPlan((-1, 1, -1, 1), boxes=[(-0.2, -0.2, 0.4, 0.4)], discs=[(0.5, 0.5, 0.1)], starts=[(-0.9, 0)])
    paths = [np.array([(-0.9, 0), (0, 0.5), (0.9, 0)]), np.array([(-0.9, 0), (-0.3, 0)])]
    options = {"labels": ["over", None], "successes": [True, False], "title": "two of them"}
    svg = paths_plot(paths, plan, tmp_path / "paths.svg", **options)
    again = paths_plot(paths, plan, tmp_path / "again.svg", **options)
    assert svg.read_bytes() == again.read_bytes()
    bare = paths_plot(paths[:1], plan, tmp_path / "bare.svg")
    assert svg.read_text().count("<path") > bare.read_text().count("<path") > 0
    with pytest.raises(UsageError, match="no paths"):
        paths_plot([], plan, tmp_path / "none.png")
