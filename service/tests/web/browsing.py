"""The page in a headless Chromium, as a user has it before them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    Playwright,
    WebSocket,
    expect,
    sync_playwright,
)

from service.tests.serving import Service

CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP = (1100, 720)
PHONE = (360, 700)
WAIT_MS = 30_000
CONNECTED = "Connected"
LOST = "No connection, trying again…"


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the browser that the distribution has."""
    with sync_playwright() as playwright:
        yield from _launched(playwright)


def _launched(playwright: Playwright) -> Iterator[Browser]:
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
    try:
        yield browser
    finally:
        browser.close()


class Visitor:
    """Somebody with a browser of their own: what it keeps, and the pages they open in it."""

    def __init__(self, browser: Browser, service: Service, size: tuple[int, int] = DESKTOP) -> None:
        self.service = service
        self.context: BrowserContext = browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            locale="en-GB",
            timezone_id="UTC",
            color_scheme="light",
            reduced_motion="reduce",
            has_touch=False,
        )
        self.context.set_default_timeout(WAIT_MS)
        expect.set_options(timeout=WAIT_MS)
        self.complaints: list[str] = []
        """What the browser complained of: errors of scripts, refused sources, failed requests."""
        self.asked: list[str] = []
        """Every address that the browser asked for."""
        self.sent: list[str] = []
        """Every frame that went to the service."""

    def close(self) -> None:
        """Close the browser's windows and forget what it kept."""
        self.context.close()

    def visit(self, *, token: str | None = "") -> Page:
        """Open the page; enter the service's token, another one, or with None nothing."""
        page = self.context.new_page()
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("websocket", self._listen)
        page.goto(self.address)
        if token is not None:
            enter_token(page, token or self.service.token)
            if not token:
                await_state(page, CONNECTED)
        return page

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.service.port}/"

    def _hear(self, said: ConsoleMessage) -> None:
        if said.type in {"error", "warning"}:
            self.complaints.append(said.text)

    def _listen(self, socket: WebSocket) -> None:
        self.asked.append(socket.url)
        socket.on("framesent", lambda frame: self.sent.append(str(frame)))


def enter_token(page: Page, token: str) -> None:
    """Type a token into the dialog and connect."""
    page.get_by_label("Token", exact=True).fill(token)
    page.get_by_role("button", name="Connect").click()


def await_state(page: Page, state: str) -> None:
    """Wait until the page says that it is connected, or that it is not."""
    expect(page.locator("#state")).to_have_text(state)


def box(page: Page) -> Locator:
    """Return the box that messages are written in."""
    return page.get_by_label("Message", exact=True)


def say(page: Page, text: str) -> None:
    """Send a message."""
    box(page).fill(text)
    box(page).press("Enter")


def answers(page: Page) -> Locator:
    """Return what the agent said."""
    return page.get_by_role("article", name="Pinch")


def questions(page: Page) -> Locator:
    """Return what the user said."""
    return page.get_by_role("article", name="You")


def sessions(page: Page) -> Locator:
    """Return the rows of the list of sessions."""
    return page.get_by_role("list", name="Sessions").get_by_role("listitem")


def search(page: Page, query: str) -> Locator:
    """Search the memory from anywhere and return the hits."""
    page.get_by_role("link", name="Memory").click()
    field = page.get_by_role("searchbox")
    field.fill(query)
    field.press("Enter")
    expect(page.locator("#found")).to_have_text(re.compile(r"^(\d+|No) hits?,"))
    return hits(page)


def hits(page: Page) -> Locator:
    """Return the hits that are shown."""
    return page.get_by_role("list", name="Hits").get_by_role("listitem")


def widths(page: Page) -> tuple[int, int]:
    """Return how wide the page's contents and the window are, in pixels."""
    measured = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    return int(measured[0]), int(measured[1])
