"""The systems, a folder each below the folder of their family. `pilotage.systems()` names them."""

from __future__ import annotations

import sys
from types import ModuleType


class _Systems(ModuleType):
    """This package; a call lists the names of systems."""

    def __call__(self, family: str | None = None) -> list[str]:
        """Return the names of all systems, or of those of one family, such as "reasoning"."""
        from pilotage.core.registry import all_systems

        return [system.name for system in all_systems() if family in (None, system.card.family)]


sys.modules[__name__].__class__ = _Systems
