"""A head of one's own: how a policy's network is trained to answer with a chunk of actions.

python examples/own_head.py
pilotage run bc-mlp --head examples/own_head.py:LogCosh:scale=0.3
"""

import sys

import torch
from torch import Tensor

import pilotage
from pilotage.policies.control.heads.direct import Regression
from pilotage.policies.control.saving import register


@register  # so that policies with this head can be saved and loaded
class LogCosh(Regression):
    """The chunk itself, by ln cosh of the error: squared where it is small, absolute where it is large."""

    def __init__(self, network, *, scale: float = 1.0) -> None:
        super().__init__(network)
        self.scale = scale

    def loss(self, chunk: Tensor, condition, generator, mask: Tensor | None) -> Tensor:
        """Return the loss of each window, [window].

        Args:
            chunk: demonstrated actions, normalised, [window, time, action].
            condition: what the encoder made of the observations.
            generator: source of random numbers; this head draws none.
            mask: which steps of a window are part of the demonstration, [window, time]; None: all.
        """
        error = torch.log(torch.cosh((self._answer(condition) - chunk) / self.scale)).mean(-1)
        kept = torch.ones_like(error) if mask is None else mask.to(error.dtype)
        return (error * kept).sum(-1) / kept.sum(-1).clamp(min=1)


if __name__ == "__main__":
    SMALL = {"network": "residual_mlp:width=64,depth=1", "demonstrations": 20, "batch": 64, "videos": 0}
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    result = pilotage.run("bc-mlp", head=LogCosh, env="pillar", steps=steps, evaluation_episodes=10, **SMALL)
    print(result.metrics["evaluation/success"], "of the episodes reach the goal")
    print(result.policy())
