"""list, show, report, export, reproduce, doctor, and what all commands share."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pilotage as package
from pilotage import experiments
from pilotage.cli import COMMANDS, doctor
from pilotage.cli.listing import count_verdicts
from pilotage.cli.show import describe_difference, edges_of

ROOT = Path(__file__).resolve().parents[2]


def reproduction(**claims: str) -> dict:
    entries = [
        {
            "name": name,
            "verdict": verdict,
            "primary": name == "faster",
            "comparison": {"difference": 0.031, "interval": [0.012, 0.05]},
        }
        for name, verdict in claims.items()
    ]
    made = {"commit": "6a18e7fd5c", "version": "0.1.0", "torch": "2", "processor": "AMD EPYC", "jobs": 57}
    made |= {"first": "2026-11-25T23:48:14+00:00", "last": "2026-11-25T23:48:14+00:00"}
    return {"format": 2, "system": "fake-pilot", "seconds": 1.0, "made": [made], "claims": entries}


def keep(content: dict) -> None:
    Path("results").mkdir()
    Path("results/fake-pilot.json").write_text(json.dumps(content))


def test_list_gives_one_short_line_per_system_with_its_verdicts(pilotage):
    code, out, _ = pilotage("list")
    assert code == 0
    assert "reasoning" in out.splitlines()
    assert max(map(len, out.splitlines())) <= 80
    (line,) = [line for line in out.splitlines() if line.startswith("fake-pilot")]
    assert "Learns nothing, quickly" in line
    assert line.endswith("not measured")
    keep(reproduction(faster="holds", safer="undecided", cheaper="holds"))
    _, out, _ = pilotage("list")
    (line,) = [line for line in out.splitlines() if line.startswith("fake-pilot")]
    assert line.endswith("2 · 0 · 1")


def test_list_folds_baselines_unless_asked(pilotage):
    _, out, _ = pilotage("list", "reasoning")
    assert not [line for line in out.splitlines() if line.startswith("grpo ")]
    assert "grpo" in out
    assert "robots" not in out
    _, out, _ = pilotage("list", "reasoning", "--baselines")
    (line,) = [line for line in out.splitlines() if line.startswith("grpo ")]
    assert line.endswith("baseline")


def test_list_as_json(pilotage):
    keep(reproduction(faster="holds", safer="undecided"))
    _, out, _ = pilotage("list", "--json")
    entries = {entry["name"]: entry for entry in json.loads(out)}
    assert entries["fake-pilot"]["verdicts"] == {"holds": 1, "undecided": 1}
    assert entries["grpo"]["baseline"] is True


@pytest.mark.parametrize("words", [("reasonin",), ("--family", "reasonin")])
def test_list_of_an_unknown_family_names_the_nearest(pilotage, words):
    code, _, err = pilotage("list", *words)
    assert code == 2
    assert "'reasoning'" in err


def test_list_leaves_torch_unloaded():
    script = (
        "import sys\nfrom pilotage.cli import main\nassert main(['list']) == 0\n"
        "heavy = {'torch', 'transformers', 'numpy', 'matplotlib'} & set(sys.modules)\nassert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env={"PYTHONPATH": "src", "PATH": ""}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "grpo" in done.stdout


def test_show_prints_the_card_and_says_not_measured(pilotage):
    code, out, _ = pilotage("show", "fake-pilot")
    assert code == 0
    for part in (
        "Learns nothing, quickly.",
        "On Doing Nothing (arXiv 0000.00000)",
        "anything is to be learnt",
        "bit for bit",
    ):
        assert part in out
    (line,) = [line for line in out.splitlines() if line.startswith("faster *")]
    assert line.endswith("not measured")


def test_show_prints_the_verdict_and_the_difference_that_were_measured(pilotage):
    keep(reproduction(faster="does not hold"))
    _, out, _ = pilotage("show", "fake-pilot")
    (line,) = [line for line in out.splitlines() if line.startswith("faster *")]
    assert "does not hold" in line
    assert "+0.031 [0.012, 0.05]" in line
    assert "* primary. primary: 1 does not hold." in out
    assert "57 jobs made on 2026-11-25 at commit 6a18e7f, version 0.1.0, on AMD EPYC" in out


def test_a_reproduction_of_another_format_is_refused(pilotage):
    keep({**reproduction(faster="holds"), "format": 99})
    code, _, err = pilotage("show", "fake-pilot")
    assert code == 2
    assert "format 99" in err


def test_verdicts_are_counted_in_a_fixed_order_and_primary_claims_apart():
    content = reproduction(a="undecided", b="does not hold", c="holds", d="does not hold", e="not measured (long)")
    assert count_verdicts(content) == "1 holds, 2 do not hold, 1 undecided; 1 not measured"
    content["claims"][1]["primary"] = True
    assert (
        count_verdicts(content)
        == "primary: 1 does not hold; others: 1 holds, 1 does not hold, 1 undecided; 1 not measured"
    )
    assert count_verdicts(reproduction(faster="holds"), of=3) == "primary: 1 holds; 2 not measured"
    assert count_verdicts(None) == "not measured"
    assert describe_difference(None) == ""
    assert describe_difference({"difference": -0.2, "interval": None}) == "-0.2"


def tuned(chosen: str, **values: float) -> dict[str, Any]:
    """A reproduction with one arm, tuned over the settings that `values` names by their rate."""
    settings = [{"options": f"--lr {rate} --head bins:bins=24", "values": [value]} for rate, value in values.items()]
    tuning = {"chosen": {"ours": f"--lr {chosen} --head bins:bins=24"}, "settings": {"ours": settings}}
    return {"claims": [{"name": "a", "tuning": tuning}, {"name": "b", "tuning": {}}]}


def test_what_tuning_chose_at_the_end_of_its_range_is_named() -> None:
    rates = {"1e-3": 0.5, "3e-4": 0.3, "1e-2": 0.4}
    assert edges_of(tuned("1e-2", **rates)) == ["ours: --lr 1e-2 (of 3e-4, 1e-3, 1e-2)"]
    assert edges_of(tuned("3e-4", **rates)) == ["ours: --lr 3e-4 (of 3e-4, 1e-3, 1e-2)"]
    assert edges_of(tuned("1e-3", **rates)) == []


def test_settings_that_made_no_difference_have_no_edge() -> None:
    assert edges_of(tuned("1e-3", **{"1e-3": 0.5, "1e-2": 0.5})) == []
    assert edges_of(tuned("1e-3", **{"1e-3": 0.5, "1e-2": 0.5 + 1e-15})) == []
    assert edges_of(tuned("1e-3", **{"1e-3": 0.5})) == []
    assert edges_of(None) == []
    assert edges_of({"claims": [{"name": "a", "tuning": {"chosen": {"a": ""}, "settings": "the first of each"}}]}) == []


def test_output_in_a_pipe_has_no_escape_codes_and_no_boxes(pilotage):
    for words in (("list",), ("show", "fake-pilot"), ("run", "fake-pilot", "--help"), ("doctor",), ("--help",)):
        _, out, err = pilotage(*words)
        assert "\x1b" not in out + err
        assert not set("─│┌┐└┘━┃╭╮") & set(out + err)
        assert all(line == line.rstrip() for line in out.splitlines())


def test_help_of_every_command_works_and_lists_its_options(pilotage):
    code, out, _ = pilotage("--help")
    assert code == 0
    for command in COMMANDS:
        assert f"  {command}" in out
        code, text, err = pilotage(command, "--help")
        assert (code, err) == (0, "")
        assert text.startswith(f"usage: pilotage {command}")


def test_no_command_is_a_usage_error_and_an_unknown_one_names_the_nearest(pilotage):
    assert pilotage()[0] == 2
    code, _, err = pilotage("rnu")
    assert code == 2
    assert "'run'" in err


def test_version(pilotage):
    assert pilotage("--version") == (0, f"pilotage {package.__version__}\n", "")


def test_a_closed_pipe_is_no_error():
    script = "import sys; sys.argv = ['pilotage', 'list']; from pilotage.cli import main; sys.exit(main())"
    producer = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={"PYTHONPATH": "src"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    producer.stdout.close()
    assert producer.stderr.read() == b""
    producer.stderr.close()
    assert producer.wait() == 0


def test_report_of_no_folder_is_a_usage_error(pilotage):
    code, _, err = pilotage("report", "nowhere")
    assert code == 2
    assert "nowhere" in err


def test_export_refuses_to_overwrite_and_a_run_without_policy(pilotage):
    pilotage("run", "fake-pilot", "--out", "here")
    code, _, err = pilotage("export", "here", "target")
    assert code == 2
    assert "trained policy" in err
    Path("full").mkdir()
    Path("full/file").touch()
    code, _, err = pilotage("export", "here", "full")
    assert code == 2
    assert "not an empty folder" in err


def test_reproduce_passes_its_options_on(pilotage, monkeypatch):
    asked = []

    def reproduce(name: str, **options: Any) -> Path:
        asked.append((name, options))
        return Path("results/fake-pilot.json")

    monkeypatch.setattr(experiments, "reproduce", reproduce)
    code, out, err = pilotage("reproduce", "fake-pilot", "--quick", "--only", "faster", "--budget", "1.5")
    assert code == 0, err
    assert out.strip() == "results/fake-pilot.json"
    (name, options) = asked[0]
    assert name == "fake-pilot"
    assert options["quick"] is True
    assert options["only"] == "faster"
    assert options["budget"] == 1.5


def test_reproduce_can_audit_what_is_stored(pilotage, monkeypatch):
    from pilotage import experiments

    asked = []

    def audit(name, count, **_):
        asked.append((name, count))
        return len(asked) == 1

    monkeypatch.setattr(experiments, "audit", audit)
    assert [pilotage("reproduce", "fake-pilot", "--audit", "5")[0] for _ in range(2)] == [0, 1]
    assert asked == [("fake-pilot", 5)] * 2
    assert pilotage("reproduce", "fake-pilot", "--audit", "0")[0] == 2


def test_reproduce_of_an_unknown_claim_names_the_nearest(pilotage):
    code, _, err = pilotage("reproduce", "fake-pilot", "--only", "fastr")
    assert code == 2
    assert "'faster'" in err


def test_doctor_reports_hardware_versions_and_storage(pilotage):
    import torch

    code, out, _ = pilotage("doctor")
    assert code == 0
    assert torch.__version__ in out
    assert "PILOTAGE_HOME" in out
    assert out.strip().endswith("ready")


def test_doctor_fails_when_the_home_cannot_be_written(pilotage, monkeypatch, tmp_path):
    blocker = tmp_path / "file"
    blocker.touch()
    monkeypatch.setenv("PILOTAGE_HOME", str(blocker / "home"))
    code, out, _ = pilotage("doctor")
    assert code == 1
    assert "not ready: PILOTAGE_HOME" in out


def test_doctor_names_system_libraries_that_installed_packages_lack(monkeypatch):
    def absent(name: str):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(doctor.sys, "platform", "linux")
    monkeypatch.setattr(doctor.ctypes, "CDLL", absent)
    monkeypatch.setattr(doctor, "_has", lambda name: name == "opencv-python")
    ((name, state, detail),) = doctor.libraries()
    assert (name, state) == ("libGL.so.1", "missing")
    assert "gym-pusht" in detail
    assert "apt-get install libgl1" in detail
    monkeypatch.setattr(doctor.ctypes, "CDLL", lambda _: None)
    assert [row[:2] for row in doctor.libraries()] == [("libGL.so.1", "ok")]
    monkeypatch.setattr(doctor, "_has", lambda _: False)
    assert doctor.libraries()[0][1:] == ("ok", "none needed by what is installed")


def test_doctor_names_the_line_that_installs_what_is_missing(monkeypatch):
    lines = [
        "torch>=2",
        "math-verify==0.9.0; extra == 'math'",
        "not-there>=1; extra == 'other'",
        "no-docs; extra == 'docs'",
    ]
    monkeypatch.setattr(doctor, "requires", lambda _: lines)
    monkeypatch.setattr(doctor, "_extras", lambda: ["docs", "math", "other"])
    monkeypatch.setattr(doctor, "_has", lambda name: name in ("pilotage", "math-verify", "torch"))
    monkeypatch.setattr(doctor, "version", lambda name: f"{name}-version")
    assert doctor.extras() == [
        ("math", "ok", "math-verify math-verify-version"),
        ("other", "missing", "pip install 'pilotage[other]'   (missing: not-there)"),
    ]


def test_commands_without_names_refuse_names(pilotage):
    code, _, err = pilotage("doctor", "grpo")
    assert code == 2
    assert "unexpected argument 'grpo'" in err
