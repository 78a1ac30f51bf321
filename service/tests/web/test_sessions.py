"""The list of sessions: newest first, switched, emptied, deleted after a question."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from service.tests.web.browsing import answers, box, questions, say, sessions


def begin(page: Page, text: str) -> None:
    page.get_by_role("button", name="New session", exact=True).or_(page.locator("#new-session")).first.click()
    expect(page.locator("#chat-title")).to_have_text("New session")
    say(page, text)
    expect(answers(page)).to_have_text([f"You said: {text}"])
    expect(page.locator("#chat-title")).to_have_text(text)


def test_sessions_are_listed_newest_first_and_switched(page: Page) -> None:
    begin(page, "about kettles")
    begin(page, "about shelves")
    expect(sessions(page).locator(".title")).to_have_text(["about shelves", "about kettles"])
    sessions(page).nth(1).get_by_role("button").first.click()
    expect(questions(page)).to_have_text(["about kettles"])
    expect(answers(page)).to_have_text(["You said: about kettles"])
    expect(sessions(page).nth(1).get_by_role("button").first).to_have_attribute("aria-current", "true")
    say(page, "and tea")
    expect(answers(page)).to_have_count(2)
    expect(sessions(page).locator(".title")).to_have_text(["about kettles", "about shelves"])


def test_session_that_was_open_is_open_after_a_reload(page: Page) -> None:
    begin(page, "about kettles")
    begin(page, "about shelves")
    sessions(page).nth(1).get_by_role("button").first.click()
    expect(questions(page)).to_have_text(["about kettles"])
    page.reload()
    expect(questions(page)).to_have_text(["about kettles"])


def test_text_that_waits_stays_with_its_session(page: Page) -> None:
    begin(page, "about kettles")
    begin(page, "about shelves")
    box(page).fill("half a thought")
    sessions(page).nth(1).get_by_role("button").first.click()
    expect(box(page)).to_have_value("")
    sessions(page).nth(0).get_by_role("button").first.click()
    expect(box(page)).to_have_value("half a thought")


def test_session_is_deleted_after_a_question(page: Page) -> None:
    begin(page, "about kettles")
    begin(page, "about shelves")
    delete = page.get_by_role("button", name="Delete about shelves")
    sessions(page).nth(0).hover()
    delete.click()
    page.get_by_role("alertdialog").get_by_role("button", name="Cancel").click()
    expect(sessions(page)).to_have_count(2)
    sessions(page).nth(0).hover()
    delete.click()
    page.get_by_role("alertdialog").get_by_role("button", name="Delete").click()
    expect(sessions(page).locator(".title")).to_have_text(["about kettles"])
    expect(questions(page)).to_have_text(["about kettles"])
    page.reload()
    expect(sessions(page).locator(".title")).to_have_text(["about kettles"])


def test_reset_session_begins_anew(page: Page) -> None:
    begin(page, "about kettles")
    sessions(page).nth(0).hover()
    page.get_by_role("button", name="Reset about kettles").click()
    page.get_by_role("alertdialog").get_by_role("button", name="Reset").click()
    expect(page.locator("#log article")).to_have_count(0)
    page.reload()
    expect(sessions(page)).to_have_count(1)
    expect(page.locator("#log article")).to_have_count(0)
