"""`pilotage pieces`."""

from __future__ import annotations

import json
import subprocess
import sys

from pilotage.cli import main
from pilotage.cli.pieces import summary_of
from pilotage.core.registry import all_pieces


def test_every_piece_of_a_slot_stands_on_a_line(capsys):
    assert main(["pieces", "advantage"]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = [line.split()[0] for line in lines if line.startswith("  ")]
    assert listed == sorted(all_pieces()["advantage"])
    assert "advantage (--advantage): How much better an answer was" in "".join(lines)
    assert max(map(len, lines)) <= 110


def test_slots_are_found_by_their_options_and_by_their_nearest_names(capsys):
    assert main(["pieces", "--json", "noise-schedule"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["noise_schedule"]["vp"]["reference"] == all_pieces()["noise_schedule"]["vp"]
    assert main(["pieces", "advantag"]) == 2
    assert "did you mean 'advantage'" in capsys.readouterr().err


def test_every_piece_has_a_sentence():
    for slot, of in all_pieces().items():
        for name, reference in of.items():
            assert summary_of(reference), (slot, name)


def test_listing_pieces_loads_no_torch():
    code = "import sys; from pilotage.cli import main; main(['pieces']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
