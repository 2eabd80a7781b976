"""What a trader played by a language model may answer, as pydantic models. Needs the extra `llm`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Whole = Annotated[int, Field(strict=True)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class _Reply(BaseModel):
    model_config = ConfigDict(extra="forbid")


class OrderReply(_Reply):
    """One order, or none."""

    action: Literal["buy", "sell", "no"]
    stock: str = ""
    """Its name."""
    amount: Whole = 0
    """Shares."""
    price: Number = 0.0
    """Dollars."""


class LoanReply(_Reply):
    """One loan, or none."""

    loan: Literal["yes", "no"]
    type: Whole = 0
    """0, 1 or 2."""
    amount: Number = 0.0
    """Dollars."""


class ForecastReply(_Reply):
    """What the trader expects to do tomorrow."""

    buy: list[str] = []
    """Names of stocks."""
    sell: list[str] = []
    loan: Literal["yes", "no"] = "no"


class PostReply(_Reply):
    """A message for the forum; an empty text is no message."""

    text: str = ""
    sentiment: dict[str, Annotated[Number, Field(ge=-1, le=1)]] = {}
    """By name of the stock, −1 to 1."""
