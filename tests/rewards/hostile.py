"""Judges and reward functions that misbehave, for the tests of the workers."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from pilotage.types import Item


def judge(text: str, item: Item) -> float | None:
    """Does what the text says."""
    word, _, rest = text.partition(" ")
    match word:
        case "score":
            return float(rest)
        case "abstain":
            return None
        case "raise":
            raise RuntimeError(rest)
        case "exit":
            sys.exit(rest)
        case "die":
            os._exit(3)
        case "string":
            return "good"  # type: ignore[return-value]
        case "print":
            print("x" * 1_000_000)
            sys.stderr.write("y" * 1_000_000)
            return 1.0
        case "sleep":
            time.sleep(600)
        case "power":
            return float(len(str(9**9**9**2)))
        case "memory":
            return float(len(bytes(5 << 30)) > 0)  # never touched, so that it would succeed without a limit
        case "deaf":
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
                signal.signal(number, signal.SIG_IGN)
            while True:
                pass
        case "child":
            child = subprocess.Popen(["sleep", "600"])
            Path(rest).write_text(str(child.pid))
            time.sleep(600)
        case "modules":
            return float("torch" in sys.modules)
    return float(text == item.answer)
