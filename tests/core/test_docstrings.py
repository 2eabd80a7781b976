"""Help texts that are read from docstrings."""

from __future__ import annotations

from dataclasses import dataclass

from pilotage.core.docstrings import argument_docs, field_docs


@dataclass(frozen=True)
class Shared:
    lr: float = 0.1
    """Learning rate,
    above 0."""
    plain: int = 0


@dataclass(frozen=True)
class Mine(Shared):
    lr: float = 0.2
    size: int = 3
    """Size."""


def test_fields_have_the_text_below_them_and_a_changed_default_keeps_it() -> None:
    assert field_docs(Mine) == {"lr": "Learning rate, above 0.", "size": "Size."}


def clip(ratio, advantage, *, low=0.2, high=0.2):
    """Return the clipped loss.

    Note: this line is about no argument.

    Args:
        ratio: new over old probability,
            [batch, token].
        low (float): distance below 1.
    """
    return ratio, advantage, low, high


class Base:
    """Piece that counts.

    rate: step of the count.
    """

    def __init__(self, *, rate=1.0):
        self.rate = rate


class Derived(Base):
    """Piece that counts twice."""

    def __init__(self, *, rate=1.0, twice=True):
        """Make it.

        Args:
            twice: whether it does.
        """
        super().__init__(rate=rate)
        self.twice = twice


def test_arguments_have_the_lines_of_the_docstring_that_name_them() -> None:
    assert argument_docs(clip) == {"ratio": "new over old probability, [batch, token].", "low": "distance below 1."}
    assert argument_docs(Derived) == {"rate": "step of the count.", "twice": "whether it does."}
