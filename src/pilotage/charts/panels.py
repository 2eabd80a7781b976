"""Sections of a run's report that only one system has: `System.panels` names the function that returns them."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True)
class Transcript:
    """A prompt to a model and its answer, as they were; the report escapes them."""

    who: str
    step: int
    prompt: str
    answer: str
    model: str


@dataclass(frozen=True)
class Panel:
    """A section of a run's report."""

    key: str
    """Anchor of the section."""
    title: str
    note: str = ""
    legend: tuple[tuple[int, str], ...] = ()
    """Index and name of each series."""
    wide: tuple[Markup, ...] = ()
    """Charts over the whole width."""
    figures: tuple[tuple[str, Markup], ...] = ()
    """Small charts, each after its caption."""
    columns: tuple[str, ...] = ()
    """Headings of a table, whose first column holds names."""
    rows: tuple[tuple[str, ...], ...] = ()
    """Rows of the table; the first is emphasised."""
    transcripts: tuple[Transcript, ...] = ()
