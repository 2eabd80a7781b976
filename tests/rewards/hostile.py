"""Reward functions that misbehave, for the tests of the workers."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from pilotage.types import Item


def obey(text: str, item: Item) -> float | None:
    """Do what the text says."""
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
        case "fork":
            if os.fork() == 0:
                os.execv("/usr/bin/checker-that-is-not-installed", ["checker"])
            return float(rest)
        case "reply":  # whatever descriptor leads to the process that asks
            for descriptor in range(3, 30):
                try:
                    os.write(descriptor, len(rest).to_bytes(4, "big") + rest.encode())
                except OSError:
                    continue
            return 0.5
        case "daemon":
            child = subprocess.Popen(["sleep", "600"], start_new_session=True)
            Path(rest).write_text(str(child.pid))
            time.sleep(600)
        case "orphan":
            script = f"sleep 600 & echo $! > {rest}"
            subprocess.run(["sh", "-c", script], start_new_session=True, check=True)
            os._exit(3)
        case "child":
            child = subprocess.Popen(["sleep", "600"])
            Path(rest).write_text(str(child.pid))
            time.sleep(600)
        case "modules":
            return float("torch" in sys.modules)
    return float(text == item.answer)
