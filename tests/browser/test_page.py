"""The real page in Chromium, with the real assistant behind it."""

from __future__ import annotations

import json
import re
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2
import pytest
from plugin_maker import make_plugin

from fovea.assistant import Assistant
from fovea.settings import Settings
from fovea.ui.conversation import forget
from fovea.ui.serve import RunningPage, start

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium", path="/usr/bin")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="/usr/bin/chromium is not installed"),
]
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
QUESTION = "What is the cup-to-disc ratio, and how dense are the vessels?"
CITATION = "#fovea-chat .bot a[href^='#cite-E']:visible"
ANSWER_MS = 60_000
SLOW = """
hold = Path(__file__).with_name("hold")
context.progress("waiting for the test")
while hold.exists():
    time.sleep(0.05)
return result(value(0.5))
"""

Open = Callable[..., Any]


class Server:
    """The running page, and where its data lies."""

    def __init__(self, running: RunningPage, assistant: Assistant, folder: Path) -> None:
        self.url, self.uploads, self.assistant = running.url, running.uploads, assistant
        self.sessions = folder / "data" / "sessions"
        self.hold = folder / "plugins" / "slow_check" / "hold"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("page")
    make_plugin(folder / "plugins", "slow_check", SLOW, timeout_s=60)
    settings = Settings(data_dir=folder / "data", plugins_dir=folder / "plugins", port=0)
    assistant = Assistant(settings)
    running = start(assistant)
    yield Server(running, assistant, folder)
    running.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(server: Server, chromium: Any) -> Iterator[Open]:
    """Opens the page in a context of its own; afterwards: no console error, nothing sent out."""
    contexts, errors, outside = [], [], []

    def open_it(*, width: int = 1280, height: int = 900, dark: bool = False) -> Any:
        context = chromium.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: outside.append(request.url))
        page.goto(server.url)
        page.wait_for_selector("#fovea-box textarea")
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert errors == []
    local = (server.url, "data:", "blob:")
    assert [url for url in outside if not url.startswith(local)] == []


def ask(page: Any, question: str, *files: Path) -> None:
    if files:
        with page.expect_file_chooser() as chooser:
            page.get_by_label("Upload a file").click()
        chooser.value.set_files([str(file) for file in files])
        page.wait_for_function(
            "n => document.querySelectorAll('#fovea-box .thumbnail-item').length === n",
            arg=len(files),
        )
    page.fill("#fovea-box textarea", question)
    page.press("#fovea-box textarea", "Enter")


def wait_idle(page: Any) -> None:
    page.wait_for_selector("#fovea-stop:disabled", timeout=ANSWER_MS)
    page.wait_for_selector("#fovea-draft:enabled", timeout=ANSWER_MS)


def answered(page: Any, question: str, *files: Path) -> str:
    ask(page, question, *files)
    page.wait_for_selector("#fovea-stop:enabled")
    wait_idle(page)
    return str(page.locator("#fovea-chat .bot").last.inner_text())


def has_no_horizontal_scroll(page: Any) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


def test_upload_ask_and_follow_the_evidence(
    server: Server, open_page: Open, retina_path: Path
) -> None:
    page = open_page()
    answer = answered(page, QUESTION, retina_path)
    assert re.search(r"cup-to-disc ratio.* 0\.\d\d", answer)
    page.wait_for_selector(".fv-photo")
    names = page.locator(".fv-legend .fv-name").all_inner_texts()
    assert re.search(r"vessel density.* 0\.\d\d", answer)
    assert {"Optic disc", "Optic cup", "Vessels"} <= set(names)

    disc = page.locator(".fv-layer[data-layer$=':optic_disc']")
    assert disc.is_visible()
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    page.get_by_label(re.compile("^Optic disc")).first.uncheck()
    assert disc.is_hidden()
    page.click(".fv-stage", position={"x": 5, "y": 5})
    page.keyboard.press(str(names.index("Optic disc") + 1))
    assert disc.is_visible()
    before = disc.evaluate("layer => layer.style.opacity")
    page.keyboard.press("[")
    assert float(disc.evaluate("layer => layer.style.opacity")) < float(before)
    page.mouse.wheel(0, -400)
    page.wait_for_function(
        "document.querySelector('.fv-canvas').style.transform.includes('scale(1.')"
    )
    page.keyboard.press("0")
    page.wait_for_function(
        "document.querySelector('.fv-canvas').style.transform.includes('scale(1)')"
    )
    assert [url for url in sent if not url.startswith("data:")] == []  # no round trip

    citation = page.locator(CITATION).last
    wanted = citation.get_attribute("href").removeprefix("#")
    citation.click()
    card = page.locator(f"#{wanted}")
    card.wait_for(state="visible")
    page.wait_for_selector(f"#{wanted}.is-cited")
    assert page.evaluate("document.activeElement.id") == wanted
    assert card.locator(".fv-value").first.inner_text()
    card.locator("summary").click()
    assert "sha256" in card.locator("details").inner_text()
    button = card.get_by_text("Show on photograph")
    drawn = button.get_attribute("href").removeprefix("#layers-").split("-")
    button.click()
    page.wait_for_selector(".fv-stage")
    shown = page.locator(".fv-legend input:checked").evaluate_all(
        "boxes => boxes.map(box => box.dataset.toggle.split(':')[0])"
    )
    assert shown
    for box in page.locator(".fv-legend input").all():
        layer = page.locator(f"[data-layer='{box.get_attribute('data-toggle')}']")
        assert layer.is_visible() == box.is_checked()
    assert set(shown) <= set(drawn)
    assert list(server.uploads.rglob("*.*")) == []  # gradio's copy is gone


