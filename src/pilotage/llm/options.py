"""Options of a configuration that asks a language model; no heavy imports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pilotage.core.configuration import INPUT_FILE, OUTPUT_FILE, check_ranges
from pilotage.core.errors import UsageError
from pilotage.core.ranges import NonNegativeFloat, NonNegativeInt, PositiveInt

ProviderName = Literal["scripted", "endpoint", "local"]


@dataclass(frozen=True)
class ServiceOptions:
    """The language model as a service"""

    provider: ProviderName = "scripted"
    """What answers questions to a language model. scripted: a formula, whose answers are marked as scripted; endpoint:
    OpenAI's chat completions at `--base-url`; local: a Hugging Face model in this process."""
    model: Annotated[str, INPUT_FILE] = ""
    """Name or folder of the model, for `--provider endpoint` and `local`."""
    base_url: str | None = None
    """Address of the endpoint, such as http://127.0.0.1:8000/v1; none: OpenAI's. The key comes from OPENAI_API_KEY."""
    temperature: NonNegativeFloat | None = None
    """Sampling temperature of the answers, 0 or more; at 0 all draws are the same; none: that of the endpoint, to which
    no temperature is sent, or 1 for a local model."""
    budget_calls: NonNegativeInt | None = None
    """Stop cleanly after this many calls; answers are kept."""
    budget_tokens: NonNegativeInt | None = None
    """Stop cleanly after this many prompt + completion tokens."""
    budget_money: NonNegativeFloat | None = None
    """Stop cleanly after spending this much, in the currency of `--price-prompt`."""
    price_prompt: NonNegativeFloat = 0.0
    """Price of a million prompt tokens."""
    price_completion: NonNegativeFloat = 0.0
    """Price of a million completion tokens."""
    concurrency: PositiveInt = 8
    """Largest number of calls in flight."""
    reply_cache: Annotated[Path | None, OUTPUT_FILE] = None
    """File of cached replies; none: answers.sqlite in the run. Give that of another run to pay for no reply twice."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.asks_a_model and self.provider != "scripted" and not self.model:
            raise UsageError(f"--provider {self.provider} needs --model NAME")

    @property
    def asks_a_model(self) -> bool:
        """Return whether a language model, or the scripted stand-in, is asked."""
        return True

    @property
    def calls_counted(self) -> str:
        """Return the label of counted calls: calls of the scripted stand-in cost nothing."""
        who = "scripted stand-in" if self.provider == "scripted" else "model"
        return f"calls of the {who}, without repairs"
