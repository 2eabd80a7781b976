"""`pilotage play` on a trained control policy, and its pictures in the report."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("gymnasium", reason="control environments need pilotage[robots]")

WORDS = (
    "run bc-mlp --network residual_mlp:width=8,depth=1 --demonstrations 2 --validation 0 --steps 2 --batch 4 "
    "--evaluation-episodes 2 --evaluation-steps 10 --videos 1 --out here"
)


@pytest.fixture
def trained(pilotage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("PILOTAGE_HOME", str(tmp_path / "home"))
    code, out, err = pilotage(*WORDS.split())
    assert code == 0, (out, err)
    return Path("here")


def test_episodes_are_filmed_and_their_paths_drawn(pilotage, trained: Path) -> None:
    pytest.importorskip("imageio", reason="films need pilotage[robots]")
    code, out, err = pilotage("play", str(trained), "--episodes", "2", "--kind", "gif", "--seed", "7")
    assert code == 0, err
    played = sorted(path.name for path in (trained / "played").iterdir())
    assert played == ["episode-0.gif", "episode-0.png", "episode-1.gif", "episode-1.png", "paths.png"]
    assert "seed 7" in out
    assert "seed 8" in out


def test_the_report_shows_episodes_instead_of_completions(pilotage, trained: Path) -> None:
    code, out, err = pilotage("report", str(trained))
    assert code == 0, err
    page = Path(out.strip()).read_text()
    assert len(re.findall(r'<img src="data:image/png;base64,', page)) == 1
    assert "Examples of completions" not in page
    assert "pilotage run bc-mlp" in page
    assert "pilotage run pilotage run" not in page


def test_what_cannot_be_played_is_refused(pilotage, trained: Path) -> None:
    for words, said in (
        (("nowhere",), "nowhere"),
        ((str(trained), "--kind", "avi"), "'mp4', 'gif'"),
        ((str(trained), "--episodes", "0"), "1 or more"),
    ):
        code, _, err = pilotage("play", *words)
        assert code == 2, err
        assert said in err
    pilotage("run", "fake-pilot", "--out", "text")
    code, _, err = pilotage("play", "text")
    assert code == 2
    assert "no episodes" in err