def test_stop_ends_a_slow_plugin_within_a_second_or_so(server: Server, open_page: Open) -> None:
    page = open_page()
    page.click("#fovea-sample")
    page.wait_for_selector(".fv-photo")
    wait_idle(page)
    server.hold.touch()
    try:
        ask(page, "Run slow_check on this photograph.")
        page.get_by_text("waiting for the test").first.wait_for()
        assert page.locator("#fovea-box textarea").is_disabled()
        clock = time.monotonic()
        page.click("#fovea-stop")
        page.get_by_text("Stopped. What was measured so far is kept").first.wait_for()
        assert time.monotonic() - clock < 2.0
        wait_idle(page)
    finally:
        server.hold.unlink()
    assert page.locator("#fovea-box textarea").is_enabled()


def test_draft_and_download_a_report(open_page: Open, tmp_path: Path) -> None:
    page = open_page()
    page.click("#fovea-sample")
    page.wait_for_selector(".fv-photo")
    wait_idle(page)
    page.click("#fovea-draft")
    page.wait_for_selector("#fovea-downloads a", timeout=ANSWER_MS)
    wait_idle(page)
    page.wait_for_selector("#fovea-report-text h1")
    for ending in ("md", "json", "html", "pdf", "docx", "fhir.json"):
        with page.expect_download() as caught:
            page.get_by_text(f"Download .{ending}", exact=True).click()
        assert caught.value.suggested_filename == f"fovea-report-R1.{ending}"
        caught.value.save_as(tmp_path / f"report.{ending}")
    assert "# " in (tmp_path / "report.md").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert (tmp_path / "report.html").read_bytes().startswith(b"<!DOCTYPE html>")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF-")
    assert (tmp_path / "report.docx").read_bytes().startswith(b"PK")
    bundle = json.loads((tmp_path / "report.fhir.json").read_text(encoding="utf-8"))
    assert bundle["resourceType"] == "Bundle"
    cited = page.locator("#fovea-report-text a[href^='#cite-']")
    for kind in ("E", "K"):
        target = cited.and_(page.locator(f"a[href^='#cite-{kind}']")).first
        wanted = target.get_attribute("href")
        target.click()
        page.wait_for_selector(f"{wanted}.is-cited")
        page.click("#fovea-report-button")


def test_a_report_is_edited_and_signed(open_page: Open) -> None:
    page = open_page()
    page.click("#fovea-sample")
    page.wait_for_selector(".fv-photo")
    wait_idle(page)
    page.click("#fovea-draft")
    page.wait_for_selector("#fovea-report-text h1", timeout=ANSWER_MS)
    wait_idle(page)
    page.click("#fovea-review >> text=Review and sign")
    page.fill("#fovea-reviewer input, #fovea-reviewer textarea", "Dr Roe")
    page.click("#fovea-review-sentence input")
    page.get_by_role("option").filter(has_text="6.1").first.click()
    words = page.locator("#fovea-review-words textarea")
    page.wait_for_function("() => document.querySelector('#fovea-review-words textarea').value")
    words.fill("The vessel density is 0.99 [E1].")
    page.click("#fovea-review-save")
    page.wait_for_selector("#fovea-review-said >> text=The change is kept")
    assert "Not backed by the evidence" in page.inner_text("#fovea-review-said")
    page.wait_for_selector("#fovea-report-text >> text=The vessel density is 0.99")
    page.click("#fovea-review-sign")
    page.wait_for_selector("#fovea-review-said >> text=The report is signed")
    assert "eviewed by Dr Roe" in page.inner_text("#fovea-report-text")


def test_two_people_never_see_each_other(
    server: Server, open_page: Open, retina_path: Path, tmp_path: Path
) -> None:
    mirrored = tmp_path / "Jane_Doe_1950.png"
    cv2.imwrite(str(mirrored), cv2.imread(str(retina_path))[:, ::-1])
    first, second = open_page(), open_page()
    ask(first, "Is this photograph good enough to assess?", retina_path)
    answered(second, "What is the cup-to-disc ratio?", mirrored)
    wait_idle(first)
    for page in (first, second):
        page.wait_for_selector(".fv-photo")
    sources = [page.locator(".fv-photo").get_attribute("src") for page in (first, second)]
    assert sources[0] != sources[1]
    texts = [page.locator("#fovea-chat").inner_text() for page in (first, second)]
    assert "cup-to-disc" not in texts[0]
    assert "good enough" not in texts[1]
    for page, other in ((first, sources[1]), (second, sources[0])):
        assert other not in page.content()
        assert "Jane" not in page.content()
    third = open_page()
    assert third.locator(".fv-photo").count() == 0
    # Nor does the server hand out what lies in a session folder.
    for path in server.sessions.rglob("*.*"):
        reply = third.request.get(f"{server.url}gradio_api/file={quote(str(path))}")
        assert reply.status in {403, 404}, path.name
    third.close()


