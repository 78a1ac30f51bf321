"""The memory: searched with the matched words marked, added to, forgotten from."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from service.tests.serving import Service
from service.tests.web.browsing import Visitor, hits, search


def test_search_marks_the_words_that_matched(page: Page, service: Service) -> None:
    service.remember("The kettle is on the left shelf", tags=["home"], source="notes")
    service.remember("Boiling water descales nothing")
    found = search(page, "where are my kettles on the shelf?")
    expect(found).to_have_count(1)
    expect(found.locator("mark")).to_have_text(["kettle", "shelf"])
    expect(found.locator(".about")).to_contain_text("notes")
    expect(found.locator(".about")).to_contain_text("no. 1 by word")
    expect(found.locator(".about")).to_contain_text(re.compile(r"score 0\.\d+"))
    expect(found.locator(".about")).to_contain_text("#home")
    expect(page.locator("#found")).to_have_text("1 hit, by word")


def test_words_are_marked_in_any_script_and_with_marks(page: Page, service: Service) -> None:
    service.remember("Das Café führt Crème brûlée, 猫は台所にいる")
    expect(search(page, "cafe creme").locator("mark")).to_have_text(["Café", "Crème"])
    expect(search(page, "台所").locator("mark")).to_have_text(["台所"])


def test_long_hit_shows_the_part_that_matched_and_all_of_it_on_demand(page: Page, service: Service) -> None:
    lines = [f"Line {number} speaks of nothing in particular." for number in range(60)]
    service.put("notes/kitchen.md", "\n".join(["# Kitchen", *lines, "The kettle was descaled."]).encode())
    found = search(page, "kettle").first
    expect(found.locator("mark")).to_have_text(["kettle"])
    expect(found.locator("mark")).to_be_in_viewport()
    expect(found.locator(".about")).to_contain_text(re.compile(r"notes/kitchen\.md:\d+–\d+"))
    shown = len(found.locator(".text").inner_text())
    found.get_by_role("button", name="Show all of it").click()
    expect(found.locator("mark")).to_have_text(["kettle"])
    assert len(found.locator(".text").inner_text()) > shown


def test_nothing_found_is_told(page: Page) -> None:
    expect(search(page, "zeppelin")).to_have_count(0)
    expect(page.locator("#found")).to_have_text("No hits, by word")


def test_refused_search_is_told_in_a_sentence(page: Page) -> None:
    page.get_by_role("link", name="Memory").click()
    page.get_by_label("How to search").select_option("semantic")
    page.get_by_role("searchbox").fill("kettle")
    page.get_by_role("searchbox").press("Enter")
    expect(page.get_by_role("alert")).to_have_text("This tier has no embedding model; use mode keyword or hybrid.")


def test_text_is_remembered_and_forgotten_after_a_question(page: Page, service: Service) -> None:
    page.get_by_role("link", name="Memory").click()
    page.get_by_text("Remember a new text").click()
    page.get_by_label("Text", exact=True).fill("The teapot is in the attic")
    page.get_by_label("Tags").fill("home, tea")
    page.get_by_role("button", name="Remember", exact=True).click()
    expect(page.get_by_role("alert")).to_have_text("Remembered.")
    expect(page.get_by_label("Text", exact=True)).to_have_value("")
    (stored,) = service.listed()
    assert (stored["text"], stored["tags"]) == ("The teapot is in the attic", ["home", "tea"])

    found = search(page, "teapot")
    found.get_by_role("button", name="Forget").click()
    asked = page.get_by_role("alertdialog")
    expect(asked).to_contain_text("The teapot is in the attic")
    asked.get_by_role("button", name="Cancel").click()
    expect(hits(page)).to_have_count(1)
    found.get_by_role("button", name="Forget").click()
    asked.get_by_role("button", name="Forget").click()
    expect(hits(page)).to_have_count(0)
    assert service.listed() == []


def test_hit_with_html_is_shown_as_text(visitor: Visitor, service: Service) -> None:
    text = "kettle <img src=x onerror=\"document.title = 'taken'\"> <mark>no</mark>"
    service.remember(text)
    page = visitor.visit()
    expect(search(page, "kettle").locator(".text")).to_have_text(text)
    expect(hits(page).locator("mark")).to_have_text(["kettle"])
    assert hits(page).locator("img").count() == 0
    assert page.title() == "Pinch"
    assert visitor.complaints == []
