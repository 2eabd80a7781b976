"""The look of every chart, and SVG whose colours are CSS variables, so that one file suits light and dark pages."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from markupsafe import Markup
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

SERIES = ("#0b62b4", "#c24e00", "#08785a", "#a23b7c", "#836400", "#4b5663")
DASHES: tuple[Any, ...] = ("-", (0, (4, 2)), (0, (1.2, 1.4)), (0, (5, 1.5, 1.2, 1.5)), (0, (2.2, 1.2)), (0, (0.8, 2)))
"""One per series, beside its colour: series can be told apart without seeing colours."""
PAPER, INK, MUTED, GRID, SHADE = "#fcfbf9", "#1d2126", "#626a73", "#e9e6e0", "#d8d2c6"
_SERIES_DARK = ("#6fb3f7", "#ff9d5c", "#4ccfa4", "#f096cc", "#e0c04c", "#b4c0cd")
_NAMES = ("paper", "ink", "muted", "grid", "shade", *(f"series-{number}" for number in range(1, len(SERIES) + 1)))
_LIGHT = dict(zip(_NAMES, (PAPER, INK, MUTED, GRID, SHADE, *SERIES), strict=True))
_DARK = dict(zip(_NAMES, ("#14171b", "#e6e4df", "#9aa3ad", "#282d34", "#3a4149", *_SERIES_DARK), strict=True))


def _declared(colours: dict[str, str]) -> str:
    return ":root { " + " ".join(f"--{name}: {colour};" for name, colour in colours.items()) + " }"


CSS = Markup(f"{_declared(_LIGHT)}\n@media (prefers-color-scheme: dark) {{ {_declared(_DARK)} }}")
"""The colours as CSS variables. A page with charts needs it once; an SVG file has it inside."""
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 11.5,
    "axes.titlesize": "medium",
    "axes.titlelocation": "left",
    "text.color": INK,
    "text.parse_math": False,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.spines.bottom": False,
    "axes.labelcolor": MUTED,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.xmargin": 0.02,
    "axes.ymargin": 0.06,
    "grid.color": GRID,
    "grid.linewidth": 1,
    "lines.linewidth": 2,
    "lines.markeredgewidth": 0,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "svg.hashsalt": "pilotage",
    "svg.fonttype": "none",
}
"""Settings of matplotlib under which every chart is made and saved: `with mpl.rc_context(STYLE)`."""
PIXELS = 72
"""Units of an SVG to an inch of matplotlib."""
_SVG = "http://www.w3.org/2000/svg"
_HREF = "{http://www.w3.org/1999/xlink}href"
_TITLES = "\ue000"
"""Marks ids that hold texts for `<title>` elements; a character for private use, which no name contains."""
_NOT_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
ElementTree.register_namespace("", _SVG)


def set_titles(artist: Artist, texts: Sequence[str]) -> None:
    """Give each point of `artist` the text that a browser shows on hover; a single text goes to the whole artist."""
    artist.set_gid(_drawable(_TITLES + _TITLES.join(texts)))


def _drawable(text: str) -> str:
    """Return a text without what no XML file can hold: control characters and halves of surrogate pairs."""
    return _NOT_XML.sub("\ufffd", text)


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure of `width` by `height` pixels with one pair of axes."""
    figure = Figure(figsize=(width / PIXELS, height / PIXELS), layout="constrained")
    return figure, figure.subplots()


def to_svg(figure: Figure, label: str, kind: str = "chart") -> Markup:
    """Return the figure as an SVG element to be put into a page that has `CSS`.

    Args:
        figure: made under `STYLE`.
        label: alternative text; when empty, the element is hidden from screen readers.
        kind: class of the element.
    """
    figure.patch.set_visible(False)
    root = _svg(figure)
    described = {"role": "img", "aria-label": _drawable(label)} if label else {"aria-hidden": "true"}
    root.attrib = {"class": kind, "viewBox": root.attrib["viewBox"], "stroke-linejoin": "round", **described}
    return Markup(ElementTree.tostring(root, encoding="unicode").replace(f' xmlns="{_SVG}"', "", 1))


def save(figure: Figure, path: Path) -> Path:
    """Write the figure as PNG or SVG, by the ending of `path`, and return `path`; equal numbers give equal files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".svg":
        root = _svg(figure)
        style = ElementTree.Element(f"{{{_SVG}}}style")
        style.text = CSS
        root.insert(0, style)
        path.write_text(ElementTree.tostring(root, encoding="unicode"), encoding="utf-8")
    else:
        figure.savefig(path, dpi=180, metadata={"Software": None})
    return path


def _svg(figure: Figure) -> ElementTree.Element:
    """The figure as a tree: colours as variables, texts on hover as titles, ids that no other chart of a page has."""
    for drawn in figure.findobj(Text):
        drawn.set_text(_drawable(drawn.get_text()))
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    root = ElementTree.fromstring(text.getvalue().encode())
    suffix = hashlib.sha256(text.getvalue().encode()).hexdigest()[:8]
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text.getvalue()))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.rpartition("}")[2] in ("metadata", "style"):
                parent.remove(child)
    root.set("stroke-linejoin", "round")
    for element in list(root.iter()):
        name = element.attrib.pop("id", "")
        if name.startswith(_TITLES):
            _add_titles(element, name.split(_TITLES)[1:])
        elif name in used:
            element.set("id", f"{name}-{suffix}")
        if _HREF in element.attrib:
            element.set("href", f"{element.attrib.pop(_HREF)}-{suffix}")
        if "clip-path" in element.attrib:
            element.set("clip-path", element.attrib["clip-path"].replace(")", f"-{suffix})"))
        if "style" in element.attrib:
            style = element.attrib["style"].replace("'DejaVu Sans'", "system-ui, 'DejaVu Sans', sans-serif")
            for variable, colour in _LIGHT.items():
                style = style.replace(colour, f"var(--{variable})")
            element.set("style", style)
    return root


def _add_titles(group: ElementTree.Element, texts: Sequence[str]) -> None:
    defined = {id(inner) for defs in group.iter(f"{{{_SVG}}}defs") for inner in defs.iter()}
    drawn = [e for e in group.iter() if e.tag in (f"{{{_SVG}}}use", f"{{{_SVG}}}path") and id(e) not in defined]
    for element, text in zip(drawn if len(texts) > 1 else [group], texts, strict=True):
        title = ElementTree.Element(f"{{{_SVG}}}title")
        title.text = text
        element.insert(0, title)
