from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
import synthetic
from tests.report.page_parser import Page

from pilotage.core.errors import RunError, UsageError
from pilotage.core.serialisation import to_json
from pilotage.report import write_report
from pilotage.report.page import write_comparison_plot


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("comparison")
    synthetic.write_comparison(directory)
    return directory


@pytest.fixture(scope="module")
def html(comparison: Path) -> str:
    return write_report(comparison).read_text()


def test_a_comparison_has_every_section(html: str, comparison: Path) -> None:
    page = Page(html)
    for section in "difference what curves levels final examples configuration events where glossary".split():  # noqa: SIM905
        assert section in page.ids
    stored = json.loads((comparison / "comparison.json").read_text())
    for difference in stored["differences"]:
        assert difference["sentence"] in page.text
    for arm in stored["arms"]:
        assert f"pilotage run {arm['command']}" in page.text
        assert f"{100 * arm['mean']:.1f}%" in page.text
    for fact in ("Example CPU 3000", "2.13.0", "0123abc-dirty", "31 min 33 s", *synthetic.GLOSSARY.values()):
        assert fact in page.text
    assert {"✓ right", "✗ wrong"} <= set(page.text.splitlines())
    # Against steps, tokens and seconds for held-out measure and reward; the others against steps.
    assert [html.count(f"<figcaption>against {axis}") for axis in ("steps", "tokens", "seconds")] == [2, 2, 2]
    assert html.count("fill: var(--series-2); fill-opacity: 0.13") == 6 + 4


def test_the_page_opens_without_a_network(html: str) -> None:
    page = Page(html)
    assert all(target.startswith("#") for target in page.targets)
    assert {target[1:] for target in page.targets} <= set(page.ids)
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    style = html.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    assert "default-src 'none'" in html


def test_what_a_model_wrote_is_shown_and_never_run(html: str) -> None:
    assert "<script" not in html
    assert "<img" not in html
    assert synthetic.BITING in Page(html).text


def test_names_that_look_like_markup_are_escaped_in_charts(tmp_path: Path) -> None:
    synthetic.write_comparison(tmp_path)
    path = tmp_path / "comparison.json"
    path.write_text(path.read_text().replace("bnpo --advantage mvar", "<b onclick=1>&amp;"))
    text = write_report(tmp_path).read_text()
    assert "<b " not in text
    assert "<b onclick=1>&amp; − grpo" in Page(text).text


def test_light_dark_phone_and_colour_blind_readers_are_served(html: str) -> None:
    assert "prefers-color-scheme: dark" in html
    assert 'content="width=device-width, initial-scale=1"' in html
    dashes = set(re.findall(r"stroke-dasharray: [^;]*", html.split('id="curves"')[1].split("</ul>")[0]))
    assert len(dashes) == 2, "the first line is solid"
    assert html.count('role="img" aria-label="') == html.count('<svg class="chart"')


def test_a_single_run_makes_no_statement_about_the_method(comparison: Path) -> None:
    page = Page(write_report(comparison / "runs" / "gtpo-0").read_text())
    assert "One seed only: no conclusion about the method." in page.text
    assert "difference" not in page.ids
    assert "levels" in page.ids
    assert "Scripted stand-in" not in page.text


def test_what_was_measured_once_stands_behind_the_curves(tmp_path: Path) -> None:
    run = tmp_path / "run"
    synthetic.write_run(run, "grpo", 0.0, 0)
    lines = (run / "metrics.jsonl").read_text().splitlines()
    first = {**json.loads(lines[0]), "asked/first": 1, "asked/second": 2, "asked/third": 3}
    (run / "metrics.jsonl").write_text("\n".join([json.dumps(first), *lines[1:]]) + "\n")
    shown, folded = write_report(run).read_text().split("further metrics")
    inside = shown.split("Inside the run")[1]
    assert "gradient/norm" in inside
    assert "asked/" not in inside
    assert "asked/second" in folded


