"""`pilotage play RUN`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pilotage.cli.arguments import Command, exactly, split
from pilotage.cli.console import Console
from pilotage.core.errors import UsageError
from pilotage.core.text import number
from pilotage.experiments.launch import recorded


@dataclass(frozen=True)
class PlayOptions:
    """Options of `pilotage play`."""

    episodes: int = 3
    """Number of episodes."""
    seed: int | None = None
    """Seed of the first episode's start, the next episodes count up from it (default: the starts on which the run was
    evaluated)."""
    out: Path | None = None
    """Folder of the videos (default: the folder played of the run)."""
    kind: Literal["mp4", "gif"] = "mp4"
    """Format of the videos."""


def play(arguments: Sequence[str], console: Console) -> int:
    """Record videos of a run's policy, and draw the paths of its episodes."""
    parsed = split(arguments, PlayOptions, "play")
    own: PlayOptions = parsed.own
    run = Path(exactly(parsed, 1, COMMAND.usage)[0])
    system, config, _ = recorded(run)
    if "play" not in system.actions:
        raise UsageError(f"{run} is a run of {system.name}, which has no episodes to show; `pilotage report` shows it")
    from pilotage.report.videos import paths_plot, write_strip, write_video

    played = system.load_action("play")(config, run, own.episodes, own.seed)
    out = own.out or run / "played"
    episodes = played.evaluation.episodes
    for row, frames in sorted(played.evaluation.frames.items()):
        video = write_video(frames, out / f"episode-{row}.{own.kind}")
        write_strip(frames, out / f"episode-{row}.png")
        episode = episodes[row]
        verdict = {None: "", True: "success", False: "failure"}[episode.success]
        facts = [f"seed {episode.seed}", f"{episode.steps} steps", f"reward {number(episode.total_reward)}", verdict]
        console.line(f"{video}  {'  '.join(filter(None, facts))}")
    if played.plan is not None:
        labels, successes = [e.mode for e in episodes], [e.success for e in episodes]
        console.line(str(paths_plot(played.paths, played.plan, out / "paths.png", labels=labels, successes=successes)))
    return 0


COMMAND = Command("play RUN", "Record videos of a run's policy in its environment.", PlayOptions, play)
