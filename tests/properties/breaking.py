"""Rewards that break on a fifth of the answers "00" to "99", in a file that workers load alone."""

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


def raising_on_some(text, item):
    """For answers of any text."""
    del item
    if sum(map(ord, text)) % 5 == 0:
        raise RuntimeError("no judgement")
    return sum(c.isdigit() for c in text) / max(len(text), 1)
