"""What systemd is told: ready, what is going on, and a watchdog fed only while work really gets done."""

from __future__ import annotations

import asyncio
import logging
import os

from sdnotify import SystemdNotifier

from pinch.errors import PinchError, StoreDamaged
from pinch.memory.store import Store

log = logging.getLogger(__name__)

FEEDS_PER_PERIOD = 3
"""How often the watchdog is fed within the time systemd allows."""


def _no_work(_: object) -> None:
    return None


class Supervision:
    """The line to the service manager; silent where there is none."""

    def __init__(self, store: Store, period_s: float) -> None:
        self.store = store
        self.period_s = period_s
        """Seconds within which systemd wants a sign of life; 0 where it does not."""
        self._notifier = SystemdNotifier()
        self._task: asyncio.Task[None] | None = None

    @classmethod
    def from_environment(cls, store: Store) -> Supervision:
        """Read what systemd asks of this process."""
        mine = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        return cls(store, int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6 if mine else 0)

    def status(self, text: str) -> None:
        """Show `text` in `systemctl status`."""
        self._notifier.notify(f"STATUS={text}")

    def waiting(self, text: str, allowed_s: float) -> None:
        """Show `text`, and ask for `allowed_s` seconds more until the start counts as failed."""
        self._notifier.notify(f"EXTEND_TIMEOUT_USEC={allowed_s * 1e6:.0f}\nSTATUS={text}")

    def ready(self) -> None:
        """Say that the service answers, and begin to feed the watchdog."""
        self._notifier.notify("READY=1")
        if self.period_s:
            self._task = asyncio.create_task(self._feed(), name="pinch-watchdog")

    async def stop(self) -> None:
        """Say that the service ends."""
        self._notifier.notify("STOPPING=1")
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _feed(self) -> None:
        """Feed the watchdog after the loop and the writing thread have both turned once."""
        while True:
            try:
                await self.store.writer.run(_no_work)
            except StoreDamaged:
                pass
            except PinchError as error:
                log.warning("watchdog not fed: %s", error.message)
                await asyncio.sleep(1)
                continue
            except Exception:
                log.exception("watchdog not fed")
                await asyncio.sleep(1)
                continue
            self._notifier.notify("WATCHDOG=1")
            await asyncio.sleep(self.period_s / FEEDS_PER_PERIOD)
