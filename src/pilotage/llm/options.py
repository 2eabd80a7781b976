"""What a configuration says of the language model that it asks; no heavy imports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pilotage.core.errors import UsageError

ProviderName = Literal["scripted", "endpoint", "local"]


@dataclass(frozen=True)
class ServiceOptions:
    """The language model as a service"""

    provider: ProviderName = "scripted"
    """Who answers where a language model is asked: scripted: a stand-in, which says so; endpoint: OpenAI's chat
    completions at `--base-url`; local: a Hugging Face model in this process."""
    model: str = ""
    """Name or folder of the model, for endpoint and local."""
    base_url: str | None = None
    """Such as http://127.0.0.1:8000/v1; none: the vendor's. The key comes from OPENAI_API_KEY."""
    temperature: float = 1.0
    """Of the model's answers, 0 or more; at 0 all draws are the same."""
    budget_calls: int | None = None
    """Calls after which the run stops cleanly with what it has; what was answered is kept."""
    budget_tokens: int | None = None
    """The same in tokens of prompts and answers."""
    budget_money: float | None = None
    """The same in money."""
    price_prompt: float = 0.0
    """Money for a million tokens of prompts."""
    price_completion: float = 0.0
    """Money for a million tokens of answers."""
    concurrency: int = 8
    """Most calls under way at a time."""
    answers: Path | None = None
    """File that keeps the model's answers; none: in the run. Give another run's to pay for nothing twice."""

    def __post_init__(self) -> None:
        if self.asks_a_model and self.provider != "scripted" and not self.model:
            raise UsageError(f"--provider {self.provider} needs --model NAME")

    @property
    def asks_a_model(self) -> bool:
        """Whether somebody is played by a language model, or by its stand-in."""
        return True

    @property
    def calls_counted(self) -> str:
        """Whose calls a forecast counts, in words: a stand-in's are no model's, and cost nothing."""
        who = "scripted stand-in" if self.provider == "scripted" else "model"
        return f"calls of the {who}, without repairs"
