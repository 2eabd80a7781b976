"""Rewards that break on a fifth of the answers "00" to "99", in a file that workers load alone."""

import os
import time


def sound(text, item):
    """A number in [0, 1] that differs between answers."""
    del item
    return int(text) % 7 / 6


def _breaks(text):
    return int(text) % 5 == 0


def raising(text, item):
    if _breaks(text):
        raise RuntimeError("no judgement")
    return sound(text, item)


def hanging(text, item):
    if _breaks(text):
        time.sleep(60)
    return sound(text, item)


def abstaining(text, item):
    return None if _breaks(text) else sound(text, item)


def not_a_number(text, item):
    return float("nan") if _breaks(text) else sound(text, item)


def forking(text, item):
    """Start a helper by fork and exec on every fifth answer, where the helper is not installed."""
    if _breaks(text):
        if os.fork() == 0:
            os.execv("/usr/bin/checker-that-is-not-installed", ["checker"])
        raise RuntimeError("the helper did not answer")
    return sound(text, item)


def mixed(text, item):
    """Break in another way on each fifth answer."""
    if not _breaks(text):
        return sound(text, item)
    kinds = [raising, abstaining, not_a_number, forking]
    return kinds[int(text) // 5 % len(kinds)](text, item)


def raising_on_some(text, item):
    """For answers of any text."""
    del item
    if sum(map(ord, text)) % 5 == 0:
        raise RuntimeError("no judgement")
    return sum(c.isdigit() for c in text) / max(len(text), 1)


def always_one(text):
    """Give every answer 1."""
    del text
    return 1.0
