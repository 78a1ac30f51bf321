"""Bodies made into typed values: what is refused leaves nothing behind."""

from __future__ import annotations

import gc

import pytest
from pinch.errors import Invalid
from pinch.gateway.bodies import BatchBody, MemoryBody
from pinch.gateway.structuring import structure


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"text": 1}, MemoryBody),
        ({"text": "a", "tags": [1]}, MemoryBody),
        ({"text": "a", "unknown": 2}, MemoryBody),
        ({"memories": [{"text": "a"}, {"text": "a", "at": 3}]}, BatchBody),
    ],
)
def test_a_refused_body_is_freed_without_a_collection(body: dict[str, object], kind: type) -> None:
    """A cycle would hold the body after its bytes are no longer booked: thirty of 1 MB passed the smallest budget."""

    def refuse() -> None:
        try:
            structure(body, kind)
        except Invalid:
            return
        pytest.fail("it was taken")

    refuse()
    gc.collect()
    gc.disable()
    try:
        for _ in range(100):
            refuse()
        assert gc.collect() == 0
    finally:
        gc.enable()
