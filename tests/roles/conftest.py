"""What modules share is found as Ansible finds it, also by tests that import it without `load`."""

from __future__ import annotations

import importlib

importlib.import_module("tests.roles.sources")