def test_a_bad_file_is_one_clear_message_and_the_rest_is_kept(
    open_page: Open, retina_path: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "pictures.zip"
    with zipfile.ZipFile(bad, "w") as archive:
        archive.writestr("a.txt", "a")
    vector = tmp_path / "x.svg"
    vector.write_text("<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>")
    page = open_page()
    answer = answered(page, "", bad, retina_path, vector)
    chat = page.locator("#fovea-chat").inner_text()
    assert chat.count("was not taken") == 2
    assert "File 1 of 3 (.zip)" in chat
    assert "What you can do" in chat
    assert "I have img1" in answer
    page.wait_for_selector(".fv-photo")
    assert re.search(r"\d", answered(page, "What is the cup-to-disc ratio?"))


def test_the_eye_of_an_upload_is_taken_once(open_page: Open, retina_path: Path) -> None:
    page = open_page()
    page.get_by_label("OS (left)").check()
    answered(page, "", retina_path)
    assert "img1 · OS" in page.locator(".fv-title").inner_text()
    assert page.get_by_label("Unknown").is_checked()


def test_nothing_written_is_answered_with_what_can_be_asked(open_page: Open) -> None:
    page = open_page()
    page.click("#fovea-draft")
    page.get_by_text("There is no photograph to report on").wait_for()
    wait_idle(page)


def test_a_session_that_has_ended_is_said_and_replaced(
    server: Server, open_page: Open, retina_path: Path
) -> None:
    before = set(server.sessions.iterdir())
    page = open_page()
    answered(page, "", retina_path)
    (mine,) = set(server.sessions.iterdir()) - before
    forget(server.assistant, mine.name)
    assert not mine.exists()
    answered(page, "What is the cup-to-disc ratio?")
    assert "The earlier session has ended" in page.locator("#fovea-chat").inner_text()
    assert "gradable" in answered(page, "Is this photograph good enough?", retina_path)


def test_an_unexpected_error_is_one_message_and_the_page_goes_on(
    server: Server, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Iterator[object]:
        raise RuntimeError("secret detail")
        yield

    page = open_page()
    with monkeypatch.context() as patched:
        patched.setattr(server.assistant, "turn", broken)
        ask(page, "Anything?")
        page.get_by_text("Something went wrong inside Fovea").wait_for()
    wait_idle(page)
    assert "secret detail" not in page.content()
    assert page.get_by_text("Anything?").count() == 1


def test_the_label_and_the_plugins_are_there(server: Server, open_page: Open) -> None:
    page = open_page()
    label = page.locator(".fovea-label")
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    assert label.is_visible()
    assert "Not a medical device" in label.inner_text()
    box = label.bounding_box()
    assert box is not None
    assert box["y"] >= 0
    page.get_by_role("button", name="Plugins").click()
    listed = page.locator("#fovea-plugin-list").inner_text()
    assert "slow_check" in listed
    for problem in server.assistant.registry.problems:
        assert problem.fix.replace("`", "") in listed


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_needs_no_horizontal_scroll(open_page: Open, dark: bool) -> None:
    page = open_page(width=400, height=800, dark=dark)
    assert has_no_horizontal_scroll(page)
    page.click("#fovea-sample")
    page.wait_for_selector(".fv-photo")
    wait_idle(page)
    answered(page, QUESTION)
    assert has_no_horizontal_scroll(page)
    page.locator(CITATION).last.click()
    page.wait_for_selector(".is-cited")
    assert has_no_horizontal_scroll(page)
    stage = page.locator("#fovea-chat").bounding_box()
    right = page.locator("#fovea-tabs").bounding_box()
    assert stage is not None
    assert right is not None
    assert right["y"] > stage["y"] + stage["height"]  # the columns are stacked


def test_the_chat_works_by_keyboard_alone(open_page: Open) -> None:
    page = open_page()
    page.focus("#fovea-sample")
    page.keyboard.press("Enter")
    page.wait_for_selector(".fv-photo")
    wait_idle(page)
    assert page.get_by_label("Question", exact=True).is_enabled()
    outline = page.evaluate(
        "() => { const b = document.querySelector('#fovea-draft'); b.focus({focusVisible: true});"
        " return getComputedStyle(b).outlineStyle; }"
    )
    assert outline == "solid"


def test_a_request_under_another_host_name_is_refused(server: Server, open_page: Open) -> None:
    page = open_page()
    ours = page.request.get(server.url)
    foreign = page.request.get(server.url, headers={"Host": "evil.example"})
    assert (ours.status, foreign.status) == (200, 400)
