"""The page as a whole: its files, its policy, the keyboard, the phone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pinch.gateway.page import ASSETS, FOLDER, PAGE, POLICY
from playwright.sync_api import Page, expect

from service.tests.serving import Service
from service.tests.web.browsing import (
    CONNECTED,
    PHONE,
    Visitor,
    answers,
    await_state,
    box,
    enter_token,
    hits,
    questions,
    say,
    search,
    sessions,
    widths,
)
from tests.provider import Provider, Text

LARGEST_BYTES = 52_500
"""All files together: what a board sends to a browser that has none of them."""
FOCUSABLE = "a[href], button, input, select, textarea, summary, [tabindex='0']"


@pytest.mark.parametrize("path", ["/", *(f"/web/{name}" for name in ASSETS)])
def test_files_come_without_a_token_under_a_strict_policy(minimal: Service, path: str) -> None:
    answer = minimal.call("GET", path, token=None)
    assert answer.status == 200, answer.content
    assert answer.content == (FOLDER / (path.rpartition("/")[2] or PAGE)).read_bytes()
    assert answer.headers["Content-Security-Policy"] == POLICY
    assert "unsafe" not in POLICY
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-cache"

    again = minimal.call("GET", path, token=None, headers={"If-None-Match": answer.headers["Etag"]})
    assert (again.status, again.content) == (304, b"")
    assert again.headers["Content-Security-Policy"] == POLICY


@pytest.mark.parametrize("path", ["/", "/web/app.js"])
def test_address_with_a_token_in_it_is_refused(minimal: Service, path: str) -> None:
    answer = minimal.call("GET", f"{path}?token={minimal.token}", token=None)
    assert answer.status == 400
    assert answer.error["type"] == "invalid_request"


@pytest.mark.parametrize("path", ["/web/", "/web/index.htm", "/web/../tokens", "/web/%2e%2e/tiers.toml", "/web/app.py"])
def test_only_known_files_are_served(minimal: Service, path: str) -> None:
    assert minimal.call("GET", path).status == 404


def test_every_file_of_the_page_is_known_and_all_are_small() -> None:
    files = {file.name: file.stat().st_size for file in FOLDER.iterdir()}
    assert files.keys() == {PAGE, *ASSETS}
    assert sum(files.values()) < LARGEST_BYTES


def test_whole_visit_breaks_no_policy_and_asks_nobody_else(visitor: Visitor, service: Service) -> None:
    service.remember("The kettle is on the left shelf")
    page = visitor.visit()
    say(page, "kettle")
    expect(answers(page)).to_have_text(["You said: kettle"])
    page.keyboard.press("Control+k")
    say(page, "shelf")
    expect(answers(page)).to_have_text(["You said: shelf"])
    expect(search(page, "kettle")).to_have_count(1)
    page.get_by_role("link", name="Chat").click()
    sessions(page).nth(0).hover()
    page.get_by_role("button", name="Delete shelf").click()
    page.get_by_role("alertdialog").get_by_role("button", name="Delete").click()
    expect(sessions(page)).to_have_count(1)
    page.reload()
    expect(answers(page)).to_have_text(["You said: kettle"])
    assert visitor.complaints == []
    ours = (visitor.address, visitor.address.replace("http", "ws", 1))
    assert [address for address in visitor.asked if not address.startswith(ours)] == []


def test_browser_refuses_a_script_that_is_not_ours(visitor: Visitor) -> None:
    page = visitor.visit()
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'window.taken = 1'}))")
    expect(page.locator("body > script")).to_have_count(1)
    assert page.evaluate("window.taken") is None
    assert any("Content Security Policy" in said for said in visitor.complaints)


def test_everything_is_done_by_keyboard(visitor: Visitor, service: Service) -> None:
    service.remember("The kettle is on the left shelf")
    page = visitor.visit(token=None)
    press = page.keyboard.press
    page.keyboard.type(service.token)
    press("Enter")
    expect(box(page)).to_be_focused()
    page.keyboard.type("first")
    press("Enter")
    expect(answers(page)).to_have_text(["You said: first"])
    press("Control+k")
    expect(page.locator("#chat-title")).to_have_text("New session")
    expect(box(page)).to_be_focused()
    page.keyboard.type("second / third")
    press("Enter")
    expect(answers(page)).to_have_text(["You said: second / third"])
    press("Alt+n")
    expect(page.locator("#chat-title")).to_have_text("New session")

    press("Tab")
    press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("kettle")
    press("Enter")
    expect(hits(page).locator("mark")).to_have_text(["kettle"])

    tab_to(page, "Delete first")
    press("Enter")
    expect(page.get_by_role("alertdialog").get_by_role("button", name="Cancel")).to_be_focused()
    press("Escape")
    expect(page.get_by_role("alertdialog")).to_be_hidden()
    tab_to(page, "Delete first")
    press("Enter")
    press("Tab")
    press("Enter")
    expect(page.get_by_role("button", name="Delete first")).to_have_count(0)
    tab_to(page, "Chat")
    press("Enter")
    expect(box(page)).to_be_focused()


def tab_to(page: Page, name: str) -> None:
    for _ in range(60):
        page.keyboard.press("Tab")
        if focused(page)["name"] == name:
            return
    raise AssertionError(f"{name} cannot be reached")


def focused(page: Page) -> dict[str, str]:
    found: dict[str, str] = page.evaluate(
        """() => {
            const one = document.activeElement;
            const {outlineStyle, outlineWidth} = getComputedStyle(one);
            const name = one.getAttribute("aria-label") ?? one.textContent.trim();
            return {name, place: String([...document.querySelectorAll("*")].indexOf(one)), tag: one.tagName,
                    outline: outlineStyle + " " + outlineWidth};
        }"""
    )
    return found


@pytest.mark.parametrize("view", ["Chat", "Memory"])
def test_tab_reaches_everything_and_shows_where_it_is(page: Page, service: Service, view: str) -> None:
    service.remember("The kettle is on the left shelf")
    say(page, "kettle")
    expect(answers(page)).to_have_text(["You said: kettle"])
    expect(sessions(page)).to_contain_text("2 messages")
    search(page, "kettle")
    page.get_by_role("link", name=view).click()
    expect(page.locator("#message" if view == "Chat" else "#query")).to_be_visible()
    wanted = page.locator(FOCUSABLE).locator("visible=true").count()
    reached: dict[str, dict[str, str]] = {}
    for _ in range(2 * wanted):
        page.keyboard.press("Tab")
        if (now := focused(page))["tag"] != "BODY":
            reached[now["place"]] = now
    assert len(reached) == wanted, reached
    assert {one["outline"] for one in reached.values()} == {"solid 2px"}


def test_phone_has_no_horizontal_scroll(arrive: Callable[..., Visitor], service: Service, provider: Provider) -> None:
    long = "kettle" * 40
    service.remember(f"{long} kettle", tags=[long[:200]], source=long[:200])
    visitor = arrive(service, size=PHONE)
    page = visitor.visit(token=None)
    assert widths(page) == (360, 360)
    enter_token(page, service.token)
    await_state(page, CONNECTED)
    provider.queue([Text(f"{long}\n```\n{long} {long}\n```")])
    say(page, long)
    expect(answers(page).locator("code")).to_be_visible()
    for view, proof in (("Chat", questions(page)), ("Sessions", sessions(page)), ("Memory", None)):
        page.get_by_role("link", name=view).click()
        expect((proof or search(page, "kettle")).first).to_be_visible()
        assert widths(page) == (360, 360), view
        outside = page.evaluate(
            """() => [...document.querySelectorAll("button, input, select, textarea, a")].filter((one) => {
                const {left, right, width} = one.getBoundingClientRect();
                return width > 0 && (left < 0 || right > innerWidth);
            }).map((one) => one.id || one.textContent)"""
        )
        assert outside == [], view


def test_phone_goes_from_sessions_to_chat(arrive: Callable[..., Visitor], service: Service) -> None:
    page = arrive(service, size=PHONE).visit()
    say(page, "kettle")
    expect(answers(page)).to_have_count(1)
    page.get_by_role("link", name="Sessions").click()
    expect(box(page)).to_be_hidden()
    sessions(page).first.get_by_role("button").first.click()
    expect(questions(page)).to_have_text(["kettle"])
    expect(box(page)).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_themes(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    say(page, "kettle")
    expect(answers(page)).to_have_text(["You said: kettle"])
    for place in (".turn.user", ".hint", "#send", "#state"):
        assert contrast(page, place) >= 4.5, place


def contrast(page: Page, place: str) -> float:
    """Return the contrast of an element's text as WCAG 2 counts it."""
    ratio: float = page.evaluate(
        """(place) => {
            const light = (colour) => {
                const [r, g, b] = colour.match(/[\\d.]+/g).map((one) => one / 255)
                    .map((one) => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
                return 0.2126 * r + 0.7152 * g + 0.0722 * b;
            };
            let behind = document.querySelector(place);
            const ink = light(getComputedStyle(behind).color);
            while (/, 0\\)$/.test(getComputedStyle(behind).backgroundColor)) behind = behind.parentElement;
            const paper = light(getComputedStyle(behind).backgroundColor);
            return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
        }""",
        page.locator(place).first.evaluate("(one) => one.id ? '#' + one.id : '.' + [...one.classList].join('.')"),
    )
    return ratio
