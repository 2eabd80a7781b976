"""Pages of the systems, from their cards, configurations and results; the benchmarks; the table in README.md.

`python docs/make_pages.py` writes the tables between the markers of README.md and of the pages of the guide. MkDocs
calls `on_config`, which writes the pages to docs/systems/ and puts them into the navigation; they are built, never
committed.
"""

from __future__ import annotations

import importlib
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
PAGES = DOCS / "systems"
sys.path.insert(0, str(ROOT / "src"))

from pilotage.charts.plots import claim_plot  # noqa: E402
from pilotage.cli.arguments import show_value  # noqa: E402
from pilotage.cli.console import fit  # noqa: E402
from pilotage.cli.help import option_groups, own_choices  # noqa: E402
from pilotage.cli.listing import count_verdicts  # noqa: E402
from pilotage.cli.show import (  # noqa: E402
    AT_THE_EDGE,
    describe_difference,
    describe_source,
    edges_of,
    measured_claims,
)
from pilotage.core.claims import Claim  # noqa: E402
from pilotage.core.configuration import describe_type, field_types, option  # noqa: E402
from pilotage.core.docstrings import field_docs  # noqa: E402
from pilotage.core.registry import all_pieces, all_systems, find_claims, find_reproduction  # noqa: E402
from pilotage.core.system import System  # noqa: E402
from pilotage.core.text import duration, number  # noqa: E402

TABLE = re.compile(r"(<!-- ([a-z ]+): made by docs/make_pages\.py -->\n).*?(<!-- end of \2 -->)", re.DOTALL)
GUIDE = [
    {"Home": "index.md"},
    {"Your data and your reward": "your-data.md"},
    {"Design": "design.md"},
    {"Hardware and tracking": "hardware.md"},
    {"Add a system": "adding-a-system.md"},
    {"Add a piece": "adding-a-piece.md"},
    {"A batch's way": "language-trainer.md"},
    {"A chunk's way": "robot-policy.md"},
    {"Language models as a service": "llm.md"},
    {"Python": "python.md"},
    {"Robot policies": "robot-policies.md"},
    {"Societies": "societies.md"},
    {"Populations": "populations.md"},
    {"Tax design": "tax-design.md"},
    {"A stock market": "market.md"},
    {"Metrics": "metrics.md"},
    {"Benchmarks": "systems/benchmarks.md"},
]


def table_of_systems(link: str = "", systems: Sequence[System] | None = None) -> str:
    """Return systems with their claims' verdicts, as Markdown.

    Args:
        link: what is put before the name of a page; empty: no links.
        systems: the systems; None: all of them.
    """
    rows = ["| system | what it does | paper | claims |", "|---|---|---|---|"]
    for system in all_systems() if systems is None else systems:
        card = system.card
        name = f"[{card.name}]({link}{card.name}.md)" if link else f"`{card.name}`"
        paper = f"[{card.paper.arxiv}](https://arxiv.org/abs/{card.paper.arxiv})" if _has_arxiv(system) else ""
        made = len(find_claims(card.name))
        claims = "baseline" if card.baseline else count_verdicts(find_reproduction(card.name), made)
        rows.append(f"| {name} | {_cell(fit(card.summary, 110))} | {paper} | {claims} |")
    return "\n".join(rows)


def readme_table() -> str:
    """Return the systems with claims, as Markdown, one table for each family, and the names of its baselines below."""
    parts = []
    for family, members in groupby(all_systems(), key=lambda system: system.card.family):
        systems = list(members)
        parts += [f"**{family}**", ""]
        parts += table_of_systems(systems=[system for system in systems if not system.card.baseline]).splitlines()
        baselines = ", ".join(f"`{system.name}`" for system in systems if system.card.baseline)
        parts += ["", f"Baselines: {baselines}.", ""] if baselines else [""]
    return "\n".join(parts).rstrip()


def page(system: System) -> str:
    """Return the page of a system."""
    card = system.card
    measured = find_reproduction(card.name)
    parts = [
        f"# {card.name}\n",
        card.summary + "\n",
        _paper(system),
        f"**For** {card.audience}\n",
        f"**Use it when** {_clause(card.use_when)}\n",
        f"**Not when** {_clause(card.avoid_when)}\n",
        f"**Reproducible:** {card.repeatability}\n",
        f"## Run it\n\n```sh\npilotage run {card.name}\npilotage run {card.name} --help\n```\n",
        _claims(card.name, measured),
        f"## What differs between paper and code, and what was chosen here\n\n{card.notes}\n" if card.notes else "",
        _hyper_parameters(system),
    ]
    return "\n".join(part for part in parts if part)


def _paper(system: System) -> str:
    paper = system.card.paper
    if paper is None:
        return ""
    link = f" ([arXiv {paper.arxiv}](https://arxiv.org/abs/{paper.arxiv}))" if _has_arxiv(system) else ""
    return f"*{paper.title}*{link}\n"


def _has_arxiv(system: System) -> bool:
    return system.card.paper is not None and bool(system.card.paper.arxiv)


def _clause(text: str) -> str:
    """A sentence that goes on after "use it when": its first letter small, unless it begins a name."""
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


def _claims(name: str, measured: Mapping[str, Any] | None) -> str:
    claims = find_claims(name)
    if not claims:
        return ""
    entries = measured_claims(measured)
    rows = ["| claim | verdict | difference | seeds |", "|---|---|---|---|"]
    rows += [_claim_row(claim, entries.get(claim.name)) for claim in claims]
    again = f"\n```sh\npilotage reproduce {name}\n```\n"
    about = _about(measured) if measured else "Nothing has been measured yet.\n"
    return "\n".join(
        ["## What the paper promises, and what was measured\n", *rows, "", about, *_plots(name, entries), again]
    )


