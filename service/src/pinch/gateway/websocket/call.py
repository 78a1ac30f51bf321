"""One call of a method: who calls, with what, and what the service has to serve it with."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

from pinch.gateway.context import Context
from pinch.gateway.websocket.client import Client, Respond
from pinch.gateway.websocket.pool import Pool

P = TypeVar("P")


class Call(NamedTuple, Generic[P]):
    """A request whose parameters are checked."""

    params: P
    context: Context
    client: Client
    pool: Pool
    respond: Respond
    """Sends a first response; what the method returns is then the second."""
