"""Events as chat messages, evidence as cards, and nothing hostile gets through."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fovea.contract import (
    Artifact,
    Caveat,
    Difference,
    Finding,
    Interval,
    Measurement,
    Neighbour,
    NotMeasured,
    Passage,
    Result,
    Source,
)
from fovea.errors import ConfigError, UnreadableImage
from fovea.events import (
    AnswerChunk,
    Answered,
    Called,
    CallProgress,
    CallStarted,
    Refused,
    Stopped,
)
from fovea.evidence import Evidence, ImageRecord, Provenance
from fovea.session import SessionStore
from fovea.settings import Settings
from fovea.ui.evidence import evidence_panel, plugins_panel, report_downloads
from fovea.ui.render import (
    Transcript,
    anchor,
    cited_entries,
    explain,
    in_words,
    number,
    safe_markdown,
)
from fovea.ui.serve import free_port, refuse_other_machines
from fovea.ui.viewer import layer_alpha, scene

HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    "</article><iframe src=javascript:alert(1)>",
    "${alert(1)} {{constructor}}",
)


def provenance(**changes: object) -> Provenance:
    fields: dict[str, object] = {
        "plugin": "segment_vessels", "plugin_version": "1.2.3",
        "weights_sha256": {"net.safetensors": "ab" * 32}, "image_sha256": ("cd" * 32,),
        "arguments": {}, "preprocessing": (), "used": (), "seed": 0,
        "started": "2026-01-01T00:00:00+00:00", "seconds": 0.51, "libraries": {"numpy": "2.3"},
    }  # fmt: skip
    return Provenance.model_validate({**fields, **changes})


def evidence(number_: int = 1, result: Result | None = None, **changes: object) -> Evidence:
    result = result or Result(summary="Vessels cover 0.11 of the field.")
    return Evidence(
        id=f"E{number_}", tool="segment_vessels", images=("img1",), result=result,
        provenance=provenance(**changes),
    )  # fmt: skip


def started(call_id: str, parent: str | None = None) -> CallStarted:
    return CallStarted(
        call_id=call_id, tool="segment_vessels", title="Vessels", arguments={}, images=("img1",),
        parent=parent,
    )  # fmt: skip


def called(call_id: str, *, reused: bool = False) -> Called:
    return Called(call_id=call_id, evidence=evidence(), seconds=1.234, reused=reused)


class Seen(HTMLParser):
    """Tags and attributes that a browser would find."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]


