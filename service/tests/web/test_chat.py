"""Chatting: answers stream in, can be stopped, and nothing that was typed is lost."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from playwright.sync_api import Page, WebSocketRoute, expect

from service.tests.serving import Service
from service.tests.web.browsing import CONNECTED, LOST, Visitor, answers, await_state, box, questions, say
from tests.provider import Provider, Reply, Status, Text, ToolCall

HTML = "<script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\"><b>bold</b>"


def test_message_streams(page: Page, provider: Provider) -> None:
    provider.hold(after=3)
    say(page, "kettle on the shelf")
    expect(questions(page)).to_have_text(["kettle on the shelf"])
    expect(answers(page)).to_have_text(["You said: kettle"])
    expect(answers(page)).to_have_attribute("aria-busy", "true")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    provider.release()
    expect(answers(page)).to_have_text(["You said: kettle on the shelf"])
    expect(answers(page)).not_to_have_attribute("aria-busy", "true")
    expect(page.get_by_role("button", name="Stop")).to_be_hidden()
    expect(box(page)).to_have_value("")


def test_escape_stops_an_answer(page: Page, provider: Provider) -> None:
    provider.hold(after=3)
    say(page, "kettle on the shelf")
    expect(answers(page)).to_have_text(["You said: kettle"])
    page.keyboard.press("Escape")
    expect(answers(page).get_by_text("stopped")).to_be_visible()
    expect(answers(page)).to_have_count(1)
    expect(answers(page)).to_contain_text("You said: kettle")
    expect(page.get_by_role("button", name="Stop")).to_be_hidden()
    provider.left()
    page.reload()
    expect(answers(page).get_by_text("stopped")).to_be_visible()
    expect(answers(page)).to_contain_text("You said: kettle")


def test_button_stops_an_answer_and_the_next_one_comes(page: Page, provider: Provider) -> None:
    provider.hold()
    say(page, "first")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Stop")).to_be_hidden()
    provider.release()
    say(page, "second")
    expect(answers(page).last).to_have_text("You said: second")


def test_history_is_there_after_a_reload(page: Page) -> None:
    say(page, "kettle")
    expect(answers(page)).to_have_text(["You said: kettle"])
    page.reload()
    expect(questions(page)).to_have_text(["kettle"])
    expect(answers(page)).to_have_text(["You said: kettle"])


def test_answer_that_was_under_way_at_a_reload_arrives_whole(page: Page, provider: Provider) -> None:
    provider.hold(after=3)
    say(page, "kettle on the shelf")
    expect(answers(page)).to_have_text(["You said: kettle"])
    page.reload()
    expect(questions(page)).to_have_text(["kettle on the shelf"])
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    provider.release()
    expect(answers(page)).to_have_text(["You said: kettle on the shelf"])


def test_code_is_shown_as_code_and_lines_stay_lines(page: Page, provider: Provider) -> None:
    provider.queue([Text("First line\nsecond line\n\n```python\nif kettle:\n    pour()\n```\nDone.")])
    say(page, "how?")
    expect(answers(page).locator("pre code")).to_have_text("if kettle:\n    pour()")
    expect(answers(page).locator("p")).to_have_text(["First line second line", "Done."])
    assert answers(page).locator("p").first.inner_text() == "First line\nsecond line"


def test_html_is_shown_as_text(visitor: Visitor, provider: Provider) -> None:
    page = visitor.visit()
    provider.queue([Text(f"{HTML}\n```\n{HTML}\n```")])
    say(page, HTML)
    expect(questions(page)).to_have_text([HTML])
    expect(answers(page).locator("code")).to_have_text(HTML)
    expect(answers(page).locator("p")).to_have_text([HTML])
    expect(page.get_by_role("heading", level=2)).to_contain_text("<script>")
    page.reload()
    expect(answers(page).locator("code")).to_have_text(HTML)
    assert page.locator("#log").locator("script, img, b").count() == 0
    assert page.title() == "Pinch"
    assert visitor.complaints == []


def test_typed_text_survives_a_failed_send(page: Page, service: Service) -> None:
    service.kill()
    await_state(page, LOST)
    say(page, "do not lose this")
    expect(page.get_by_role("alert")).to_have_text("There is no connection to the service. Try again.")
    expect(box(page)).to_have_value("do not lose this")
    expect(questions(page)).to_have_count(0)
    service.start()
    await_state(page, CONNECTED)
    expect(box(page)).to_have_value("do not lose this")
    box(page).press("Enter")
    expect(answers(page)).to_have_text(["You said: do not lose this"])
    expect(box(page)).to_have_value("")


def test_message_whose_acknowledgement_was_lost_is_asked_once(
    visitor: Visitor, service: Service, provider: Provider
) -> None:
    cut: list[str] = []

    def pass_on(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()
        waited_for: list[str] = []

        def up(frame: str | bytes) -> None:
            request = json.loads(frame)
            if request["method"] == "chat.send" and not cut:
                waited_for.append(request["id"])
            server.send(frame)

        def down(frame: str | bytes) -> None:
            if json.loads(frame).get("id") in waited_for:
                cut.append(str(frame))
                socket.close()
            elif not waited_for:
                socket.send(frame)

        socket.on_message(up)
        server.on_message(down)

    visitor.context.route_web_socket(f"ws://127.0.0.1:{service.port}/", pass_on)
    page = visitor.visit()
    say(page, "only once")
    expect(page.get_by_role("alert")).to_have_text("The connection to the service was lost. Try again.")
    expect(box(page)).to_have_value("only once")
    await_state(page, CONNECTED)
    expect(answers(page)).to_have_text(["You said: only once"])
    box(page).press("Enter")
    expect(box(page)).to_have_value("")
    expect(questions(page)).to_have_text(["only once"])
    expect(answers(page)).to_have_text(["You said: only once"])
    assert len(provider.requests) == 1


def test_service_without_a_provider_says_so_and_the_text_stays(
    arrive: Callable[..., Visitor], start: Callable[..., Service]
) -> None:
    page = arrive(start()).visit()
    say(page, "anybody there?")
    expect(page.get_by_role("alert")).to_have_text(re.compile(r"provider.*\.$", re.IGNORECASE))
    expect(box(page)).to_have_value("anybody there?")
    expect(questions(page)).to_have_count(0)


def test_failed_answer_is_told(page: Page, provider: Provider) -> None:
    provider.script("kettle", [Status(400, "the kettle is broken", "invalid_request_error")])
    say(page, "kettle")
    expect(page.locator(".note.wrong")).to_have_text(re.compile(r"^[A-Z].+\.$"))
    expect(page.get_by_role("button", name="Stop")).to_be_hidden()
    page.reload()
    expect(page.locator(".note.wrong")).to_have_text(re.compile("broken"))


def test_tools_that_the_agent_uses_are_told(page: Page, provider: Provider, service: Service) -> None:
    reply: Reply = [Text("Let me look."), ToolCall("memory_search", {"query": "kettle"}), Text("On the left shelf.")]
    service.remember("The kettle is on the left shelf")
    provider.queue(reply)
    say(page, "where is it?")
    expect(page.locator("#log .note.tool")).to_have_text(["used memory_search"])
    expect(answers(page).last).to_have_text("On the left shelf.")
    page.reload()
    expect(page.locator("#log .note.tool")).to_have_text(["used memory_search"])
    expect(answers(page)).to_have_text(["Let me look.", "On the left shelf."])


def test_who_looks_on_sees_question_and_answer(arrive: Callable[..., Visitor], service: Service) -> None:
    speaker, listener = arrive(service).visit(), arrive(service).visit()
    say(speaker, "kettle")
    expect(questions(listener)).to_have_text(["kettle"])
    expect(answers(listener)).to_have_text(["You said: kettle"])


def test_shift_enter_begins_a_line(page: Page) -> None:
    box(page).press_sequentially("one")
    box(page).press("Shift+Enter")
    box(page).press_sequentially("two")
    expect(box(page)).to_have_value("one\ntwo")
    box(page).press("Enter")
    expect(questions(page)).to_have_count(1)
    assert questions(page).inner_text() == "one\ntwo"


def test_page_that_is_looked_at_does_not_fall_idle(
    arrive: Callable[..., Visitor], start: Callable[..., Service]
) -> None:
    visitor = arrive(start(PINCH_GATEWAY_TICK_S="3600"))
    page = visitor.visit(token=None)
    page.clock.install()
    page.reload()
    page.get_by_label("Token", exact=True).fill(visitor.service.token)
    page.get_by_role("button", name="Connect").click()
    await_state(page, CONNECTED)
    sent = len(visitor.sent)
    with page.expect_event("console", lambda said: said.text == "beat"):
        page.clock.fast_forward(241_000)
        page.evaluate("setTimeout(() => console.log('beat'))")
    assert any('"health"' in frame for frame in visitor.sent[sent:])
    await_state(page, CONNECTED)


def test_hidden_page_sleeps_when_it_is_closed_and_wakes_when_it_is_looked_at(page: Page, service: Service) -> None:
    look = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true});"
    tell = "document.dispatchEvent(new Event('visibilitychange'))"
    page.evaluate(look % "true" + tell)
    service.stop()
    await_state(page, "Asleep")
    service.start()
    page.evaluate(look % "false" + tell)
    await_state(page, CONNECTED)
