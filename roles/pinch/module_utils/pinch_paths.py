"""Where a board keeps what the role writes."""

from __future__ import annotations

from pathlib import Path

SETTINGS = "/etc/pinch/pinch.toml"
DEPLOYMENT = "/etc/pinch/deployment.env"
SERVICE = "/etc/systemd/system/pinch.service"
TOKENS = Path("/etc/pinch/tokens")
