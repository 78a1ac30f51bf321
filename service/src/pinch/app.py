"""The composition root: builds every part from the settings, and owns start and stop."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from math import inf
from pathlib import Path

import apsw

from pinch.agents.agent import Agent
from pinch.agents.answering import Answering
from pinch.agents.archive import archive_into
from pinch.agents.bus import Bus
from pinch.agents.followers import Followers
from pinch.agents.provider import Provider
from pinch.agents.sessions import IN_USE, SUMMARY_BYTES, Sessions
from pinch.agents.tools import Tools
from pinch.budget import allocator
from pinch.budget.ledger import Ledger, OverBudget
from pinch.errors import PinchError, StoreInUse
from pinch.gateway.context import Context
from pinch.gateway.http import application
from pinch.gateway.keeper import TokenKeeper
from pinch.gateway.listener import Listener, ListenError
from pinch.gateway.metrics import Metrics
from pinch.gateway.reading import InFlight
from pinch.gateway.tokens import TokensError
from pinch.gateway.websocket.events import RunEvents
from pinch.gateway.websocket.pool import BUFFERS_AT_ONCE, Pool
from pinch.logbook import Logbook
from pinch.memory import vectors
from pinch.memory.access import Memories
from pinch.memory.database import DatabaseConfig
from pinch.memory.embedding import Embedder
from pinch.memory.indexer import Indexer
from pinch.memory.search import Recall
from pinch.memory.store import Store
from pinch.memory.sync import FolderSync
from pinch.settings import Settings, SettingsError
from pinch.supervision import Supervision
from pinch.tiers import KIBIBYTE, Machine, Tier, TierError, TierTable, fits, load_tiers, this_machine

log = logging.getLogger(__name__)

STORE_FILE = "pinch.db"
SESSIONS_FOLDER = "sessions"
MODELS_DIR = Path("/var/lib/pinch-models/current")
CONNECTION_BYTES = 24 * KIBIBYTE
"""What an open connection holds in aiohttp's buffers and objects."""
STOP_S = 3
"""Seconds that requests have to end after SIGTERM; those that then are cut have as long again to clear up."""
WAITING = "waiting for the store"
"""How the status of a service begins that may not open it yet; the role `pinch` looks for it."""
LOOK_S = 0.05
"""Seconds between two looks whether the store can be had."""
TELL_S = 10.0
"""Seconds between two words to systemd that it is still waited for."""
OPEN_S = 180.0
"""Seconds that a store may take to open after a wait, as after a power cut on a slow card."""
SETTLE_S = 1
"""Seconds after the start at which what it left behind is cleared away: those who waited for it are answered first."""


def ledger_of(settings: Settings, tier: Tier) -> Ledger:
    """Return the tier's ledger; a setting that asks for more than its account enlarges the account.

    Raises:
        OverBudget: the accounts do not fit the budget.
    """
    accounts = dict(tier.accounts)
    gateway = settings.gateway
    connections = (gateway.max_connections or tier.max_connections) * CONNECTION_BYTES // KIBIBYTE
    untaken = BUFFERS_AT_ONCE * (gateway.send_buffer_kb or tier.send_buffer_kb)
    body = gateway.max_body_kb or tier.max_body_kb
    accounts["connections"] = max(accounts["connections"], connections + body + untaken)
    accounts["sessions"] = max(accounts["sessions"], _working_sessions_kb(settings, tier))
    if tier.semantic:
        accounts["query_cache"] = settings.embedding.query_cache_kb or accounts["query_cache"]
    return Ledger.checked(tier.name, settings.budget_mb or tier.budget_mb, accounts)


def _working_sessions_kb(settings: Settings, tier: Tier) -> int:
    """Return what the index, the sessions in use and the answers in the making may take, KiB."""
    agents = settings.agents
    index = agents.max_sessions * SUMMARY_BYTES // KIBIBYTE
    answers = (agents.max_runs or tier.max_runs) * settings.provider.max_answer_kb
    return index + IN_USE * (agents.session_kb or tier.session_kb) + answers


def _misfit(settings: Settings, tier: Tier, machine: Machine) -> str | None:
    try:
        ledger_of(settings, tier)
    except OverBudget as error:
        return str(error)
    return fits(tier, machine)


def choose_tier(settings: Settings, table: TierTable) -> Tier:
    """Return the tier to run in.

    Raises:
        TierError: it fits neither the budget nor this machine, and may not be stepped down.
    """
    machine = this_machine()
    tier: Tier | None = table.detect(machine) if settings.tier == "auto" else table.named(settings.tier)
    while tier is not None:
        reason = _misfit(settings, tier, machine)
        if reason is None:
            return tier
        smaller = table.smaller(tier)
        if settings.on_misfit == "refuse" or smaller is None:
            raise TierError(f"{reason}; set PINCH_TIER to a smaller tier, or PINCH_ON_MISFIT=step_down")
        log.warning("%s: stepping down to %s", reason, smaller.name)
        tier = smaller
    raise TierError("no tier fits this machine")


