"""The running services that most tests share, each test in a space of its own."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.tests.serving import Service, model


@pytest.fixture(scope="session")
def int8() -> Path:
    """The model that devices run."""
    return model("all-MiniLM-L6-v2-int8")


@pytest.fixture(scope="session")
def fp32() -> Path:
    """The same model, unquantised: another model as far as the store is concerned."""
    return model("all-MiniLM-L6-v2-fp32")


@pytest.fixture(scope="session")
def minimal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service without a model."""
    with Service(tmp_path_factory.mktemp("minimal"), PINCH_TIER="minimal") as service:
        yield service


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory, int8: Path) -> Iterator[Service]:
    """A service with the real model."""
    with Service(tmp_path_factory.mktemp("full"), PINCH_TIER="full", PINCH_MODEL_DIR=str(int8)) as service:
        yield service


@pytest.fixture
def space() -> str:
    """A space that no other test uses."""
    return f"space-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Starts a service of this test's own, by default minimal; a second call starts one on the same state."""
    running: list[Service] = []

    def begin(folder: Path | None = None, **environment: str) -> Service:
        place = folder or tmp_path / "service"
        place.mkdir(exist_ok=True)
        service = Service(place, **{"PINCH_TIER": "minimal", **environment})
        running.append(service)
        service.start()
        return service

    yield begin
    for service in running:
        service.stop()
