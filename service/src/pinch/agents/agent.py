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
from pinch.errors import Conflict, NotFound, PinchError

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
    ) -> Accepted:
        """Accept a message: when this returns it is on disk and will be answered.

        Args:
            session: key of the session, made where there is none.
            text: the message.
            run: a name that the sender chose; a run of that name is begun once.
            instructions: what the model is told for this answer, after the agent's own.
            options: further parameters for the provider.

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
        self._accepting[name] = accepting = asyncio.create_task(self._accept(prompt), name="pinch-accept")
        accepting.add_done_callback(lambda _: self._accepting.pop(name))
        return await asyncio.shield(accepting)

    async def _accept(self, prompt: Prompt) -> Accepted:
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
                        await self.sessions.append(held, Entry("user", prompt.run, now_ms(), prompt.text))
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
            entries = list(held.entries)
            runs = held.open_runs()
        for name in runs:
            if (key, name) in self._waiting or (key, name) in self._runs:
                continue  # whoever sent it has sent it again meanwhile
            text = next(entry.text for entry in entries if entry.run == name and entry.kind == "user")
            prompt = Prompt(key, name, text, session=key)
            last = [entry for entry in entries if entry.run == name][-1]
            if last.kind == "assistant" and not last.more.get("calls"):  # the power went between it and its end
                await self._note(key, Entry("end", name, last.at, "", {"state": "final", "stop": "stop"}))
                continue
            times = sum(entry.run == name and entry.kind == "resumed" for entry in entries)
            if times >= RESUMES or not self.provider.configured:
                stops = f"the service stopped {times + 1} times during it"
                reason = "there is no provider" if times < RESUMES else stops
                error = Conflict(f"the answer was given up: {reason}", hint="send the message again")
                await self._finish(Run(prompt), "error", error=error)
                continue
            await self._note(key, Entry("resumed", name, now_ms()))
            log.info("session %s: going on with a run that a stop has cut", key)
            self._waiting[key, name] = prompt
            await self.bus.prompts.put(prompt)

    async def _note(self, key: str, entry: Entry) -> None:
        async with self.sessions.hold(key) as held:
            await self.sessions.append(held, entry)

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
            fault = PinchError("something went wrong in the service", hint="look at its log: journalctl -u pinch")
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
            more: dict[str, Any] = {"state": state, "stop": stop}
            if error is not None:
                more["error"] = error.message
            entries = [Entry("end", prompt.run, at, "", more)]
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
