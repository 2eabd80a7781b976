"""A tokeniser and a head over its tokens, by name and to the sizes of the data."""

from __future__ import annotations

from pilotage.core.errors import UsageError
from pilotage.core.pieces import Term, parse_term
from pilotage.policies.control.heads.head import Head
from pilotage.systems.robots.carp.head import NextScaleTokens
from pilotage.systems.robots.carp.multiscale_tokeniser import MultiscaleTokeniser
from pilotage.systems.robots.carp.next_scale_transformer import NextScaleTransformer
from pilotage.training.imitation.builder import Builder, built


def tokeniser_of(text: str, actions: int, chunk: int) -> MultiscaleTokeniser:
    """The tokeniser that `text` names ("multiscale:scales=1|2|3|4"), untrained, of chunks of `chunk` actions."""
    term = parse_term(text)
    given = {"action_dim": actions, "horizon": chunk}
    made: MultiscaleTokeniser = built("tokeniser", {"multiscale": MultiscaleTokeniser}, term, given)
    return made


def token_head(make: Builder, term: Term) -> Head:
    """The head "tokens"; its tokeniser is not trained yet. Raises UsageError for parts that do not go with it."""
    parts = make.parts
    if not hasattr(parts, "tokeniser"):
        raise UsageError("the head tokens learns a tokeniser first, which this system does not; use: pilotage run carp")
    tokeniser = tokeniser_of(parts.tokeniser, make.sizes.actions, parts.chunk)
    given = {name: getattr(tokeniser, name) for name in ("scales", "signals", "codes", "latent")}
    given["vector_dim"] = make.encoder.sizes()[0]
    network = built("network of tokens", {"next_scale": NextScaleTransformer}, parse_term(parts.network), given)
    head: Head = built("head", {"tokens": NextScaleTokens}, term, {"network": network, "tokeniser": tokeniser})
    return head
