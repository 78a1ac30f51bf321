"""What a tier sets aside for the host around the service. Runs on the controller."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "service" / "src"))

from pinch.tiers import load_tiers


def tier_host(name: str) -> dict[str, Any]:
    """Return the table `[tiers.NAME.host]` of the service's own `tiers.toml`; sizes are in the unit their name says.

    Raises:
        TierError: there is no tier of that name.
    """
    return dict(load_tiers().named(name).host)


class FilterModule:
    """Ansible's way to find the filters."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"tier_host": tier_host}
