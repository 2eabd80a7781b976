"""Named streams of random numbers: what one piece draws disturbs no other, and a checkpoint holds them all."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from pilotage.core.errors import UsageError


def derive_seed(seed: int, name: str, *numbers: int) -> int:
    """Return a seed of 63 bits from a run's seed, a name and numbers such as (step, row): SHA-256, no state."""
    text = "\0".join([str(int(seed)), name, *(str(int(number)) for number in numbers)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


class Streams:
    """The generators of a run by name, each seeded from (seed, name) when it is first asked for."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._torch: dict[str, torch.Generator] = {}
        self._numpy: dict[str, np.random.Generator] = {}
        self._waiting: dict[str, dict[str, Any]] = {"torch": {}, "numpy": {}}

    def torch(self, name: str, device: str | torch.device = "cpu") -> torch.Generator:
        """Return the torch generator `name`; always the same object.

        Raises UsageError when it lives on another device.
        """
        if name not in self._torch:
            generator = torch.Generator(device=device)
            generator.manual_seed(derive_seed(self.seed, name))
            if name in self._waiting["torch"]:
                generator.set_state(self._waiting["torch"].pop(name))
            self._torch[name] = generator
        found = self._torch[name]
        if found.device.type != torch.device(device).type:
            raise UsageError(
                f"the generator {name!r} was asked for on {device} but lives on {found.device}; use another name"
            )
        return found

    def numpy(self, name: str) -> np.random.Generator:
        """Return the numpy generator `name` (PCG64); always the same object, apart from the torch one of that name."""
        if name not in self._numpy:
            generator = np.random.Generator(np.random.PCG64(derive_seed(self.seed, "numpy:" + name)))
            if name in self._waiting["numpy"]:
                generator.bit_generator.state = self._waiting["numpy"].pop(name)
            self._numpy[name] = generator
        return self._numpy[name]

    def state_dict(self) -> dict[str, Any]:
        """Return the state of every stream, those included that were restored and not asked for since."""
        torch_states = {**self._waiting["torch"], **{name: g.get_state() for name, g in self._torch.items()}}
        numpy_states = {**self._waiting["numpy"], **{name: g.bit_generator.state for name, g in self._numpy.items()}}
        # Sorted, since a resumed process may have asked for them in another order.
        return {"torch": dict(sorted(torch_states.items())), "numpy": dict(sorted(numpy_states.items()))}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put every stream where it was. One that did not exist then starts at its beginning."""
        self._waiting = {kind: dict(state[kind]) for kind in ("torch", "numpy")}
        for name, generator in self._torch.items():
            if name in self._waiting["torch"]:
                generator.set_state(self._waiting["torch"].pop(name))
            else:
                generator.manual_seed(derive_seed(self.seed, name))
        for name, stream in self._numpy.items():
            fresh = np.random.PCG64(derive_seed(self.seed, "numpy:" + name)).state
            stream.bit_generator.state = self._waiting["numpy"].pop(name, fresh)
