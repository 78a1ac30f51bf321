"""`python -m service.tests.web.screenshots`: take the pictures of the page that the documents show, in `docs/images/`.

The service and the browser are real; the answers are scripted, the model that finds by meaning is the device's own.
Run it after the page has changed, and look at the pictures before they are committed.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from service.tests.serving import Service, model
from service.tests.web.browsing import PHONE, Visitor, answers, chromium, say, search
from tests.cache import REPOSITORY
from tests.provider import MODEL, Provider, Reply, Text, ToolCall

IMAGES = REPOSITORY / "docs" / "images"
DESK = (1000, 640)
MEMORIES = {
    "The kettle is on the left shelf, behind the tea.": ["home"],
    "Descale the kettle with citric acid, 20 g to a litre, twice a year.": ["home", "care"],
    "The backup of the Pi in the shed runs at 03:00 on Sundays.": ["pi"],
    "Greta takes her tea without milk.": ["people"],
}
DOCUMENT = """# Hot water

Boil only what is needed: a full pot draws 2 kW, all that the small inverter can deliver.
"""
COMMAND = '```sh\npinch remember "Kettle descaled" --tag home\n```'
TALK: tuple[tuple[str, Reply], ...] = (
    (
        "Where did I put the kettle?",
        [
            ToolCall("memory_search", {"query": "kettle"}),
            Text("It is on the left shelf, behind the tea. It was to be descaled twice a year, by the way."),
        ],
    ),
    ("How do I note that this is done?", [Text(f"Tell me, or type on any computer that has a token:\n\n{COMMAND}")]),
)


def main() -> None:
    """Take every picture."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, Provider() as provider, chromium() as browser:
        settings = {"PINCH_PROVIDER_BASE_URL": provider.url, "PINCH_PROVIDER_MODEL": MODEL}
        tier = {"PINCH_TIER": "light", "PINCH_MODEL_DIR": str(model("all-MiniLM-L6-v2-int8"))}
        with Service(Path(folder), **tier, **settings) as service:
            for text, tags in MEMORIES.items():
                service.remember(text, tags=tags)
            service.put("notes/kitchen.md", DOCUMENT.encode())
            service.embedded()
            talk(browser, service, provider)
            look(browser, service)


def talk(browser: Browser, service: Service, provider: Provider) -> None:
    """Take the pictures of the chat."""
    visitor = Visitor(browser, service, DESK)
    page = visitor.visit()
    for question in ("What is planned for Sunday?", "A shopping list for the week"):
        page.keyboard.press("Control+k")
        say(page, question)
        expect(answers(page)).to_have_count(1)
    page.keyboard.press("Control+k")
    for question, reply in TALK:
        provider.queue(reply)
        said = answers(page).count()
        say(page, question)
        expect(answers(page)).to_have_count(said + 1)
        expect(page.get_by_role("button", name="Stop")).to_be_hidden()
    expect(page.locator("#sessions .about").first).to_contain_text("message")
    take(page, "web-chat.png")
    visitor.close()

    visitor = Visitor(browser, service, PHONE)
    page = visitor.visit()
    expect(answers(page).last).to_contain_text("pinch remember")
    take(page, "web-chat-phone.png")
    visitor.close()


def look(browser: Browser, service: Service) -> None:
    """Take the picture of a search."""
    visitor = Visitor(browser, service, DESK)
    page = visitor.visit()
    expect(search(page, "how to care for the kettle").first).to_be_visible()
    take(page, "web-memory.png")
    visitor.close()


def take(page: Page, name: str) -> None:
    """Take one picture, without the blinking cursor."""
    page.evaluate("document.activeElement.blur()")
    page.screenshot(path=IMAGES / name, animations="disabled", caret="hide")


if __name__ == "__main__":
    main()
