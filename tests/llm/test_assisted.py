"""When a language model fails, the conversation goes on with the rules planner and says so."""

from __future__ import annotations

import http.server
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from pydantic import Field
from routing_tools import offered

from fovea.agent import answer_turn
from fovea.assistant import Assistant
from fovea.errors import BadReply, ConfigError, ModelError, ModelUnavailable
from fovea.events import Answered, Called, Notice
from fovea.llm.assisted import NOTICE, AssistedModel
from fovea.llm.backends import assisted_model
from fovea.llm.base import ImageFact, load_model, session_facts
from fovea.llm.bound import BoundModel
from fovea.llm.rules import RulesChatModel
from fovea.llm.vision import image_block
from fovea.settings import Settings

pytest.importorskip("langchain_openai")
from fovea.llm.remote import RemoteChatModel


class Given(BoundModel):
    """Gives one message, or raises."""

    reply: Any = Field(description="A message or an error.")

    def _reply(self, messages: Any) -> AIMessage:
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "args": arguments, "id": "c1", "type": "tool_call"}


def asked(question: str = "vessels please") -> list[BaseMessage]:
    return [SystemMessage(session_facts([ImageFact("img1")])), HumanMessage(question)]


def around(reply: Any, **fields: Any) -> Any:
    made = AssistedModel.around(lambda: Given(reply=reply), label="The model", **fields)
    return made.bind_tools(offered(1))


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (AIMessage(""), "empty reply"),
        (AIMessage("  \n "), "empty reply"),
        (AIMessage("", tool_calls=[call("rm_rf")]), "unknown tool `rm_rf`"),
        (AIMessage("", invalid_tool_calls=[{"name": None, "args": "{", "id": "1",
                                            "error": "it is not JSON"}]), "cannot be read"),
        (AIMessage("x" * 1_000_000), "more than 100000 characters"),
        (AIMessage("so", response_metadata={"finish_reason": "length"}), "did not come to an end"),
        (ModelUnavailable("The server cannot be reached"), "cannot be reached"),
        (ModelError("The model failed while answering"), "failed while answering"),
        (RuntimeError("secret detail"), "under id"),
        (MemoryError(), "under id"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("plans_only", [False, True])
def test_unusable_replies_hand_over_to_the_rules(reply: Any, told: str, plans_only: bool) -> None:
    if plans_only and isinstance(reply, AIMessage) and reply.text.strip():
        pytest.skip("a planner writes no text")
    got = around(reply, plans_only=plans_only).invoke(asked())
    assert [c["name"] for c in got.tool_calls] == ["segment_vessels"]
    assert told in got.response_metadata[NOTICE]
    assert "rules planner" in got.response_metadata[NOTICE]
    assert "secret" not in got.response_metadata[NOTICE]


def test_a_model_that_calls_the_same_for_ever_is_stopped() -> None:
    again = AIMessage("", tool_calls=[call("segment_vessels")])
    from langchain_core.messages import ToolMessage

    turn = [*asked()]
    model = around(again)
    for _ in range(3):
        got = model.invoke(turn)
        if got.response_metadata.get(NOTICE):
            break
        turn += [got, ToolMessage('{"evidence": "E1", "summary": "done"}', tool_call_id="c1")]
    assert "over and over" in got.response_metadata[NOTICE]
    # What the rules took over they finish.
    assert not model.invoke([*turn, got]).response_metadata.get(NOTICE)


def planned(*tools: str, confidence: float) -> AIMessage:
    return AIMessage("", tool_calls=[call(tool) for tool in tools],
                     response_metadata={"confidence": confidence})  # fmt: skip


def test_low_confidence_hands_over_and_says_so() -> None:
    unsure = planned("measure_biomarkers", confidence=0.3)
    got = around(unsure, plans_only=True, threshold=0.6).invoke(asked())
    assert [c["name"] for c in got.tool_calls] == ["segment_vessels"]
    assert "below 60%" in got.response_metadata[NOTICE]
    sure = planned("measure_biomarkers", confidence=0.99)
    got = around(sure, plans_only=True, threshold=0.6).invoke(asked())
    assert [c["name"] for c in got.tool_calls] == ["measure_biomarkers"]
    assert NOTICE not in got.response_metadata
    agreed = planned("segment_vessels", confidence=0.1)
    assert NOTICE not in around(agreed, plans_only=True, threshold=0.6).invoke(
        asked()
    ).response_metadata  # fmt: skip


def photographs(question: str, reply: AIMessage, *facts: ImageFact) -> Any:
    """The answer of a planner to a question about these photographs."""
    made = AssistedModel.around(lambda: Given(reply=reply), label="The model", plans_only=True)
    bound = made.bind_tools(offered(len(facts)))
    return bound.invoke([SystemMessage(session_facts(facts)), HumanMessage(question)])


def test_the_other_eye_is_never_measured_instead() -> None:
    sure = planned("segment_optic_disc", confidence=0.999)
    for question in ("CDR of the left eye?", "cup to disc of her left one pls"):
        got = photographs(question, sure, ImageFact("img1", "OD"))
        assert not got.tool_calls, question
        assert "left eye (OS)" in got.text


def test_a_model_chooses_tools_and_the_rules_photographs() -> None:
    reply = AIMessage(
        "",
        tool_calls=[call(name, image="img2") for name in ("measure_biomarkers", "segment_lesions")],
        response_metadata={"confidence": 0.99},
    )  # fmt: skip
    got = photographs("hmm, the first photo, its thingies?", reply, ImageFact("img1"),
                      ImageFact("img2"))  # fmt: skip
    assert got.response_metadata["planner"] == "model"
    assert sorted((c["name"], c["args"]["image"]) for c in got.tool_calls) == [
        ("measure_biomarkers", "img1"), ("segment_lesions", "img1"),
    ]  # fmt: skip


def test_what_the_words_leave_no_doubt_about_no_model_is_asked() -> None:
    broken = around(ModelError("It was asked"), plans_only=True)
    got = broken.invoke(asked("Segment the vessels"))
    assert [c["name"] for c in got.tool_calls] == ["segment_vessels"]
    assert NOTICE not in got.response_metadata
    assert "was asked" in broken.invoke(asked()).response_metadata[NOTICE]
    # Where the words leave a doubt, here about a tool of somebody else's, it is asked.
    other = {"name": "rate_pallor", "description": "Rates pallor of the disc.", "parameters": {}}
    made = AssistedModel.around(
        lambda: Given(reply=planned("rate_pallor", confidence=0.9)), label="The model",
        plans_only=True, threshold=0.6,
    )  # fmt: skip
    got = made.bind_tools([*offered(1), other]).invoke(asked("Pale, is it, the disc?"))
    assert [c["name"] for c in got.tool_calls] == ["rate_pallor"]
    assert got.response_metadata["planner"] in {"model", "both"}


def test_a_model_is_loaded_once_by_many_at_a_time() -> None:
    made: list[int] = []

    def slow() -> Given:
        made.append(1)
        time.sleep(0.2)
        return Given(reply=AIMessage("Hello."))

    model = AssistedModel.around(slow, label="The model")
    threads = [threading.Thread(target=lambda: model.wrapped) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]


def test_a_turn_with_a_broken_model_is_answered_and_the_person_is_told(
    settings: Settings, retina_path: Path
) -> None:
    assistant = Assistant(settings)
    session = assistant.store.create()
    session.add_image(retina_path)
    broken = AssistedModel.around(
        lambda: Given(reply=ModelError("It broke")), label="The model", plans_only=True
    )
    with session.turn():
        events = list(answer_turn("vessels please", assistant.workbench(session), broken))
    assert isinstance(events[-1], Answered)
    assert any(isinstance(event, Called) for event in events)
    notices = [event.text for event in events if isinstance(event, Notice)]
    assert len(notices) == 1
    assert "It broke" in notices[0]


def test_missing_settings_are_named(tmp_path: Path) -> None:
    for backend, name in (("local", "model_dir"), ("remote", "base_url")):
        with pytest.raises(ConfigError, match=f"FOVEA_{name.upper()}"):
            assisted_model(Settings(backend=backend))  # type: ignore[arg-type]
    model = load_model(Settings(backend="local", model_dir=tmp_path))
    got: Any = model.bind_tools(offered(1)).invoke(asked())  # type: ignore[union-attr]
    assert got.tool_calls
    assert "no model in this folder" in got.response_metadata[NOTICE]
    assert str(tmp_path) not in got.response_metadata[NOTICE]
    assert isinstance(load_model(Settings(backend="rules")), RulesChatModel)


# A served model ----------------------------------------------------------------------


class _Server(http.server.BaseHTTPRequestHandler):
    """Answers as told, and keeps what it was sent."""

    status, body, delay = 200, b"", 0.0
    seen: list[tuple[dict[str, str], dict[str, Any]]] = []

    def do_POST(self) -> None:
        size = int(self.headers["Content-Length"])
        headers = {name.lower(): value for name, value in self.headers.items()}
        type(self).seen.append((headers, json.loads(self.rfile.read(size))))
        time.sleep(self.delay)
        self.send_response(self.status)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *given: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[type[_Server], str]]:
    handler = type("Handler", (_Server,), {"seen": []})
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield handler, f"http://127.0.0.1:{made.server_port}/v1"
    made.shutdown()
    made.server_close()