def _distinct(folders: list[str]) -> list[Path]:
    """Return the folders to sync; their last names begin document paths, so no two may be the same.

    Raises:
        SettingsError: two are.
    """
    by_name: dict[str, str] = {}
    for folder in folders:
        name = Path(folder).resolve().name
        if name in by_name:
            raise SettingsError(f"sync.folders has {by_name[name]} and {folder}: both would be {name}/…; rename one")
        by_name[name] = folder
    return [Path(folder) for folder in folders]


class Service:
    """All parts, joined.

    Texts go gateway → store → indexer → vectors, queries come back through recall. What is said goes gateway → bus →
    agent → provider, and what is answered agent → bus → gateway.
    """

    def __init__(self, context: Context, supervision: Supervision, listener: Listener) -> None:
        self.context = context
        self.supervision = supervision
        self.listener = listener
        self._check: asyncio.Task[None] | None = None

    @property
    def runs(self) -> int:
        """Answers that may be in the making at once."""
        return self.context.settings.agents.max_runs or self.context.tier.max_runs

    @classmethod
    def build(cls, settings: Settings, tier: Tier, logbook: Logbook) -> Service:
        """Join the parts; nothing is opened yet.

        Raises:
            OverBudget: the tier's accounts do not fit the budget.
        """
        ledger = ledger_of(settings, tier)
        memory = settings.memory
        store = Store(
            DatabaseConfig(
                path=Path(settings.state_dir) / STORE_FILE,
                synchronous=memory.synchronous,
                readers=memory.readers or tier.readers,
                cache_kb=memory.sqlite_cache_kb or tier.sqlite_cache_kb,
                heap_bytes=ledger.limits["sqlite"],
                ingest_bytes=ledger.limits["ingest"],
                extension=Path(vectors.extension_path()) if tier.semantic else None,
            )
        )
        folder = Path(settings.model_dir) if settings.model_dir else MODELS_DIR
        embedder = Embedder(
            folder=folder if tier.semantic else None,
            threads=settings.embedding.threads,
            idle_unload_s=settings.embedding.idle_unload_s,
            cache_bytes=ledger.limits.get("query_cache", 0),
            record=Path(settings.state_dir) / "model-probed",
        )
        indexer = Indexer(store, embedder)
        sync = FolderSync(
            store=store,
            folders=_distinct(settings.sync.folders),
            patterns=settings.sync.patterns,
            space=settings.sync.space,
            chunk_tokens=memory.chunk_tokens,
            chunk_overlap=memory.chunk_overlap,
            changed=indexer.wake,
        )
        recall = Recall(store, embedder, indexer, tier.semantic)
        memories = Memories(store, indexer)
        bus = Bus(ledger.limits["bus"], settings.agents.max_runs or tier.max_runs)
        agent = cls._agent(settings, tier, ledger, bus, recall=recall, memories=memories)
        tokens = TokenKeeper(Path(settings.tokens_file))
        connections = settings.gateway.max_connections or tier.max_connections
        pool = Pool(
            settings.gateway,
            tokens,
            connections=connections,
            buffer_bytes=(settings.gateway.send_buffer_kb or tier.send_buffer_kb) * KIBIBYTE,
        )
        followers = Followers()
        bus.events.subscribe(followers.handle)
        run_events = RunEvents(pool)
        bus.events.subscribe(run_events.handle)
        context = Context(
            settings=settings,
            tier=tier,
            ledger=ledger,
            store=store,
            embedder=embedder,
            indexer=indexer,
            recall=recall,
            sync=sync,
            tokens=tokens,
            in_flight=InFlight(ledger.limits["connections"]),
            max_body=(settings.gateway.max_body_kb or tier.max_body_kb) * KIBIBYTE,
            metrics=Metrics(ledger),
            memories=memories,
            sessions=agent.sessions,
            bus=bus,
            agent=agent,
            followers=followers,
            pool=pool,
            logbook=logbook,
        )
        listener = Listener(settings.listen, settings.gateway, connections, context.in_flight)
        cls._open_accounts(context, listener, run_events)
        return cls(context, Supervision.from_environment(store), listener)

    @staticmethod
    def _agent(
        settings: Settings, tier: Tier, ledger: Ledger, bus: Bus, *, recall: Recall, memories: Memories
    ) -> Agent:
        """Return the agent; prompts go bus → sessions → provider and tools → bus."""
        sessions = Sessions(
            Path(settings.state_dir) / SESSIONS_FOLDER,
            file_limit=(settings.agents.session_kb or tier.session_kb) * KIBIBYTE,
            count_limit=settings.agents.max_sessions,
            cache_bytes=ledger.limits["sessions"] - _working_sessions_kb(settings, tier) * KIBIBYTE,
            archive=archive_into(memories),
        )
        provider = Provider(
            settings.provider,
            settings.provider.max_answer_kb * KIBIBYTE,
            random=random.random,
            at_once=settings.agents.max_runs or tier.max_runs,
        )
        answering = Answering(
            settings=settings.agents,
            sessions=sessions,
            provider=provider,
            recall=recall,
            tools=Tools(recall, memories, settings.agents.remember_space),
            bus=bus,
        )
        return Agent(sessions=sessions, provider=provider, answering=answering, bus=bus)

    @staticmethod
    def _open_accounts(context: Context, listener: Listener, run_events: RunEvents) -> None:
        ledger, embedder = context.ledger, context.embedder
        ledger.open("sqlite", apsw.memory_used, lambda: apsw.release_memory(ledger.limits["sqlite"]))
        ledger.open(
            "connections",
            lambda: context.in_flight.used + context.pool.used + listener.open_connections * CONNECTION_BYTES,
        )
        ledger.open("sessions", lambda: context.sessions.used + context.agent.used, context.sessions.trim)
        ledger.open("bus", lambda: context.bus.used + run_events.used)
        ledger.open("ingest", lambda: context.store.writer.waiting_bytes)
        if context.tier.semantic:
            ledger.open("model", lambda: embedder.model_bytes)
            ledger.open("query_cache", lambda: embedder.cache_used, embedder.trim_cache)

    async def start(self, ended: asyncio.Event) -> bool:
        """Take the store, tidy up after the last run, listen, and say so; false where `ended` came before the store.

        Raises:
            PinchError, TokensError, ListenError: what stands in the way.
        """
        context = self.context
        context.tokens.load(create=True)
        if not await self._take_over(ended):
            return False
        context.store.open()
        try:
            await self._begin()
        except BaseException:
            await self.stop()
            raise
        return True

    async def _take_over(self, ended: asyncio.Event) -> bool:
        """Hold the state folder as soon as nobody else does; return whether that came before `ended`.

        A release that is to take over has loaded everything by then, so that nobody serves for moments only.

        Raises:
            StoreInUse: somebody does, and not only for the `state_wait_s` that this one may wait.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + self.context.settings.state_wait_s
        told = -inf
        while not ended.is_set():
            try:
                self.context.store.hold()
            except StoreInUse as error:
                if clock() >= deadline:
                    raise
                if clock() - told >= TELL_S:
                    log.info("%s: %s", WAITING, error.message)
                    self.supervision.waiting(f"{WAITING}: {error.message}", 3 * TELL_S)
                    told = clock()
            else:
                if told > -inf:
                    self.supervision.waiting("opening the store", OPEN_S)
                return True
            with suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), LOOK_S)
        return False

    async def _begin(self) -> None:
        context = self.context
        clean = await context.store.recover()
        context.embedder.start()
        await context.indexer.start()
        await context.sessions.start()
        context.agent.start()
        context.pool.start()
        await self.listener.start(application(context))
        self.supervision.ready()
        self.supervision.status(f"tier {context.tier.name}, listening on {self.listener.address}")
        log.info("tier %s, listening on %s, tokens in %s", context.tier.name, self.listener.url, context.tokens.path)
        asyncio.get_running_loop().call_later(SETTLE_S, self._settle)
        if not clean:
            log.warning("the last run did not end cleanly: checking the store")
            self._check = asyncio.create_task(context.store.check(), name="pinch-check")

    def _settle(self) -> None:
        allocator.started()
        self.context.ledger.settle_runtime()

    async def stop(self) -> None:
        """Finish what was acknowledged, close the store."""
        context = self.context
        await self.supervision.stop()
        if self._check is not None:
            self._check.cancel()  # its thread is cut when the store closes
        await context.pool.stop(STOP_S)
        await context.bus.stop()
        await context.agent.stop()
        context.followers.stop()
        await self.listener.stop(STOP_S)
        await context.sessions.stop()
        await context.sync.stop()
        await context.indexer.stop()
        context.embedder.stop()
        await context.store.close()


def run(settings: Settings) -> int:
    """Run the service until SIGTERM or SIGINT; return the exit status."""
    os.umask(0o077)  # what is remembered and said is its owner's alone, also where no unit says so
    logbook = Logbook()
    logbook.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handlers = (logging.StreamHandler(sys.stderr), logbook)
    logging.basicConfig(
        handlers=handlers, level=settings.log_level.upper(), format="%(levelname)s %(name)s: %(message)s"
    )
    allocator.settle()
    try:
        service = Service.build(settings, choose_tier(settings, load_tiers()), logbook)
        asyncio.run(serve(service))
    except (SettingsError, TierError, OverBudget, TokensError, ListenError) as error:
        log.error("%s", error)
        return 78
    except PinchError as error:
        log.error("%s%s", error.message, f"; {error.hint}" if error.hint else "")
        return 1
    return 0


async def serve(service: Service) -> None:
    """Run a service until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    # Two for files; the name of a provider is looked up here too, and a network that is down makes that take long.
    loop.set_default_executor(ThreadPoolExecutor(2 + service.runs, thread_name_prefix="pinch-file"))
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    if not await service.start(ended):
        return
    await ended.wait()
    log.info("stopping")
    await service.stop()