def _claim_row(claim: Claim, entry: Mapping[str, Any] | None) -> str:
    statement = f"**{_cell(claim.statement)}** {_cell(claim.source)}; {claim.criterion.kind}"
    margin = f"({number(claim.criterion.margin)})" if claim.criterion.margin else ""
    primary = ", primary" if claim.primary else ""
    verdict = entry["verdict"] if entry else "not measured"
    note = f" ({_cell(entry['note'])})" if entry and entry.get("note") else ""
    difference = describe_difference(entry.get("comparison")) if entry else ""
    return f"| {statement}{margin}{primary} | {verdict}{note} | {difference} | {claim.n} × {claim.unit} |"


def _about(measured: Mapping[str, Any]) -> str:
    made = "; ".join(describe_source(source) for source in measured["made"])
    edges = edges_of(measured)
    beyond = f"\n{AT_THE_EDGE} {'; '.join(edges)}.\n" if edges else ""
    return f"Intervals are 95 % over seeds; {made}; {duration(measured['seconds'])} of processor time.\n{beyond}"


def _plots(name: str, entries: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the lines that show what each claim measured; `on_config` draws it."""
    return [f"![{_cell(claim)}]({plot.relative_to(PAGES)})\n" for claim, plot in _plot_files(name, entries).items()]


def _plot_files(name: str, entries: Mapping[str, Mapping[str, Any]]) -> dict[str, Path]:
    measured = [claim for claim, entry in entries.items() if entry["arms"]]
    return {claim: PAGES / name / f"claim-{index}.svg" for index, claim in enumerate(measured, start=1)}


def _hyper_parameters(system: System) -> str:
    config, kinds, docs = system.config, field_types(type(system.config)), field_docs(type(system.config))
    own = own_choices(config)
    parts = ["## Hyper-parameters\n", "Bold: chosen by this system.\n" if own else ""]
    for title, fields in option_groups(config, system.name):
        parts += [f"### {title}\n", "| option | meaning | default |", "|---|---|---|"]
        for field in fields:
            meaning = f"{_cell(docs.get(field, ''))} *{_cell(describe_type(kinds[field]))}*"
            default = f"`{_cell(show_value(getattr(config, field)))}`"
            parts.append(f"| `{option(field)}` | {meaning} | {f'**{default}**' if field in own else default} |")
        parts.append("")
    return "\n".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def metrics_table(family: str) -> str:
    """Return what every metric of a trainer means, as Markdown."""
    explained = importlib.import_module(f"pilotage.training.{family}.metrics").METRICS
    rows = [f"| `{name}` | {_cell(text)} |" for name, text in explained.items()]
    return "\n".join(["| metric | meaning |", "|---|---|", *rows])


def pieces_table() -> str:
    """Return the pieces of every slot, as Markdown."""
    rows = [f"| {slot} | {', '.join(f'`{name}`' for name in names)} |" for slot, names in sorted(all_pieces().items())]
    return "\n".join(["| slot | pieces |", "|---|---|", *rows])


TABLES: Mapping[str, Callable[[], str]] = {
    "systems": readme_table,
    "metrics": partial(metrics_table, "language"),
    "control metrics": partial(metrics_table, "imitation"),
    "pieces": pieces_table,
}
"""What stands between the markers of each name."""


def with_tables(text: str) -> str:
    """Return `text` with every table that it marks as it is now."""
    return TABLE.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}\n{found[3]}", text)


def pages_with_tables() -> list[Path]:
    """Return README.md and the pages of the guide that mark a table."""
    pages = (ROOT / "README.md", *sorted(DOCS.glob("*.md")))
    return [page for page in pages if TABLE.search(page.read_text(encoding="utf-8"))]


def write_tables() -> None:
    """Put the tables between their markers."""
    for path in pages_with_tables():
        path.write_text(with_tables(path.read_text(encoding="utf-8")), encoding="utf-8")


# ---- MkDocs ----------------------------------------------------------------------------------------------------------


def on_config(config: Any) -> Any:
    """Write the pages, and the navigation with a section per family."""
    shutil.rmtree(PAGES, ignore_errors=True)
    PAGES.mkdir()
    (PAGES / "index.md").write_text("# The systems\n\n" + table_of_systems("./") + "\n", encoding="utf-8")
    shutil.copyfile(ROOT / "benchmarks" / "RESULTS.md", PAGES / "benchmarks.md")
    sections = []
    for family, members in groupby(all_systems(), key=lambda system: system.card.family):
        pages = []
        for system in members:
            (PAGES / f"{system.name}.md").write_text(page(system), encoding="utf-8")
            pages.append({system.name: f"systems/{system.name}.md"})
            entries = measured_claims(find_reproduction(system.name))
            for claim, plot in _plot_files(system.name, entries).items():
                claim_plot(entries[claim], plot)
        sections.append({family: pages})
    config["nav"] = [*GUIDE, {"Systems": ["systems/index.md", *sections]}]
    return config


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Leave out the links to code, which work in the repository alone."""
    return re.sub(r"\[([^]]+)\]\(\.\./(?:src|tests|benchmarks|examples)/[^)]*\)", r"\1", markdown)


if __name__ == "__main__":
    write_tables()
