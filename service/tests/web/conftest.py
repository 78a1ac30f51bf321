"""A service with somebody to answer, and a browser for each user."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page

from service.tests.serving import Service
from service.tests.web.browsing import CHROMIUM, Visitor, chromium
from tests.provider import MODEL, Provider


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The browser, one process for all tests."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: apt-get install chromium, or let `make` install it")
    with chromium() as running:
        yield running


@pytest.fixture
def provider() -> Iterator[Provider]:
    """Whoever answers, by the test's script."""
    with Provider() as running:
        yield running


@pytest.fixture
def service(start: Callable[..., Service], provider: Provider) -> Service:
    """A service whose agent has that provider."""
    return start(PINCH_PROVIDER_BASE_URL=provider.url, PINCH_PROVIDER_MODEL=MODEL)


@pytest.fixture
def arrive(browser: Browser) -> Iterator[Callable[..., Visitor]]:
    """Lets somebody come with a browser of their own."""
    there: list[Visitor] = []

    def come(service: Service, **more: tuple[int, int]) -> Visitor:
        there.append(Visitor(browser, service, **more))
        return there[-1]

    yield come
    for visitor in there:
        visitor.close()


@pytest.fixture
def visitor(arrive: Callable[..., Visitor], service: Service) -> Visitor:
    """One user at a desk."""
    return arrive(service)


@pytest.fixture
def page(visitor: Visitor) -> Page:
    """The page of that user, connected."""
    return visitor.visit()
