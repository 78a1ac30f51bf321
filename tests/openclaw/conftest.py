"""A service with a provider behind it, and the CLI in front."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.openclaw.cli import OpenClaw
from tests.openclaw.installing import Unreachable, installed
from tests.provider import MODEL, Provider
from tests.running import LocalService


@pytest.fixture(scope="session")
def provider() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> Iterator[LocalService]:
    settings = {"PINCH_TIER": "minimal", "PINCH_PROVIDER_BASE_URL": provider.url, "PINCH_PROVIDER_MODEL": MODEL}
    with LocalService(tmp_path_factory.mktemp("service"), **settings) as service:
        yield service


@pytest.fixture(scope="session")
def openclaw(tmp_path_factory: pytest.TempPathFactory, service: LocalService) -> OpenClaw:
    try:
        command = installed()
    except Unreachable as missing:
        pytest.skip(str(missing))
    return OpenClaw(command, tmp_path_factory.mktemp("home"), service)