class TestTranscript:
    def test_a_step_is_pending_then_done(self) -> None:
        chat = Transcript()
        chat.apply(started("c1"))
        assert chat.messages[0]["metadata"]["status"] == "pending"
        chat.apply(CallProgress(call_id="c1", text="tracing"))
        assert "tracing" in chat.messages[0]["content"]
        chat.apply(called("c1"))
        assert chat.messages[0]["metadata"]["status"] == "done"
        assert chat.messages[0]["metadata"]["duration"] == 1.23
        assert "[E1](#cite-E1)" in chat.messages[0]["content"]

    def test_a_prerequisite_is_nested_in_its_parent(self) -> None:
        chat = Transcript()
        chat.apply(started("c1"))
        chat.apply(started("c2", parent="c1"))
        parent, child = (message["metadata"] for message in chat.messages)
        assert child["parent_id"] == parent["id"] != child["id"]

    def test_a_reused_prerequisite_leaves_no_step(self) -> None:
        chat = Transcript()
        chat.apply(started("c1"))
        chat.apply(started("c2", parent="c1"))
        chat.apply(called("c2", reused=True))
        assert len(chat.messages) == 1

    def test_a_reused_answer_says_so(self) -> None:
        chat = Transcript()
        chat.apply(started("c1"))
        chat.apply(called("c1", reused=True))
        assert chat.messages[0]["metadata"]["log"] == "measured before"

    def test_ids_of_steps_differ_between_turns(self) -> None:
        chat = Transcript()
        chat.apply(started("c1"))
        again = Transcript(chat.messages)
        again.apply(started("c1"))
        first, second = (message["metadata"]["id"] for message in again.messages)
        assert first != second

    def test_a_refusal_keeps_the_whole_reason(self) -> None:
        chat = Transcript()
        refused = Refused(
            call_id="x", tool="segment_vessels", error="BadArguments", reason="No image. Add one.",
            seconds=0.0,
        )  # fmt: skip
        chat.apply(refused)
        assert chat.messages[0]["content"] == "No image. Add one."
        assert chat.messages[0]["metadata"] == {
            "title": "Segment vessels", "status": "done", "log": "not possible", "duration": 0.0,
        }  # fmt: skip

    def test_the_checked_answer_replaces_the_stream(self) -> None:
        chat = Transcript()
        chat.apply(AnswerChunk(text="Ratio 0.9 "))
        chat.apply(AnswerChunk(text="and healthy."))
        assert chat.messages[-1]["content"] == "Ratio 0.9 and healthy."
        chat.apply(Answered(text="Ratio 0.4 [E1].", evidence_ids=("E1",), struck=("Healthy.",)))
        contents = [message["content"] for message in chat.messages]
        assert contents == ["- Healthy.", "Ratio 0.4 [E1](#cite-E1)."]
        assert "no evidence supports" in chat.messages[0]["metadata"]["title"]

    def test_text_before_a_call_is_withdrawn(self) -> None:
        chat = Transcript()
        chat.apply(AnswerChunk(text="I guess 0.7"))
        chat.apply(started("c1"))
        assert [m["content"] for m in chat.messages] == ["Working …"]

    def test_stopping_ends_every_running_step(self) -> None:
        chat = Transcript()
        chat.apply(started("c1"))
        chat.apply(started("c2", parent="c1"))
        chat.apply(Stopped(reason="cancelled", text="Stopped."))
        assert [m["metadata"]["status"] for m in chat.messages[:2]] == ["done", "done"]
        assert chat.messages[-1]["content"] == "Stopped."


class TestSafeMarkdown:
    @pytest.mark.parametrize("text", HOSTILE)
    def test_no_tag_survives(self, text: str) -> None:
        assert "<" not in safe_markdown(text)

    @pytest.mark.parametrize(
        "text",
        ["![x](http://evil.example/p.png)", "[click](https://evil.example)", "[a]: http://evil.example",
         "https://evil.example/?q=1", "www.evil.example", "![x][y]", "mail@evil.example"],
    )  # fmt: skip
    def test_no_link_or_picture_survives(self, text: str) -> None:
        safe = safe_markdown(text)
        assert not re.search(r"\]\(|\]:|\]\[|://|www\.|@", safe)

    def test_citations_become_links(self) -> None:
        safe = safe_markdown("A [E1, E12]. B [K:b_vcdr]. Not [E0] nor [E1x].")
        assert "[E1](#cite-E1) [E12](#cite-E12)" in safe
        assert "[K:b_vcdr](#cite-K-b_vcdr)" in safe
        assert safe.count("](#") == 3

    def test_structure_stays(self) -> None:
        text = "# Title\n\n> quoted\n\n- **bold** > 3\n\n| a | b |\n|---|---|"
        assert safe_markdown(text) == text

    def test_cited_entries_are_named_once(self) -> None:
        assert cited_entries("[K:b] [E1; K:a] [K:b]") == ["b", "a"]

    def test_anchor_is_an_id(self) -> None:
        assert re.fullmatch(r"[A-Za-z0-9_-]+", anchor("K:a.b/c:d"))

    def test_an_error_says_what_why_and_fix(self) -> None:
        error = UnreadableImage("It is a zip", where="img1", why="Magic PK", fix="Send a PNG")
        assert explain(error) == "It is a zip. Magic PK.\n\n**What you can do:** Send a PNG"


@pytest.mark.parametrize(
    ("value", "text"), [(0.43219, "0.4322"), (3.0, "3"), (1411.0, "1411"), (12345.6, "1.235e+04")]
)
def test_number(value: float, text: str) -> None:
    assert number(value) == text


def test_names_in_words() -> None:
    assert in_words("vertical_cdr") == "Vertical CDR"
    assert in_words("avr") == "AVR"


