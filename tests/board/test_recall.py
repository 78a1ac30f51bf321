"""What an agent sees: what was remembered is found, by its words and by its meaning."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pinch.tiers import Tier

from tests.appliance import Board
from tests.client import Client, RefusedError
from tests.report import Figures

SPACE = "verification"
MEMORIES = {
    "The boiler was serviced in March, with a new pressure valve.": "When did someone repair our heating?",
    "Anna is allergic to hazelnuts and carries an epinephrine pen.": "Which food is dangerous for Anna?",
    "The train to Prague leaves from platform nine at six in the morning.": "How early must we be at the station?",
    "Our landlord wants the rent on the third working day of the month.": "By when do we pay for the flat?",
}
"""Memories, and a question that shares hardly a word with each."""


@pytest.fixture(scope="module")
def tier(board: Board) -> Tier:
    return board.tier


@pytest.fixture(scope="module")
def service(board: Board) -> Iterator[Client]:
    """The service, with the memories in a space of their own, which is empty again afterwards."""
    with board.service() as client:
        _clear(client)
        texts = [{"text": text, "space": SPACE} for text in MEMORIES]
        assert len(client.call("POST", "/v1/memories", {"memories": texts})["ids"]) == len(MEMORIES)
        client.wait_for_vectors()
        yield client
        _clear(client)


def test_a_word_typed_as_stored_is_found(service: Client) -> None:
    answer = service.recall("epinephrine", space=SPACE, mode="keyword")
    assert "epinephrine" in answer["hits"][0]["text"]
    assert answer["hits"][0]["why"]["keyword_rank"] == 1
    assert not answer["degraded"]


def test_a_question_finds_its_answer_by_meaning(service: Client, tier: Tier, figures: Figures) -> None:
    if not tier.semantic:
        with pytest.raises(RefusedError) as refused:
            service.recall("anything", space=SPACE, mode="semantic")
        assert refused.value.status == 409
        return
    found = {}
    for text, question in MEMORIES.items():
        answer = service.recall(question, space=SPACE, mode="semantic", k=1)
        assert not answer["degraded"]
        found[text] = answer["hits"][0]["text"]
    figures.add(
        "questions answered by meaning", sum(text == hit for text, hit in found.items()), bound=f"= {len(MEMORIES)}"
    )
    assert all(text == hit for text, hit in found.items()), found


def test_hybrid_runs_on_every_tier(service: Client, tier: Tier) -> None:
    answer = service.recall("Which food is dangerous for Anna?", space=SPACE)
    assert "hazelnuts" in answer["hits"][0]["text"]
    assert not answer["degraded"]
    assert (answer["hits"][0]["why"]["semantic_rank"] is not None) == tier.semantic


def test_the_command_on_the_board_finds_it_too(board: Board, service: Client) -> None:
    assert "hazelnuts" in board.run(f"pinch recall --space {SPACE} hazelnuts")


def test_the_model_is_never_loaded_where_there_is_none(board: Board, service: Client, tier: Tier) -> None:
    if tier.semantic:
        assert service.call("GET", "/v1/sync")["embedding"]["model"] == board.model
        return
    process = board.properties("MainPID")["MainPID"]
    mapped = board.run(f"grep -cE 'onnxruntime|numpy|tokenizers' /proc/{process}/maps; true")
    assert mapped == "0"


def _clear(client: Client) -> None:
    for memory in client.memories(SPACE):
        client.call("DELETE", f"/v1/memories/{memory['id']}")
