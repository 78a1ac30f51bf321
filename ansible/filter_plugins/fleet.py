"""Ansible's filters of the playbooks that look at a whole fleet; each takes host names and `hostvars`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pinch_fleet.glance import as_json, as_markdown, as_text, make_rows
from pinch_fleet.verification import boards


class FilterModule:
    """Ansible's way to find the filters."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {
            "fleet_text": lambda hosts, variables: as_text(make_rows(hosts, variables)),
            "fleet_markdown": lambda hosts, variables: as_markdown(make_rows(hosts, variables)),
            "fleet_json": lambda hosts, variables: as_json(make_rows(hosts, variables)),
            "fleet_boards": boards,
        }
