"""Bodies as they arrive, and those that stop arriving."""

from __future__ import annotations

import asyncio
from unittest.mock import Mock

import pytest
from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request
from pinch.errors import Invalid
from pinch.gateway.reading import pieces


async def test_a_body_that_stops_coming_is_given_up() -> None:
    protocol = BaseProtocol(asyncio.get_running_loop())
    protocol.connection_made(Mock(asyncio.Transport))
    reader = StreamReader(protocol, 2**16, loop=asyncio.get_running_loop())
    reader.feed_data(b"the first piece")
    body = pieces(make_mocked_request("POST", "/", payload=reader, app=Mock()), 64, stall_s=0.01)
    assert await anext(body) == b"the first piece"
    with pytest.raises(Invalid, match="nothing of the body came for"):
        await anext(body)