class TestEvidencePanel:
    def full(self, text: str) -> Evidence:
        result = Result(
            summary=text,
            findings=(
                Finding(concept="eye", state="present", value=text, region=text, detail=text),
            ),
            measurements=(
                Measurement(
                    name="vessel_density", value=0.0797, unit="um", method=f"abc {text}",
                    eye="OD", zone=text,
                    interval=Interval(level=0.95, low=0.07, high=0.09, how=f"abc {text}"),
                ),
            ),
            not_measured=(NotMeasured(name="crae", reason=f"abc {text}"),),
            caveats=(Caveat(code="soft", text=f"abc {text}"),),
            similar=(
                Neighbour(case_id=text, rank=1, labels=(text,), closeness_percentile=3, why=text),
            ),
            passages=(
                Passage(
                    entry_id="b_vcdr", title=text, text=text, review="draft",
                    sources=(Source(key="k", citation=text),),
                ),
            ),
        )  # fmt: skip
        return evidence(7, result, arguments={"zone": text}, preprocessing=(text,))

    @pytest.mark.parametrize("text", HOSTILE)
    def test_hostile_text_is_escaped(self, text: str) -> None:
        given = self.full(text)
        harmless = self.full("harmless")
        quoted = {"b_vcdr": given.result.passages}
        html = evidence_panel([given], {}, {}, quoted)
        expected = Seen(evidence_panel([harmless], {}, {}, {"b_vcdr": harmless.result.passages}))
        seen = Seen(html)
        assert seen.tags == expected.tags
        assert seen.attributes == expected.attributes

    def test_a_card_shows_everything(self) -> None:
        html = evidence_panel([self.full("harmless")], {}, {}, {})
        parts = (
            "id='cite-E7'", "0.0797", "µm", "0.07 to 0.09", "95% interval", "Not measured", "crae",
            "segment_vessels 1.2.3", "cd" * 8, "ab" * 32, "0.51 s", "numpy 2.3",
        )  # fmt: skip
        for part in parts:
            assert part.lower() in html.lower(), part

    def test_an_uncalibrated_score_is_not_called_a_probability(self) -> None:
        finding = Finding(concept="eye", state="present", probability=0.97)
        html = evidence_panel([evidence(1, Result(summary="x", findings=(finding,)))], {}, {}, {})
        assert "score, not calibrated 0.97" in html

    def test_a_range_is_not_called_an_interval(self) -> None:
        span = Interval(low=1, high=2, how="threshold moved")
        value = Measurement(name="avr", value=1.5, unit="1", method="ratio", interval=span)
        html = evidence_panel([evidence(1, Result(summary="x", measurements=(value,)))], {}, {}, {})
        assert "Range: threshold moved" in html
        assert "%" not in html

    def test_newest_first_and_empty_says_so(self) -> None:
        html = evidence_panel([evidence(1), evidence(2)], {}, {}, {})
        assert html.index("cite-E2") < html.index("cite-E1")
        assert "evidence" in evidence_panel([], {}, {}, {})

    def test_similar_cases_stand_beside_the_photograph(self) -> None:
        differences = (
            Difference(name="vertical_cdr", zone=None, unit="1", here=0.71, there=0.62),
            Difference(name="crae", zone="zone_b", unit="um", here=140, there=150.5),
        )
        case = Neighbour(
            case_id="C000012", rank=1, labels=("glaucoma",), closeness_percentile=99.2,
            why="Alike in texture.", differences=differences,
        )  # fmt: skip
        shown = evidence(1, Result(summary="One similar case.", similar=(case,)))
        pictures = {"img1": b"query", "C000012": b"neighbour", "C000013": b"another"}
        html = evidence_panel([shown], {}, {}, {}, pictures)
        encoded = re.findall(r"data:image/jpeg;base64,([A-Za-z0-9+/=]+)", html)
        assert [base64.b64decode(each) for each in encoded] == [b"query", b"neighbour"]
        assert "Vertical CDR: 0.71 here, 0.62 there (+0.09)" in html
        assert "CRAE (Zone b): 140 µm here, 150.5 µm there (−10.5 µm)" in html
        assert "img" not in Seen(evidence_panel([shown], {}, {}, {})).tags

    def test_plugins_panel_is_escaped(self) -> None:
        html = plugins_panel([(HOSTILE[0],) * 3], [(HOSTILE[1],) * 3])
        assert {"script", "img"}.isdisjoint(Seen(html).tags)

    def test_downloads_hold_the_report_itself(self) -> None:
        html = report_downloads("R1", {".md": "# Größe".encode(), ".fhir.json": b'{"a": 1}'})
        assert "download='fovea-report-R1.md'" in html
        assert "download='fovea-report-R1.fhir.json'" in html
        encoded = re.findall(r"base64,([A-Za-z0-9+/=]+)", html)
        assert [base64.b64decode(each).decode() for each in encoded] == ["# Größe", '{"a": 1}']


