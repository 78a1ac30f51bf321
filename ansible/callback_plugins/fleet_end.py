"""Ansible's callback that ends a run with a sentence for each host that did not get to the end."""

from __future__ import annotations

from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: fleet_end
type: aggregate
short_description: Say at the end which hosts failed, where and why
description:
  - In a fleet the reason of a failure has scrolled away long before the recap, which has only counts.
author: The Pinch authors
"""
LONGEST = 400
"""Characters of a reason; the whole of it stands where the task failed."""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Keeps the last failure of each host and tells those that counted."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "fleet_end"

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._failures: dict[str, str] = {}

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Keep a failure, unless the playbook goes on as if there were none."""
        if not ignore_errors:
            self._keep(result, "failed at")

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Keep that a host was lost."""
        self._keep(result, "was lost at")

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Tell who failed; a failure that a rescue mended is none."""
        hosts = sorted(stats.processed)
        counts = {host: stats.summarize(host) for host in hosts}
        failed = [host for host in hosts if counts[host]["failures"] or counts[host]["unreachable"]]
        if not failed:
            return
        self._display.banner(f"{len(failed)} OF {len(hosts)} HOSTS FAILED")
        for host in failed:
            self._display.display(f"{host} {self._failures.get(host, 'failed; its reason is above')}", color="red")

    def _keep(self, result: Any, how: str) -> None:
        reason = " ".join(str(result.result.get("msg") or "").split())[:LONGEST]
        self._failures[result.host.get_name()] = f"{how} {result.task.get_name()}: {reason}"
