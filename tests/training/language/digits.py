"""Rewards that an untrained policy earns, in a file that workers load alone."""


def digits(text, item):
    """Graded: the share of digits."""
    del item
    return sum(c.isdigit() for c in text) / max(len(text), 1)


def all_or_nothing(text, item):
    """Graded for a third of the prompts; the others' groups are all right or all wrong."""
    return float(int(item.id, 16) % 2) if int(item.id, 16) % 3 else digits(text, item)
