"""`pilotage play RUN`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pilotage.cli.arguments import Verb, exactly, split
from pilotage.cli.console import Screen
from pilotage.core.errors import UsageError
from pilotage.core.text import number
from pilotage.experiments.launch import recorded


@dataclass(frozen=True)
class PlayOptions:
    episodes: int = 3
    """How many episodes."""
    seed: int | None = None
    """Seed of the first start, the others follow; none: the starts on which the run was evaluated."""
    out: Path | None = None
    """Folder of the films; none: played, in the run's folder."""
    kind: str = "mp4"
    """mp4 or gif."""


def play(words: Sequence[str], screen: Screen) -> int:
    taken = split(words, PlayOptions, "play")
    own: PlayOptions = taken.own
    run = Path(exactly(taken, 1, VERB.usage)[0])
    if own.kind not in ("mp4", "gif"):
        raise UsageError(f"--kind: given {own.kind}, expected mp4 or gif")
    system, config, _ = recorded(run)
    if "play" not in system.actions:
        raise UsageError(f"{run} is a run of {system.name}, which has no episodes to show; `pilotage report` shows it")
    from pilotage.report.videos import paths_plot, write_strip, write_video

    played = system.load_action("play")(config, run, own.episodes, own.seed)
    out = own.out or run / "played"
    episodes = played.evaluation.episodes
    for row, frames in sorted(played.evaluation.frames.items()):
        film = write_video(frames, out / f"episode-{row}.{own.kind}")
        write_strip(frames, out / f"episode-{row}.png")
        episode = episodes[row]
        verdict = {None: "", True: "success", False: "failure"}[episode.success]
        facts = [f"seed {episode.seed}", f"{episode.steps} steps", f"reward {number(episode.total_reward)}", verdict]
        screen.line(f"{film}  {'  '.join(filter(None, facts))}")
    if played.plan is not None:
        labels, successes = [e.mode for e in episodes], [e.success for e in episodes]
        screen.line(str(paths_plot(played.paths, played.plan, out / "paths.png", labels=labels, successes=successes)))
    return 0


VERB = Verb("play RUN", "Film episodes of a run's policy in its world.", PlayOptions, play)