def test_a_run_that_still_goes_on_is_shown_as_far_as_it_is(tmp_path: Path) -> None:
    run = tmp_path / "run"
    synthetic.write_run(run, "grpo", 0.0, 0)
    (run / "result.json").unlink()
    lines = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(lines[: len(lines) - 20])
    (run / "rollouts.jsonl").unlink()
    page = Page(write_report(run).read_text())
    assert "This run was interrupted at step" in page.text
    assert "so far" in page.text
    assert "No completions were kept." in page.text


def test_a_run_of_episodes_has_no_section_of_completions(tmp_path: Path) -> None:
    run = tmp_path / "run"
    synthetic.write_run(run, "grpo", 0.0, 0)
    with_completions = Page(write_report(run).read_text())
    (run / "rollouts.jsonl").write_text('{"step": 5, "row": 0, "seed": 7, "steps": 12, "total_reward": 1.0}\n')
    page = Page(write_report(run).read_text())
    for text in ("Examples of completions", "No completions were kept."):
        assert text not in page.text
    assert "Examples of completions" in with_completions.text


def test_what_was_measured_once_is_no_curve_of_its_own(tmp_path: Path) -> None:
    run = tmp_path / "run"
    synthetic.write_run(run, "grpo", 0.0, 0)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    at = [number for number, line in enumerate(lines) if "held_out/accuracy" in line]
    for kept, shown in ((at, True), (at[-1:], False)):
        left = [
            {name: value for name, value in line.items() if number in kept or not name.startswith("held_out")}
            for number, line in enumerate(lines)
        ]
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in left))
        curves = write_report(run).read_text().split('id="curves"')[1].split("</section>")[0]
        assert ("<h3>held_out/accuracy</h3>" in curves) is shown
        assert "Inside the run" in curves


def test_a_result_that_is_no_number_is_shown_as_such(tmp_path: Path) -> None:
    run = tmp_path / "run"
    synthetic.write_run(run, "grpo", 0.0, 0)
    result = json.loads((run / "result.json").read_text())["metrics"]
    (run / "result.json").write_text(json.dumps({"metrics": to_json({**result, "held_out/accuracy": math.nan})}))
    assert "nan" in Page(write_report(run).read_text()).text.lower()


def test_a_run_without_any_numbers_still_has_a_page(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"system": "grpo", "seed": 3, "config": {}}')
    page = Page(write_report(tmp_path).read_text())
    assert "No metrics were logged." in page.text


def test_stand_ins_are_named_at_the_top(tmp_path: Path) -> None:
    synthetic.write_comparison(tmp_path, scripted_components=["the judge is scripted"])
    assert "the judge is scripted. These numbers say nothing about a real model." in Page(
        write_report(tmp_path).read_text()
    ).text.replace("\n", " ")


def test_one_seed_has_no_intervals_and_no_verdict(tmp_path: Path) -> None:
    synthetic.write_comparison(tmp_path, seeds=[0])
    html = write_report(tmp_path).read_text()
    assert "1 units; at least 5 are needed" in Page(html).text
    assert "nan" not in html.lower()


@pytest.mark.parametrize(
    ("content", "message"),
    [({}, "holds neither a run"), ({"run.json": "{}", "metrics.jsonl": "{}\nnot json\n"}, "line 2, is not JSON")],
)
def test_what_is_no_run_is_refused(tmp_path: Path, content: dict[str, str], message: str) -> None:
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    with pytest.raises((UsageError, RunError), match=message):
        write_report(tmp_path)


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_a_comparison_gives_the_same_picture_for_the_same_numbers(
    comparison: Path, tmp_path: Path, ending: str
) -> None:
    first = write_comparison_plot(comparison, tmp_path / f"a.{ending}").read_bytes()
    assert write_comparison_plot(comparison, tmp_path / f"b.{ending}").read_bytes() == first
    if ending == "svg":
        assert "bnpo --advantage mvar − grpo" in first.decode()