def _events(*deltas: dict[str, Any]) -> bytes:
    lines = [
        {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m",
         "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        for delta in deltas
    ]  # fmt: skip
    text = "".join(f"data: {json.dumps(line)}\n\n" for line in lines) + "data: [DONE]\n\n"
    return text.encode()


def connect(url: str, **fields: Any) -> RemoteChatModel:
    return RemoteChatModel.connect(base_url=url, served_model="m", timeout_s=1.0, **fields)


def test_text_and_calls_of_a_server_arrive(server: Any) -> None:
    handler, url = server
    handler.body = _events({"role": "assistant", "content": "Hel"}, {"content": "lo"})
    assert [str(c.text) for c in connect(url).stream("Hi") if c.text] == ["Hel", "lo"]
    handler.body = _events(
        {"tool_calls": [{"index": 0, "id": "a", "type": "function",
                         "function": {"name": "segment_vessels", "arguments": "{"}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]},
    )  # fmt: skip
    got: Any = connect(url).bind_tools(offered(1)).invoke(asked())  # type: ignore[union-attr]
    assert [c["name"] for c in got.tool_calls] == ["segment_vessels"]
    sent = handler.seen[-1][1]
    assert sent["tools"][0]["function"]["name"] == "assess_quality"


def test_photographs_stay_here_unless_allowed(server: Any) -> None:
    import numpy as np

    handler, url = server
    handler.body = _events({"content": "ok"})
    message = HumanMessage(
        [image_block(np.zeros((8, 8, 3), np.uint8)), {"type": "text", "text": "What is it?"}]
    )
    connect(url).invoke([message])
    assert "image" not in json.dumps(handler.seen[-1][1])
    connect(url, allow_images=True).invoke([message])
    assert "image_url" in json.dumps(handler.seen[-1][1])


def test_the_key_comes_from_environment_or_file_and_is_never_shown(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler, url = server
    handler.body = _events({"content": "ok"})
    monkeypatch.setenv("OPENAI_API_KEY", "from-environment")
    connect(url).invoke("Hi")
    assert handler.seen[-1][0]["authorization"] == "Bearer from-environment"
    path = tmp_path / "key"
    path.write_text("from-file\n")
    model = connect(url, key_file=path)
    model.invoke("Hi")
    assert handler.seen[-1][0]["authorization"] == "Bearer from-file"
    assert "from-file" not in repr(model) + str(model._client) + model.model_dump_json()
    handler.status = 401
    with pytest.raises(ModelUnavailable, match="does not accept the key") as caught:
        model.invoke("Hi")
    assert "from-file" not in str(caught.value)
    with pytest.raises(ModelUnavailable, match="cannot be read"):
        connect(url, key_file=tmp_path / "none")


@pytest.mark.parametrize(
    ("status", "body", "kind", "told"),
    [
        (404, b"", ModelUnavailable, "does not know this model"),
        (500, b"oops", ModelError, "refused the request"),
        (200, b"data: {broken\n\n", BadReply, "unreadable"),
        (200, b"data: [DONE]\n\n", BadReply, ""),
    ],
)  # fmt: skip
def test_bad_servers(server: Any, status: int, body: bytes, kind: type, told: str) -> None:
    handler, url = server
    handler.status, handler.body = status, body
    model = AssistedModel.around(lambda: connect(url), label="The served model")
    got: Any = model.bind_tools(offered(1)).invoke(asked())  # type: ignore[union-attr]
    assert [c["name"] for c in got.tool_calls] == ["segment_vessels"]
    assert told in got.response_metadata[NOTICE]
    if told:
        with pytest.raises(kind, match=told):
            connect(url).invoke("Hi")


def test_slow_and_absent_servers(server: Any) -> None:
    handler, url = server
    handler.delay = 3.0
    with pytest.raises(ModelUnavailable, match="in time"):
        connect(url).invoke("Hi")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ModelUnavailable, match="cannot be reached"):
        connect(f"http://127.0.0.1:{port}/v1").invoke("Hi")
