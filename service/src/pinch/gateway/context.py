"""What handlers work with; the composition root fills it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from pinch.agents.agent import Agent
from pinch.agents.bus import Bus
from pinch.agents.followers import Followers
from pinch.agents.sessions import Sessions
from pinch.budget.ledger import Ledger
from pinch.errors import Busy
from pinch.gateway.keeper import TokenKeeper
from pinch.gateway.metrics import Metrics
from pinch.gateway.reading import InFlight
from pinch.logbook import Logbook
from pinch.memory.access import Memories
from pinch.memory.embedding import Embedder
from pinch.memory.indexer import Indexer
from pinch.memory.search import Recall
from pinch.memory.store import Store
from pinch.memory.sync import FolderSync
from pinch.settings import Settings
from pinch.tiers import Tier

if TYPE_CHECKING:
    from pinch.gateway.websocket.pool import Pool


class Context:
    """The parts of a running service."""

    def __init__(
        self,
        *,
        settings: Settings,
        tier: Tier,
        ledger: Ledger,
        store: Store,
        embedder: Embedder,
        indexer: Indexer,
        recall: Recall,
        sync: FolderSync,
        tokens: TokenKeeper,
        in_flight: InFlight,
        max_body: int,
        metrics: Metrics,
        memories: Memories,
        sessions: Sessions,
        bus: Bus,
        agent: Agent,
        followers: Followers,
        pool: Pool,
        logbook: Logbook,
    ) -> None:
        self.settings = settings
        self.tier = tier
        self.ledger = ledger
        self.store = store
        self.embedder = embedder
        self.indexer = indexer
        self.recall = recall
        self.sync = sync
        self.tokens = tokens
        self.in_flight = in_flight
        self.max_body = max_body
        """Bytes of the largest JSON body."""
        self.metrics = metrics
        self.memories = memories
        self.sessions = sessions
        self.bus = bus
        self.agent = agent
        self.followers = followers
        self.pool = pool
        self.logbook = logbook
        self.waiting_for: set[str] = set()
        """What has to happen before the service is ready."""
        self.snapshot_under_way = False

    def require_ready(self) -> None:
        """Make sure that work can be done.

        Raises:
            Busy: something has to happen before.
        """
        if self.waiting_for:
            raise Busy(f"not ready: waiting for {', '.join(sorted(self.waiting_for))}", hint="try again in a second")

    @property
    def state_dir(self) -> Path:
        """Folder of the store."""
        return self.store.config.path.parent


CONTEXT: web.AppKey[Context] = web.AppKey("context", Context)


def context_of(request: web.Request) -> Context:
    """Return the parts that serve `request`."""
    return request.app[CONTEXT]
