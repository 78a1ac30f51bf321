"""The agent: takes what is said to it, sees it answered to an end, stops it at any moment, goes on after a stop."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pinch.agents.answering import Answering, Run
from pinch.agents.bus import Bus
from pinch.agents.events import Finished, Prompt
from pinch.agents.journal import Entry
from pinch.agents.provider import Provider
from pinch.agents.session import check_key
from pinch.agents.sessions import Sessions
from pinch.clock import now_ms
from pinch.errors import NotFound, PinchError, internal_fault

log = logging.getLogger(__name__)

RESUMES = 2
"""How often a run that a stop has cut is begun again; one that takes the service down must not do so for ever."""


class Accepted(NamedTuple):
    """What became of a message."""

    run: str
    status: str
    """`started`, or of a run that was there before `in_flight` or `ok`."""


class Agent:
    """Prompts come from the bus and events go to it; sessions are on disk before anyone hears of them."""

    def __init__(self, *, sessions: Sessions, provider: Provider, answering: Answering, bus: Bus) -> None:
        self.sessions = sessions
        self.provider = provider
        self.answering = answering
        self.bus = bus
        self._waiting: dict[tuple[str, str], Prompt] = {}
        """Prompts that were accepted and have not begun."""
        self._runs: dict[tuple[str, str], Run] = {}
        self._accepting: dict[tuple[str, str], asyncio.Task[Accepted]] = {}
        self._resuming: asyncio.Task[None] | None = None
        bus.prompts.subscribe(self._answer)

    @property
    def running(self) -> int:
        """Answers in the making."""
        return len(self._runs)

    @property
    def used(self) -> int:
        """Bytes of the answers in the making."""
        return sum(run.size for run in self._runs.values())

    def is_running(self, session: str) -> bool:
        """Return whether a message of the session waits or is answered."""
        return any(lane == session for lane, _ in (*self._waiting, *self._runs))

    def start(self) -> None:
        """Begin to go on with the runs that a stop has cut."""
        self._resuming = asyncio.create_task(self._resume_all(), name="pinch-resume")

    async def _resume_all(self) -> None:
        for key in self.sessions.unfinished():
            try:
                await self._resume(key)
            except PinchError as error:
                log.warning("session %s is not gone on with: %s", key, error.message)

    async def stop(self) -> None:
        """Cut what runs; it is gone on with after the next start."""
        if self._resuming is not None:
            self._resuming.cancel()
            await asyncio.gather(self._resuming, return_exceptions=True)
        for run in list(self._runs.values()):
            if run.task is not None:
                run.task.cancel()
        await asyncio.gather(*(run.task for run in self._runs.values() if run.task), return_exceptions=True)
        await self.provider.stop()

    async def submit(
        self,
        session: str,
        text: str,
        run: str | None = None,
        *,
        instructions: str = "",
        options: Mapping[str, Any] = {},
        attended: bool = False,
    ) -> Accepted:
        """Accept a message: when this returns it is on disk and will be answered.

        Args:
            session: key of the session, made where there is none.
            text: the message.
            run: a name that the sender chose; a run of that name is begun once.
            instructions: what the model is told for this answer, after the agent's own.
            options: further parameters for the provider.
            attended: whether the sender waits for the answer and for nothing else: without it, it is not gone on with.

        Raises:
            NoProvider: nobody can answer; nothing was stored.
            Busy: too many messages wait; nothing was stored.
            Invalid, Conflict, StorageFull: it cannot be stored.
        """
        check_key(session)
        self.provider.require()
        prompt = Prompt(
            session, run or str(uuid.uuid4()), text, options=options, instructions=instructions, session=session
        )
        name = (session, prompt.run)
        # Whoever asks may be gone before it is stored: then it is still either stored and answered, or neither.
        accepting = self._accepting.get(name)
        if accepting is not None:  # whoever asks the same meanwhile hears nothing better than the first one
            accepted = await asyncio.shield(accepting)
            return accepted._replace(status="in_flight") if accepted.status == "started" else accepted
        accepting = asyncio.create_task(self._accept(prompt, attended=attended), name="pinch-accept")
        self._accepting[name] = accepting
        accepting.add_done_callback(lambda _: self._accepting.pop(name))
        return await asyncio.shield(accepting)

    async def _accept(self, prompt: Prompt, *, attended: bool) -> Accepted:
        session = prompt.lane
        name = (session, prompt.run)
        if name in self._waiting or (name in self._runs and not self._runs[name].told):
            return Accepted(prompt.run, "in_flight")
        with self.bus.prompts.room(prompt.cost):
            self._waiting[name] = prompt
            try:
                async with self.sessions.hold(session, create=True) as held:
                    ended = held.ended(prompt.run)
                    if ended is None:
                        await self.sessions.append(held, _first(prompt, attended=attended))
            except BaseException:
                del self._waiting[name]
                raise
            if ended:
                del self._waiting[name]
                return Accepted(prompt.run, "ok")
            # One that has begun and not ended, and that nobody works on: its end could not be stored.
            self.bus.prompts.put_in(prompt)
        return Accepted(prompt.run, "started")

    def ask(self, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any], run: str) -> None:
        """Begin a run without a session: the whole conversation is in `messages`, and nothing is kept.

        Raises:
            NoProvider: nobody can answer.
            Busy: too many wait.
        """
        self.provider.require()
        prompt = Prompt(run, run, messages=tuple(messages), options=options)
        with self.bus.prompts.room(prompt.cost):
            self._waiting[run, run] = prompt
            self.bus.prompts.put_in(prompt)

    async def abort(self, lane: str, run: str | None = None) -> list[str]:
        """Stop one run of a session, or all of them; return which. What was said so far is kept."""
        stopped = []
        for (of, name), one in list(self._runs.items()):
            if of == lane and run in {None, name} and one.task is not None and not (one.aborted or one.ending):
                one.aborted = True
                one.task.cancel()
                stopped.append(name)
        withdrawn = self.bus.prompts.withdraw(lane, lambda one: run in {None, one.run})
        if withdrawn:  # whoever asks may be gone before their ends are stored
            await asyncio.shield(asyncio.create_task(self._dismiss(withdrawn), name="pinch-abort"))
        return stopped + [prompt.run for prompt in withdrawn]

    async def _dismiss(self, prompts: Sequence[Prompt]) -> None:
        for prompt in prompts:
            try:
                await self._finish(Run(prompt), "aborted", stop="aborted")
            finally:
                self._waiting.pop((prompt.lane, prompt.run), None)

    async def quiet(self, session: str | None = None) -> None:
        """Stop everything that goes on in a session, or in all, and wait until it has ended."""
        for lane in {lane for lane, _ in (*self._waiting, *self._runs) if session in {None, lane}}:
            await self.abort(lane)
        ending = [run.task for (lane, _), run in self._runs.items() if session in {None, lane} and run.task is not None]
        if ending:
            await asyncio.wait(ending)

    async def _resume(self, key: str) -> None:
        async with self.sessions.hold(key) as held:
            runs = held.open_runs()
        for name in runs:
            if (key, name) in self._waiting or (key, name) in self._runs:
                continue  # whoever sent it has sent it again meanwhile
            self._waiting[key, name] = Prompt(key, name, session=key)
            prompt = None
            try:
                prompt = await self._reopened(key, name)
            finally:
                if prompt is None:
                    del self._waiting[key, name]
            if prompt is not None:
                self._waiting[key, name] = prompt
                await self.bus.prompts.put(prompt)

    async def _reopened(self, key: str, name: str) -> Prompt | None:
        """Return the prompt of a run that a stop has cut, or None where it is not gone on with: then it has an end."""
        async with self.sessions.hold(key) as held:
            entries = [entry for entry in held.entries if entry.run == name]
            if held.ended(name) is not False:
                return None
            if entries[-1].kind == "assistant" and not entries[-1].more.get("calls"):
                # The power went between the answer and its end.
                await self.sessions.append(held, _end(name, "final", "stop"))
                return None
            first = next(entry for entry in entries if entry.kind == "user")
            if first.more.get("attended"):  # whoever waited for it is gone
                await self.sessions.append(held, _end(name, "aborted", "aborted"))
                return None
            times = sum(entry.kind == "resumed" for entry in entries)
            if times >= RESUMES or not self.provider.configured:
                stops = f"the service stopped {times + 1} times during it"
                reason = "there is no provider" if times < RESUMES else stops
                await self.sessions.append(held, _end(name, "error", error=f"the answer was given up: {reason}"))
                return None
            await self.sessions.append(held, Entry("resumed", name, now_ms()))
        log.info("session %s: going on with a run that a stop has cut", key)
        instructions, options = first.more.get("instructions", ""), first.more.get("options", {})
        return Prompt(key, name, first.text, options=options, instructions=instructions, session=key)

    async def close_unfinished(self) -> None:
        """End the runs that nobody works on, as aborted: they came from elsewhere."""
        for key in self.sessions.unfinished():
            async with self.sessions.hold(key) as held:
                ends = [_end(name, "aborted", "aborted") for name in held.open_runs()]
                if ends:
                    await self.sessions.append(held, *ends)

    async def _answer(self, prompt: Prompt) -> None:
        """Answer one prompt to its end; the bus calls it."""
        name = (prompt.lane, prompt.run)
        run = self._runs[name] = Run(prompt)
        self._waiting.pop(name, None)
        run.task = asyncio.create_task(self._work(run), name="pinch-run")
        try:
            await asyncio.wait({run.task})
        except asyncio.CancelledError:
            run.task.cancel()
            await asyncio.wait({run.task})  # the parts it uses are stopped next
            raise
        finally:
            del self._runs[name]
        if prompt.session is not None:
            await self._compact(prompt.session)

    async def _work(self, run: Run) -> None:
        try:
            ended = await self.answering.answer(run)
        except asyncio.CancelledError:
            if not run.aborted:
                raise  # the service stops: the run is gone on with after the next start
            await self._finish(run, "aborted", stop="aborted")
        except PinchError as error:
            log.warning("run in %s: %s", run.prompt.session or "no session", error.message)
            await self._finish(run, "error", error=error)
        except Exception:
            log.exception("run in %s failed", run.prompt.session or "no session")
            fault = internal_fault()
            await self._finish(run, "error", error=fault)
        else:
            await self._finish(run, "final", stop=ended.stop, usage=ended.usage)

    async def _finish(
        self,
        run: Run,
        state: str,
        *,
        stop: str = "",
        usage: Mapping[str, int] = {},
        error: PinchError | None = None,
    ) -> None:
        """End a run: on disk first, then for all to hear."""
        run.ending = True
        prompt, text, at = run.prompt, "".join(run.text), now_ms()
        if prompt.session is not None:
            entries = [_end(prompt.run, state, stop, error.message if error is not None else "")]
            if text:
                entries.insert(0, Entry("assistant", prompt.run, at, text))
            try:
                async with self.sessions.hold(prompt.session) as held:
                    if held.ended(prompt.run) is None:
                        raise NotFound("the message is gone")
                    await self.sessions.append(held, *entries)
            except NotFound:
                log.info("session %s was deleted or reset during a run", prompt.session)
            except PinchError as fault:
                log.error("session %s: an answer could not be kept: %s", prompt.session, fault.message)
                state, error = "error", error or fault
        run.told = True
        await self.bus.events.put(
            Finished(prompt.lane, prompt.run, state, text, at, stop, usage, error, prompt.session)
        )

    async def _compact(self, session: str) -> None:
        try:
            await self.sessions.compact(session)
        except PinchError as error:
            log.warning("session %s is not compacted yet: %s", session, error.message)


def _first(prompt: Prompt, *, attended: bool) -> Entry:
    """Return the entry of a message, with what a run needs that is gone on with after a stop."""
    more = {"instructions": prompt.instructions, "options": dict(prompt.options), "attended": attended}
    return Entry("user", prompt.run, now_ms(), prompt.text, {name: value for name, value in more.items() if value})


def _end(run: str, state: str, stop: str = "", error: str = "") -> Entry:
    more = {"state": state, "stop": stop, **({"error": error} if error else {})}
    return Entry("end", run, now_ms(), "", more)
