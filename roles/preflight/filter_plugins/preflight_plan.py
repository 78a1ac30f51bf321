"""Ansible's filters of the plan.

Tiers and settings are the service's own modules, so that Ansible and the service cannot disagree about a board.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "service" / "src"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "planning"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "memory_cgroup" / "module_utils"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "module_utils"))

from pinch_plan.plan import plan_board
from pinch_plan.toml import to_toml
from pinch_plan.variables import declared_options, unknown_variables


class FilterModule:
    """Ansible's way to find the filters."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {
            "preflight_plan": plan_board,
            "preflight_options": declared_options,
            "preflight_unknown": unknown_variables,
            "to_pinch_toml": to_toml,
        }
