"""Heads that plan, by name and to the sizes of the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pilotage.core.errors import UsageError
from pilotage.core.pieces import Term, parse_term
from pilotage.networks.chunk_network import ChunkNetwork
from pilotage.policies.control.heads.head import Head
from pilotage.policies.control.heads.plans import LatentPlans, RelayGoals
from pilotage.training.imitation.builder import NETWORKS, Builder, built


def plan_head(make: Builder, term: Term) -> Head:
    """The head "latent_plans" or "relay". Raises UsageError for parts that do not go with it."""
    parts, sizes = make.parts, make.sizes
    if parse_term(parts.executor).reference != "held" or parts.chunk != parts.observation_steps or parts.executed != 1:
        raise UsageError(
            f"--head {term.reference} needs --executor held and learns from whole windows: --chunk {parts.chunk} must "
            f"be --observation-steps {parts.observation_steps}, and --executed 1"
        )
    _, token = make.encoder.sizes()
    goal = make.encoder.goal_size

    def network(vector_dim: int, outputs: int, *, horizon: int = 1, action_dim: int = sizes.actions) -> ChunkNetwork:
        given = {"action_dim": action_dim, "horizon": horizon, "vector_dim": vector_dim, "outputs": outputs}
        made: ChunkNetwork = built("network", NETWORKS, parse_term(parts.network), {**given, "takes_level": False})
        return made

    given: dict[str, Any] = {"horizon": parts.chunk}
    if term.reference == "relay":
        given |= {"network": network(2 * token, sizes.actions), "high": network(token + goal, token)}
    else:
        latent = int(term.options.get("latent", 32))
        given |= {
            "network": network(token + goal + latent, sizes.actions),
            "prior": network(token + goal, 2 * latent),
            "posterior": network(parts.chunk * token, 2 * latent, horizon=parts.chunk),
        }
    head: Head = built("head", HEADS, term, given)
    return head


HEADS: Mapping[str, Callable[..., Head]] = {"latent_plans": LatentPlans, "relay": RelayGoals}