class TestScene:
    def test_photograph_and_layers_are_data(self, settings: Settings, retina_path: Path) -> None:
        session = SessionStore(settings).create()
        session.add_image(retina_path, eye="OS")
        mask = np.zeros((1411, 1411), bool)
        mask[300:900, 300:900] = True
        path = session.work_dir() / "optic_disc.png"
        Image.fromarray(mask.astype(np.uint8) * 255).save(path)
        result = Result(
            summary="Disc.",
            artifacts=(Artifact(name="optic_disc", kind="mask", path=path),),
            measurements=(
                Measurement(name="disc_x", value=600, unit="px", method="centroid"),
                Measurement(name="disc_y", value=600, unit="px", method="centroid"),
            ),
        )
        session.evidence["E1"] = evidence(1, result)
        drawn = json.loads(scene(session))
        (picture,) = drawn["pictures"]
        assert drawn["current"] == "img1"
        assert picture["title"] == "img1 · OS"
        assert [layer["key"] for layer in picture["layers"]] == ["E1:optic_disc", "E1:points"]
        assert all(layer["on"] for layer in picture["layers"])
        assert picture["layers"][1]["points"][0]["x"] == 600
        for source, size in ((picture["src"], 1400), (picture["layers"][0]["src"], 1400)):
            opened = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))
            assert max(opened.size) == size
        assert str(session.folder) not in json.dumps(drawn)
        layer = Image.open(
            io.BytesIO(base64.b64decode(picture["layers"][0]["src"].partition(",")[2]))
        ).convert("RGBA")
        alpha = np.asarray(layer)[:, :, 3]
        assert alpha[100, 100] == 0
        assert 0 < alpha[600, 600] < 90

    def test_thin_things_are_solid_and_regions_have_an_edge(self) -> None:
        thin, region = np.zeros((400, 400), bool), np.zeros((400, 400), bool)
        thin[100:106] = True
        region[100:300, 100:300] = True
        assert layer_alpha(thin)[103, 200] == 255
        assert layer_alpha(region)[200, 200] < 90
        assert layer_alpha(region)[101, 200] == 255
        assert layer_alpha(np.zeros((10, 10), bool)).max() == 0


class TestServing:
    @pytest.mark.parametrize(
        "host",
        ["0.0.0.0", "192.168.1.4", "example.org", "::", ""],  # noqa: S104 - must be refused
    )
    def test_other_machines_are_refused(self, host: str) -> None:
        with pytest.raises(ConfigError, match="no login") as caught:
            refuse_other_machines(host)
        assert "ssh -L" in caught.value.fix

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.5"])
    def test_this_machine_is_served(self, host: str) -> None:
        refuse_other_machines(host)

    def test_a_taken_port_is_a_config_error(self) -> None:
        import socket

        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            with pytest.raises(ConfigError, match="cannot be used"):
                free_port("127.0.0.1", other.getsockname()[1])

    def test_zero_gives_a_free_port(self) -> None:
        assert free_port("127.0.0.1", 0) > 0


def test_image_record_is_what_the_card_names() -> None:
    record = ImageRecord(
        handle="img1", sha256="cd" * 32, format="PNG", width=10, height=10, eye="OD"
    )
    assert "img1 · OD" in evidence_panel([evidence()], {"img1": record}, {}, {})
