"""A language model as a service: an endpoint, a local model or a scripted stand-in, asked within a budget.

`Service(provider).ask(requests)` returns answers in order; `structured` validates them, `estimate_cost` estimates
what they cost.
"""

from __future__ import annotations

from pilotage.llm.budget import Budget, BudgetReached, Counters, Prices, Spent
from pilotage.llm.chat import ChatAnswer, ChatRequest, Message, Provider, Refused, Token, Usage, say
from pilotage.llm.cost import CostEstimate, estimate_cost
from pilotage.llm.first_token import first_token_shares
from pilotage.llm.local_model import LocalModel
from pilotage.llm.openai_compatible import OpenAICompatible
from pilotage.llm.retries import Retries
from pilotage.llm.scripted import Scripted
from pilotage.llm.service import ProviderDown, Service
from pilotage.llm.store import Store
from pilotage.llm.structured import Structured, structured

__all__ = [
    "Budget",
    "BudgetReached",
    "ChatAnswer",
    "ChatRequest",
    "CostEstimate",
    "Counters",
    "LocalModel",
    "Message",
    "OpenAICompatible",
    "Prices",
    "Provider",
    "ProviderDown",
    "Refused",
    "Retries",
    "Scripted",
    "Service",
    "Spent",
    "Store",
    "Structured",
    "Token",
    "Usage",
    "estimate_cost",
    "first_token_shares",
    "say",
    "structured",
]
