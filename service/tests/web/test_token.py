"""The token: asked once, kept by this browser only, forgotten on demand."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

from service.tests.serving import Service
from service.tests.web.browsing import CONNECTED, Visitor, await_state, box, enter_token


def kept(page: Page) -> object:
    return page.evaluate("Object.values(localStorage).join() + Object.values(sessionStorage).join()")


def test_token_is_asked_once_and_kept(visitor: Visitor, service: Service) -> None:
    page = visitor.visit(token=None)
    expect(page.get_by_role("dialog")).to_be_visible()
    expect(page.get_by_label("Token", exact=True)).to_be_focused()
    enter_token(page, service.token)
    await_state(page, CONNECTED)
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.reload()
    await_state(page, CONNECTED)
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_token_is_never_in_an_address_nor_a_cookie(visitor: Visitor, service: Service) -> None:
    page = visitor.visit()
    page.reload()
    await_state(page, CONNECTED)
    assert len(visitor.asked) > 10
    assert not [address for address in [page.url, *visitor.asked] if service.token in address]
    assert visitor.context.cookies() == []


def test_wrong_token_is_told_and_not_kept(visitor: Visitor, service: Service) -> None:
    page = visitor.visit(token="wrong" * 8)
    told = page.get_by_role("dialog").get_by_role("alert")
    expect(told).to_have_text(re.compile(r"token.*\.$", re.IGNORECASE))
    await_state(page, "Token refused")
    assert "wrong" not in str(kept(page))
    enter_token(page, service.token)
    await_state(page, CONNECTED)


def test_forgotten_token_is_gone_and_asked_for_again(visitor: Visitor, service: Service) -> None:
    page = visitor.visit()
    assert service.token in str(kept(page))
    page.get_by_role("button", name="Forget token").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert service.token not in str(kept(page))
    page.reload()
    expect(page.get_by_role("dialog")).to_be_visible()
    await_state(page, "Not connected")


def test_forgotten_token_is_forgotten_in_every_tab(visitor: Visitor) -> None:
    first, second = visitor.visit(), visitor.context.new_page()
    second.goto(visitor.address)
    await_state(second, CONNECTED)
    first.get_by_role("button", name="Forget token").click()
    await_state(second, "Not connected")
    expect(second.get_by_role("dialog")).to_be_visible()


def test_another_browser_is_asked_for_itself(arrive: Callable[..., Visitor], service: Service) -> None:
    arrive(service).visit()
    page = arrive(service).visit(token=None)
    expect(page.get_by_role("dialog")).to_be_visible()


def test_page_behind_the_dialog_says_what_is_missing(visitor: Visitor) -> None:
    page = visitor.visit(token=None)
    page.get_by_role("button", name="Cancel").click()
    box(page).fill("hello")
    box(page).press("Enter")
    expect(page.get_by_role("alert")).to_have_text("This page has no token yet.")
    expect(box(page)).to_have_value("hello")
