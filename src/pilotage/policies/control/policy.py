"""A policy that acts: normalisers, encoder, head, initialiser and executor joined."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.data.normalisers import Normaliser
from pilotage.policies.control import saving
from pilotage.policies.control.encoders import Encoder, without_goal
from pilotage.policies.control.execution.executors import Executor
from pilotage.policies.control.heads.context_denoiser import executed_context, last_actions
from pilotage.policies.control.heads.head import Head
from pilotage.policies.control.sampling.guidance import chained, classifier_free
from pilotage.policies.control.sampling.sampling import Guide
from pilotage.policies.control.sampling.starts import FreshStart, Initialiser, ObservationAware

ACTION = "action"
"""The key of the actions' normaliser."""
LIMIT_TOLERANCE = 1.001
"""Share of a limit that demonstrated actions may reach: their range is rounded."""
PARTS = ("encoder", "head", "executor", "initialiser")
"""Parts that a saved policy describes."""


class ActionPolicy:
    """`reset(rows)`, then `act(observations, rows) -> actions` in raw units, for any subset of rows at each step.

    A row is an episode. It has its own chunk and random numbers, so what happens in it does not depend on which other
    rows are asked. `goal_weight` is the λ of classifier-free guidance. `calls` maps rows to the network passes that
    served them so far, `passes` counts the passes (one may serve many rows), `decisions` the chunks made. A head with a
    `history` has the first actions of its chunks held at those that the row executed last.
    """

    opened_by: ClassVar[str] = "pilotage.load"
    """Name of the function that opens a saved folder."""

    def __init__(
        self,
        encoder: Encoder,
        head: Head,
        executor: Executor,
        normalisers: Mapping[str, Normaliser],
        *,
        initialiser: Initialiser | None = None,
        goal_weight: float = 1.0,
        seed: int = 0,
    ) -> None:
        self.encoder, self.head, self.executor = encoder, head, executor
        self.normalisers, self.goal_weight, self.seed = dict(normalisers), goal_weight, seed
        self.initialiser: Initialiser = FreshStart() if initialiser is None else initialiser
        self._check_parts()
        self.calls: dict[int, int] = {}
        self.passes, self.decisions = 0, 0
        self._windows: dict[int, list[dict[str, Tensor]]] = {}
        self._executed: dict[int, list[Tensor]] = {}
        self._generators: dict[int, torch.Generator] = {}

    def reset(self, rows: Sequence[int], seeds: Sequence[int] | None = None) -> None:
        """Begins an episode in these rows. Noise is drawn by (policy's seed, row), or by (policy's seed, `seeds`):
        give seeds where a row is a lane that is used again, and where noise should not depend on the row's number.
        """
        if seeds is not None and len(seeds) != len(rows):
            raise UsageError(f"{len(seeds)} seeds for {len(rows)} rows; give one per row")
        rows = [int(row) for row in rows]
        self.executor.reset(rows)
        self.initialiser.reset(rows)
        for row, own in zip(rows, rows if seeds is None else seeds, strict=True):
            self._windows[row], self._executed[row] = [], []
            source = [self.seed, int(own)]
            state = np.random.SeedSequence(source).generate_state(2, np.uint32)
            self._generators[row] = torch.Generator().manual_seed(int(state[0]) << 32 | int(state[1]))

    @torch.no_grad()
    def act(self, observations: Mapping[str, Any] | np.ndarray | Tensor, rows: Sequence[int]) -> Tensor:
        """Return the next action of each row: [n, A] float32 on the CPU, raw units.

        `observations` are raw: windows "state" [n, To, S], "image/NAME" [n, To, C, H, W] in [0, 1], the newest frame
        last, and "goal" [n, G]. Without the dimension To they are this step's alone, and the policy keeps the window
        (each row must then be asked at every step). An array alone is the state. Raises UsageError for a row that was
        never reset, and for chunks that are not finite.
        """
        rows = [int(row) for row in rows]
        unknown = [row for row in rows if row not in self._windows]
        if unknown or len(set(rows)) != len(rows):
            raise UsageError(f"rows {rows}: each must be there once and be reset first (not reset: {unknown})")
        self._observe(observations, rows)
        due = [row for row in rows if self.executor.due(row)]
        if due and isinstance(self.initialiser, ObservationAware):
            self.initialiser.watch(due, self._stacked(due))
        for group in (
            [r for r in due if self.initialiser.has_start(r)],
            [r for r in due if not self.initialiser.has_start(r)],
        ):
            if group:
                self._decide(group)
        normalised = self._next(rows)
        if self.head.history:
            for row, action in zip(rows, normalised, strict=True):
                self._executed[row] = [*self._executed[row], action][-self.head.history :]
        return self.normalisers[ACTION].denormalise(normalised).cpu()

    def __str__(self) -> str:
        """Return what it is, what it takes and what it gives, a line for each."""
        head, encoder, executor = self.head, self.encoder, self.executor
        kinds = [type(part).__name__ for part in (head, head.network, encoder, executor)]
        frames = f"the last {encoder.frames} observations" if encoder.frames > 1 else "the newest observation"
        takes = [f"'state' [rows, {encoder.state_dim}]"] if encoder.state_dim else []
        channels = getattr(encoder, "channels", 3)
        takes += [
            f"'image/{name}' [rows, {channels}, height, width] in 0..1" for name in getattr(encoder, "cameras", ())
        ]
        takes += [f"'goal' [rows, {encoder.goal_size}]"] if encoder.goal_dim else []
        return (
            f"Robot policy: head {kinds[0]} on a {kinds[1]}, encoder {kinds[2]}, executor {kinds[3]}\n"
            f"takes {', '.join(takes)} in raw units, by policy.act(observations, rows); it decides on {frames}\n"
            f"gives actions [rows, {self.normalisers[ACTION].offset.numel()}] in raw units; plans chunks of "
            f"{executor.horizon} actions and executes {executor.executed} of each"
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors into `folder`, the normalisers' numbers with the weights.

        Raises UsageError for a part whose class no system declares and `saving.register` does not know.
        """
        modules = {"encoder": self.encoder, "head": self.head}
        modules |= {f"normaliser.{name}": normaliser for name, normaliser in self.normalisers.items()}
        tensors = {
            f"{part}.{name}": tensor.detach().cpu().contiguous().clone()
            for part, module in modules.items()
            for name, tensor in module.state_dict().items()
        }
        parts = {part: saving.describe(getattr(self, part)) for part in PARTS}
        normalisers = list(self.normalisers)
        settings = {"goal_weight": self.goal_weight, "seed": self.seed, "normalisers": normalisers}
        saving.write(folder, {**parts, **settings}, tensors)

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, device: torch.device | str = "cpu") -> ActionPolicy:
        """Return the policy that `save_pretrained` wrote, ready to be reset.

        Raises UsageError for a folder without a policy, another format, or weights that do not fit.
        """
        config, tensors = saving.read(folder)
        parts = {part: saving.rebuild(config[part]) for part in PARTS}
        for part in ("encoder", "head"):
            try:
                parts[part].load_state_dict(saving.below(tensors, part))
            except RuntimeError as error:
                raise UsageError(
                    f"the weights of the {part} in {folder} do not fit its description: {error}"
                ) from error
        normalisers = {
            name: Normaliser.from_state(saving.below(tensors, f"normaliser.{name}")) for name in config["normalisers"]
        }
        settings = {"goal_weight": config["goal_weight"], "seed": config["seed"]}
        return cls(normalisers=normalisers, **parts, **settings).to(device)

    def to(self, device: torch.device | str) -> ActionPolicy:
        """Moves encoder and head; random numbers stay on the CPU, so that they are the same on every device."""
        for part in (self.encoder, self.head, *self.normalisers.values()):
            part.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Return the device of the weights."""
        return next(self.head.parameters()).device

    def _decide(self, rows: Sequence[int]) -> None:
        """Samples a chunk for rows that are all warm or all cold."""
        generators = [self._generators[row] for row in rows]
        observations = self._stacked(rows)
        with evaluating(self.encoder, self.head), self._counted(rows):
            condition = self.encoder(observations)
            guide = self._guide(observations, rows)
            start = self.initialiser.start(rows, generators) if self.initialiser.has_start(rows[0]) else None
            chunks = self.head.decide(condition, generators, start, guide)
        if not bool(chunks.isfinite().all()):
            raise UsageError(
                "the policy's chunk is not finite; look at its weights and at the observations it was given"
            )
        self.decisions += len(rows)
        self.executor.receive(rows, chunks)
        self.initialiser.keep(rows, chunks)

    def _next(self, rows: Sequence[int]) -> Tensor:
        """The next action of each row, normalised: [n, A]."""
        given = self.executor.next(rows)
        if not self.head.decodes:
            return given
        with evaluating(self.encoder, self.head), self._counted(rows):
            return self.head.decode_action(given, self.encoder(self._stacked(rows)))

    def _guide(self, observations: Mapping[str, Tensor], rows: Sequence[int]) -> Guide | None:
        guides: list[Guide] = []
        if self.goal_weight != 1:
            free = self.head.denoiser(self.encoder(without_goal(observations)))
            guides.append(classifier_free(free, self.goal_weight))
        if self.head.history:
            like = next(self.head.parameters()).new_empty(self.head.action_dim)
            executed = last_actions([self._executed[row] for row in rows], self.head.history, like)
            # Outermost, so that what is guided towards the goal sees the same history with and without it.
            guides.append(executed_context(executed, self.head.horizon))
        return chained(*guides) if guides else None

    def _observe(self, observations: Mapping[str, Any] | np.ndarray | Tensor, rows: Sequence[int]) -> None:
        """Brings the rows' windows up to date, normalised; the first frame of an episode fills its whole window."""
        if not isinstance(observations, Mapping):
            observations = {"state": observations}
        tensors = {key: torch.as_tensor(value, device=self.device).float() for key, value in observations.items()}
        for key, value in tensors.items():
            if len(value) != len(rows):
                raise UsageError(f"observation {key!r} has {len(value)} rows for {len(rows)} rows asked")
            if key in self.normalisers:
                tensors[key] = self.normalisers[key].normalise(value)
        moving = {key: value for key, value in tensors.items() if key != "goal"}
        frames = self.executor.frames
        windows = {value.dim() == (5 if key.startswith("image/") else 3) for key, value in moving.items()}
        if len(windows) != 1:
            raise UsageError("observations must all be windows [n, To, ...], or all be of one step [n, ...]")
        if windows == {True} and any(value.shape[1] != frames for value in moving.values()):
            sizes = ", ".join(f"{key} {list(value.shape)}" for key, value in moving.items())
            raise UsageError(f"windows {sizes}; this policy sees To={frames} frames")
        for position, row in enumerate(rows):
            still = {key: value[position] for key, value in tensors.items() if key == "goal"}
            if windows == {True}:
                seen = [{key: value[position, n] for key, value in moving.items()} | still for n in range(frames)]
            else:
                frame = {key: value[position] for key, value in moving.items()} | still
                seen = [*self._windows[row], frame] if self._windows[row] else [frame] * frames
            self._windows[row] = seen[-frames:]

    def _stacked(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Windows [n, To, ...] of all observations, but the newest goal [n, ...]."""
        windows = [self._windows[row] for row in rows]
        stacked = {}
        for key in windows[0][-1]:
            if key == "goal":
                stacked[key] = torch.stack([window[-1][key] for window in windows])
            else:
                stacked[key] = torch.stack([torch.stack([frame[key] for frame in window]) for window in windows])
        return stacked

    def _check_parts(self) -> None:
        if ACTION not in self.normalisers:
            raise UsageError(f"no normaliser for {ACTION!r}; the chunk could not be brought back to raw units")
        if self.executor.frames != self.encoder.frames:
            raise UsageError(
                f"the executor's frames={self.executor.frames} and the encoder's {self.encoder.frames} differ"
            )
        if self.executor.horizon != self.head.horizon:
            raise UsageError(
                f"the executor's horizon={self.executor.horizon} and the head's {self.head.horizon} differ"
            )
        expected = self.initialiser.executed
        if expected is not None and expected != self.executor.executed:
            raise UsageError(
                f"the initialiser shifts chunks by {expected}, but {self.executor.executed} actions are executed "
                "between decisions; make both the same"
            )
        if self.goal_weight != 1 and not self.encoder.goal_dim:
            raise UsageError(f"goal_weight={self.goal_weight} needs an encoder with a goal")

    @contextmanager
    def _counted(self, rows: Sequence[int]) -> Iterator[None]:
        """Counts what the head's networks do for these rows."""

        def count(*_: Any) -> None:
            self.passes += 1
            for row in rows:
                self.calls[row] = self.calls.get(row, 0) + 1

        with ExitStack() as hooks:
            for network in self.head.networks:
                hooks.enter_context(network.register_forward_hook(count))
            yield


def expect_within_limit(limit: float | None, reason: str, normaliser: Normaliser) -> None:
    """Raise UsageError when demonstrated actions lie beyond what can be answered, so that they would be cut off.

    Args:
        limit: largest absolute value that is answered, in normalised units; None: there is none.
        reason: what limits it, for the message.
        normaliser: of the actions, fitted to those that are demonstrated.
    """
    reach = normaliser.reach()
    if limit is not None and reach > limit * LIMIT_TOLERANCE:
        raise UsageError(
            f"the scaling of actions puts demonstrated ones at up to ±{reach:.3g}, and {reason} answers within "
            f"±{limit:g} only, so that the rest would be cut off: give --action-scaling min_max, or another limit"
        )


@contextmanager
def evaluating(*modules: torch.nn.Module) -> Iterator[None]:
    """Within the block the modules are in evaluation mode (no dropout of units or goals)."""
    modes = [module.training for module in modules]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.train(mode)
