"""A reward that an untrained policy earns: workers load this file alone."""


def graded(text, item):
    """The share of digits."""
    del item
    return sum(c.isdigit() for c in text) / max(len(text), 1)


def mostly_right(text, item):
    """1 or 0, by the text alone."""
    del item
    return float(sum(map(ord, text)) % 3 > 0)
