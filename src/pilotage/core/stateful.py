"""The protocol of whatever a checkpoint holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Stateful(Protocol):
    """State that a checkpoint holds: nested dictionaries and lists of tensors, numbers, strings, None."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put the object into the state that `state_dict` gave."""
        ...
