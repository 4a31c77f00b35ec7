"""What every case archive does, in a folder and on a real PostgreSQL server alike."""

from __future__ import annotations

import inspect
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import date
from pathlib import Path

import cv2
import numpy as np
import postgres
import pytest
from langchain_tests.integration_tests import VectorStoreIntegrationTests
from postgres import Postgres
from typer.testing import CliRunner

from fovea.archive import AnyArchive, CaseArchive, FoveaVectorStore, Label, NewCase, open_archive
from fovea.assistant import Assistant
from fovea.cli import app
from fovea.contract import CaseFilter
from fovea.errors import ArchiveError, ConfigError
from fovea.settings import Settings

JPEG = cv2.imencode(".jpg", np.full((8, 8, 3), 90, np.uint8))[1].tobytes()

for member in vars(VectorStoreIntegrationTests).values():
    if inspect.iscoroutinefunction(member):
        pytest.mark.asyncio(member)  # the suite counts on the automatic mode of pytest-asyncio


@pytest.fixture(scope="module")
def running() -> Iterator[Postgres]:
    with postgres.running() as server:
        yield server


@pytest.fixture
def server(running: Postgres, monkeypatch: pytest.MonkeyPatch) -> Postgres:
    """The server without any archive."""
    monkeypatch.setenv("PGPASSWORD", running.password)
    running.sql("DROP SCHEMA IF EXISTS fovea_archive CASCADE")
    return running


@pytest.fixture
def served(server: Postgres, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", archive_url=server.url())


@pytest.fixture(params=["folder", "server"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    if request.param == "folder":
        return Settings(data_dir=tmp_path / "data")
    return request.getfixturevalue("served")


@pytest.fixture
def archive(settings: Settings) -> Iterator[AnyArchive]:
    with closing(open_archive(settings)) as archive:
        yield archive


@pytest.fixture
def on_server(served: Settings) -> Iterator[AnyArchive]:
    with closing(open_archive(served)) as archive:
        yield archive


def sha(number: int) -> str:
    return f"{number:064x}"


def direction(number: int, dim: int = 16) -> np.ndarray:
    return np.random.default_rng(number).normal(size=dim).astype(np.float32)


def new_case(number: int, encoder_id: str = "a", **known: object) -> NewCase:
    vector = known.pop("vector", direction(number))
    return NewCase(sha(number), encoder_id, vector, JPEG, **known)  # type: ignore[arg-type]


def nearest(archive: AnyArchive, number: int, k: int = 5, encoder_id: str = "a") -> list[str]:
    cases = archive.search(encoder_id, direction(number), k, exclude_sha256=sha(number))
    return [case.case_id for case in cases]


# --- both ----------------------------------------------------------------------------------


def test_adding_twice_changes_nothing(archive: AnyArchive) -> None:
    case = new_case(1, labels=(Label("glaucoma", "metadata"),), eye="OD", date=date(2024, 5, 1))
    assert archive.add(case).outcome == "added"
    again = archive.add(case)
    assert (again.case_id, again.outcome) == ("C000001", "already_there")
    assert archive.count("a") == 1
    assert archive.has(sha(1), "a")
    assert not archive.has(sha(1), "b")
    assert not archive.has(sha(2), "a")
    assert archive.verify() == []


def test_unknown_overwrites_nothing_and_labels_replace_those_of_their_source(
    archive: AnyArchive,
) -> None:
    archive.add(new_case(1, eye="OD", labels=(Label("glaucoma", "metadata"),)))
    archive.add(new_case(1, labels=(Label("normal", "review"),)))
    assert archive.add(new_case(1)).outcome == "already_there"
    assert archive.annotate(sha(1)).outcome == "already_there"
    assert archive.annotate(sha(1), labels=(Label("suspect", "metadata"),)).outcome == "updated"
    [case] = archive.search("a", direction(1), 1, exclude_sha256=sha(9))
    assert case.labels == ("normal", "suspect")
    assert case.eye == "OD"
    with pytest.raises(ArchiveError, match="not archived"):
        archive.annotate(sha(2), eye="OS")


def test_every_field_is_kept(settings: Settings) -> None:
    measured = {"name": "CDR", "zone": None, "unit": "", "value": 0.4, "made_by": "x 1"}
    given = {
        "eye": "OS", "device": "Canon CR-2", "date": date(2024, 5, 1), "patient_id": "p 1",
        "labels": (Label("50 % drusen_x", "metadata"), Label("Ärger", "review")),
        "evidence": {"measured": [measured], "odd": "\u0000 \u00e4"},
    }  # fmt: skip
    with closing(open_archive(settings)) as archive:
        archive.add(new_case(1, **given))
    with closing(open_archive(settings)) as again:
        row = again.case(sha(1))
        assert row is not None
        assert (row.case_id, row.eye, row.device, row.date) == (
            "C000001", "OS", "Canon CR-2", "2024-05-01",
        )  # fmt: skip
        assert json.loads(row.labels)[1] == {"name": "\u00c4rger", "source": "review"}
        assert row.patient == again.pseudonym("p 1") != "p 1"
        assert json.loads(row.evidence or "") == given["evidence"]
        [value] = again.measured("C000001")
        assert (value.name, value.value, value.made_by) == ("CDR", 0.4, "x 1")
        assert again.measured("C000002") == ()
        assert again.thumbnail("C000001") == JPEG
        assert again.case(sha(2)) is None


def test_removed_case_is_gone_and_its_number_is_not_used_again(archive: AnyArchive) -> None:
    for number in (1, 2, 3):
        archive.add(new_case(number))
    assert "C000003" in nearest(archive, 9)
    archive.remove("C000003")
    assert "C000003" not in nearest(archive, 9)
    assert archive.count("a") == 2
    assert archive.add(new_case(4)).case_id == "C000004"
    for unknown in ("C000003", "x", "C", "C9999999999999999999"):
        with pytest.raises(ArchiveError, match=f"no case `{unknown}"):
            archive.remove(unknown)
        with pytest.raises(ArchiveError, match="no case"):
            archive.thumbnail(unknown)


def test_search_leaves_out_the_photograph_and_its_patient(archive: AnyArchive) -> None:
    close = direction(1) + 0.01
    archive.add(new_case(1, patient_id="p1"))
    archive.add(new_case(2, vector=close, patient_id="p1"))
    archive.add(new_case(3, vector=-direction(1), patient_id="p2"))
    archive.add(new_case(4, vector=direction(1)))
    assert nearest(archive, 1) == ["C000004", "C000003"]
    outsider = archive.search(
        "a", direction(1), 5, exclude_sha256=sha(9), exclude_patient=archive.pseudonym("p1")
    )
    assert [case.case_id for case in outsider] == ["C000004", "C000003"]
    archive.add(new_case(5, vector=close))
    # Photographs of unknown patients do not count as those of one patient.
    assert "C000005" in nearest(archive, 4)


def test_a_patient_is_left_out_whichever_encoder_knows_the_photograph(
    archive: AnyArchive,
) -> None:
    archive.add(new_case(1, "old", patient_id="p1", eye="OD"))
    archive.add(new_case(2, "new", patient_id="p1", eye="OD"))
    archive.add(new_case(3, "new", patient_id="p1", eye="OS"))
    archive.add(new_case(4, "new", patient_id="p2"))
    assert nearest(archive, 1, encoder_id="new") == ["C000004"]
    fellow = archive.search(
        "new", direction(1), 5, exclude_sha256=sha(1), wanted=CaseFilter(fellow_eye=True)
    )
    assert sorted(case.case_id for case in fellow) == ["C000003", "C000004"]


def test_results_equal_those_of_exhaustive_comparison(archive: AnyArchive) -> None:
    archive.add_many([new_case(number) for number in range(60)])
    query = direction(999) / np.linalg.norm(direction(999))
    stored = np.stack([direction(n) / np.linalg.norm(direction(n)) for n in range(60)])
    expected = np.argsort(-(stored @ query))[:10]
    cases = archive.search("a", query, 10, exclude_sha256=sha(999))
    assert [case.sha256 for case in cases] == [sha(int(n)) for n in expected]
    np.testing.assert_allclose(
        [case.distance for case in cases], 1 - (stored @ query)[expected], atol=2e-3
    )
    np.testing.assert_allclose([np.linalg.norm(case.vector) for case in cases], 1, atol=1e-6)
    assert len(archive.search("a", query, 500, exclude_sha256=sha(3))) == 59
    with pytest.raises(ArchiveError, match="`k` is 0"):
        archive.search("a", query, 0)


def test_two_encoders_are_never_mixed(archive: AnyArchive) -> None:
    archive.add(new_case(1, "a"))
    archive.add(new_case(2, "b", vector=direction(2, dim=8)))
    archive.add(new_case(1, "b", vector=direction(1, dim=8)))
    assert (archive.count("a"), archive.count("b"), archive.count("c")) == (1, 2, 0)
    assert archive.encoders() == {"a": 1, "b": 2}
    assert nearest(archive, 9) == ["C000001"]
    assert archive.search("c", direction(1), 3, exclude_sha256=sha(9)) == []
    with pytest.raises(ArchiveError, match="length 16 cannot be looked up"):
        archive.search("b", direction(1), 3, exclude_sha256=sha(9))
    with pytest.raises(ArchiveError, match="does not fit the others"):
        archive.add(new_case(3, "a", vector=direction(3, dim=8)))
    assert archive.count("a") == 1
    archive.remove("C000001")
    assert archive.encoders() == {"b": 1}
    archive.add(new_case(3, "a", vector=direction(3, dim=8)))
    assert [c.case_id for c in archive.search("a", direction(3, dim=8), 3)] == ["C000003"]


@pytest.mark.parametrize("vector", [np.zeros(4), np.full(4, np.nan), np.ones((2, 2)), np.ones(0)])
def test_vectors_without_direction_are_refused(archive: AnyArchive, vector: np.ndarray) -> None:
    with pytest.raises(ArchiveError, match="cannot be used"):
        archive.add(new_case(1, vector=vector))
    assert archive.count("a") == 0


def test_many_cases_are_added_all_or_none(archive: AnyArchive) -> None:
    with pytest.raises(ArchiveError, match="cannot be used"):
        archive.add_many([new_case(1), new_case(2, vector=np.zeros(16))])
    assert archive.count("a") == 0
    assert archive.case(sha(1)) is None
    assert [added.case_id for added in archive.add_many([new_case(1), new_case(2)])] == [
        "C000001", "C000002",
    ]  # fmt: skip


def jpeg_of(pixels: np.ndarray, quality: int = 85) -> bytes:
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def test_near_duplicates_are_found_by_their_pictures(archive: AnyArchive) -> None:
    drawn = np.random.default_rng(2)
    first, other = (
        cv2.resize(drawn.integers(0, 255, (12, 12, 3), dtype=np.uint8), (200, 200)) for _ in "ab"
    )
    smaller = cv2.resize(first, (150, 150), interpolation=cv2.INTER_AREA)
    pictures = [jpeg_of(first), jpeg_of(other), jpeg_of(smaller, 40), None]
    for number, picture in enumerate(pictures, start=1):
        archive.add(NewCase(sha(number), "a", direction(number), picture))
    [pair] = archive.near_duplicates(most_bits=30)
    assert (pair.first, pair.second) == ("C000001", "C000003")
    assert len(archive.near_duplicates(most_bits=255)) == 3
    with pytest.raises(ArchiveError, match="has no picture"):
        archive.thumbnail("C000004")


def test_filters_are_applied_before_the_search(archive: AnyArchive) -> None:
    def ids(wanted: CaseFilter, k: int = 9, **asked: object) -> list[str]:
        found = archive.search("a", direction(1), k, wanted=wanted, **asked)  # type: ignore[arg-type]
        return sorted(case.case_id for case in found)

    far = -direction(1)
    archive.add(new_case(1, patient_id="p1", eye="OD", labels=(Label("drusen", "m"),)))
    archive.add(new_case(2, patient_id="p1", eye="OS", vector=far, date=date(2024, 3, 1)))
    archive.add(new_case(3, patient_id="p2", eye="OD", vector=far, device="Canon CR-2"))
    archive.add(new_case(4, patient_id="p3", date=date(2025, 3, 1), labels=(Label("amd", "m"),)))
    assert ids(CaseFilter(eye="OD"), k=1) == ["C000001"]
    assert ids(CaseFilter(eye="OD")) == ["C000001", "C000003"]
    assert ids(CaseFilter(device="Canon CR-2"), k=1) == ["C000003"]
    assert ids(CaseFilter(labels=("amd", "drusen"))) == ["C000001", "C000004"]
    assert ids(CaseFilter(since=date(2024, 3, 1), until=date(2024, 12, 31))) == ["C000002"]
    assert ids(CaseFilter(patient=archive.pseudonym("p1"))) == ["C000001", "C000002"]
    assert ids(CaseFilter(), exclude_sha256=sha(1)) == ["C000003", "C000004"]
    fellow = CaseFilter(fellow_eye=True)
    assert ids(fellow, exclude_sha256=sha(1)) == ["C000002", "C000003", "C000004"]
    archive.add(new_case(5, patient_id="p1", eye="OD"))
    archive.add(new_case(6, patient_id="p1"))
    found = ids(fellow, exclude_sha256=sha(1))
    assert found == ["C000002", "C000003", "C000004"], "the same or an unknown eye stays out"


@pytest.mark.parametrize("asked", ["none", "m", "drus", "drusen_", "d%", '"', "\\", "x', 'y", "ä"])
def test_a_label_is_compared_whole_and_by_its_name(archive: AnyArchive, asked: str) -> None:
    names = ("drusen", "drusen_", "d%")
    archive.add_many(
        [new_case(n, labels=(Label(name, "m"),)) for n, name in enumerate(names, start=1)]
    )
    found = archive.search("a", direction(9), 9, wanted=CaseFilter(labels=(asked,)))
    assert [name for case in found for name in case.labels] == [n for n in names if n == asked]


@pytest.mark.parametrize("odd", ["\ud800", "a\0"])
def test_what_no_row_can_hold_is_found_nowhere(archive: AnyArchive, odd: str) -> None:
    archive.add(new_case(1, patient_id="p1", device="Canon CR-2", labels=(Label("x", "m"),)))
    for wanted in (CaseFilter(device=odd), CaseFilter(patient=odd), CaseFilter(labels=(odd,))):
        assert archive.search("a", direction(1), 5, wanted=wanted) == []
    [case] = archive.search("a", direction(1), 5, exclude_sha256=odd, exclude_patient=odd)
    assert case.case_id == "C000001"


def test_a_closed_archive_says_so(archive: AnyArchive) -> None:
    archive.add(new_case(1))
    archive.close()
    archive.close()
    asked: list[Callable[[], object]] = [
        lambda: nearest(archive, 9),
        archive.encoders,
        lambda: archive.add(new_case(2)),
    ]
    with ThreadPoolExecutor() as pool:
        for ask in asked:
            error = pool.submit(ask).exception(timeout=20)
            assert isinstance(error, ArchiveError)
            assert "closed" in str(error)


def test_closing_during_searches_ends_them(archive: AnyArchive) -> None:
    archive.add_many([new_case(number) for number in range(20)])
    begun = threading.Event()

    def search_on() -> None:
        while True:
            assert len(nearest(archive, 99)) == 5
            begun.set()

    with ThreadPoolExecutor() as pool:
        searches = [pool.submit(search_on) for _ in range(3)]
        assert begun.wait(20)
        archive.close()
        for search in searches:
            error = search.exception(timeout=20)
            assert isinstance(error, ArchiveError)
            assert "closed" in str(error)


def test_changes_of_another_program_are_seen(archive: AnyArchive, settings: Settings) -> None:
    archive.add(new_case(1))
    assert nearest(archive, 9) == ["C000001"]
    with closing(open_archive(settings)) as other:
        other.add(new_case(2))
        assert sorted(nearest(archive, 9)) == ["C000001", "C000002"]


def test_writers_at_the_same_time_lose_nothing(archive: AnyArchive) -> None:
    def write(start: int) -> None:
        for number in range(start, start + 6):
            archive.add(new_case(number))
            archive.add(new_case(1, labels=(Label("seen", f"by {number}"),)))

    threads = [threading.Thread(target=write, args=(start,)) for start in (10, 20, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert archive.count("a") == 19
    row = archive.case(sha(1))
    assert row is not None
    assert len(json.loads(row.labels)) == 18
    assert archive.verify() == []


def test_random_pairs_are_sorted_repeatable_and_of_different_patients(
    settings: Settings, archive: AnyArchive
) -> None:
    archive.add_many(
        [
            new_case(n, patient_id=f"p{n // 2}", vector=direction(n // 2) * 2) for n in range(150)
        ]
    )  # fmt: skip
    distances = archive.random_pair_distances("a")
    assert 4000 < len(distances) <= 5000
    assert np.all(np.diff(distances) >= 0)
    assert distances[0] > 0.01, "the two photographs of one patient are equal and must be left out"
    with closing(open_archive(settings)) as again:
        np.testing.assert_array_equal(distances, again.random_pair_distances("a"))
    assert len(archive.random_pair_distances("none")) == 0
    archive.add(new_case(500, vector=-direction(0)))
    assert archive.random_pair_distances("a").tolist() != distances.tolist()


def test_both_archives_answer_alike(served: Settings, tmp_path: Path) -> None:
    drawn = np.random.default_rng(7)
    cases = [
        new_case(
            n,
            patient_id=f"p{n // 3}",
            eye=("OD", "OS", None)[n % 3],
            labels=(Label(f"l{n % 4}", "m"),) if n % 5 else None,
            date=date(2020 + n % 5, 1, 1) if n % 2 else None,
        )
        for n in range(60)
    ]
    with (
        closing(CaseArchive.open(tmp_path / "folder")) as first,
        closing(open_archive(served)) as second,
    ):
        first.add_many(cases)
        second.add_many(cases)
        for _ in range(12):
            wanted = CaseFilter(
                eye=drawn.choice(["OD", "OS", None]),
                labels=("l1", "l2") if drawn.random() < 0.5 else (),
                since=date(2022, 1, 1) if drawn.random() < 0.5 else None,
                fellow_eye=bool(drawn.random() < 0.5),
            )
            number = int(drawn.integers(60))
            answers = [
                [
                    replace(case, patient=None)  # the keys differ
                    for case in archive.search(
                        "a", direction(number) + 0.1, 9, exclude_sha256=sha(number), wanted=wanted
                    )
                ]
                for archive in (first, second)
            ]
            assert answers[0] == answers[1]
        np.testing.assert_array_equal(
            first.random_pair_distances("a"), second.random_pair_distances("a")
        )


# --- the server ----------------------------------------------------------------------------


class TestServedVectorStore(VectorStoreIntegrationTests):
    """The standard suite of langchain-tests for vector stores."""

    @pytest.fixture
    def vectorstore(self, on_server: AnyArchive) -> Iterator[FoveaVectorStore]:
        yield FoveaVectorStore(on_server, self.get_embeddings(), encoder_id="standard")
        assert on_server.verify() == []


def test_a_graph_answers_as_all_vectors_do_and_is_kept_up_to_date(
    on_server: AnyArchive, server: Postgres, served: Settings
) -> None:
    on_server.add_many([new_case(n, eye="OD" if n == 7 else "OS") for n in range(200)])
    before = nearest(on_server, 777, k=20)
    try:
        server.sql("ALTER ROLE fovea SET enable_seqscan = off")  # as it is at a million
        with closing(open_archive(served)) as archive:
            [(name, index)] = archive.rebuild("hnsw").items()
            assert (name, index.kind, index.count) == ("a", "hnsw", 200)
            assert index.recall_at_10 is not None
            assert index.recall_at_10 >= 0.98
            assert nearest(archive, 777, k=20) == before
            assert server.scans_of("vectors_%langchainvectorindex") > 200, "the graph is asked"
            [rare] = archive.search("a", direction(777), 3, wanted=CaseFilter(eye="OD"))
            assert rare.case_id == "C000008"
            assert len(nearest(archive, 777, k=1500)) == 200, "the rest is looked for exactly"
            archive.remove(before[0])
            archive.add(new_case(300, vector=direction(777)))
            assert nearest(archive, 777, k=20) == ["C000201", *before[1:]]
            assert archive.rebuild("flat")["a"].kind == "flat"
            assert nearest(archive, 777, k=20) == ["C000201", *before[1:]]
            assert archive.rebuild("auto")["a"].kind == "flat"
    finally:
        server.sql("ALTER ROLE fovea RESET enable_seqscan")
    with pytest.raises(ArchiveError, match="`ivf` is no index of the server"):
        on_server.rebuild("ivf")


def test_a_graph_that_finds_too_little_is_not_used(
    on_server: AnyArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_server.add_many([new_case(n) for n in range(30)])
    monkeypatch.setattr("fovea.archive.served.FLAT_UP_TO", 20)
    [index] = on_server.rebuild("auto").values()
    assert index.kind == "hnsw"
    monkeypatch.setattr("fovea.archive.served_vectors.LEAST_RECALL", 1.1)
    [index] = on_server.rebuild("auto").values()
    assert (index.kind, index.recall_at_10) == ("flat", None)


def test_vectors_too_long_for_a_graph_are_all_compared(
    on_server: AnyArchive, caplog: pytest.LogCaptureFixture
) -> None:
    on_server.add_many([new_case(n, "long", vector=direction(n, 2001)) for n in (1, 2, 3)])
    on_server.add_many([new_case(n, "short") for n in (1, 2, 3)])
    built = on_server.rebuild("hnsw")
    assert {name: index.kind for name, index in built.items()} == {"long": "flat", "short": "hnsw"}
    assert "`long` have length 2001" in caplog.text
    found = on_server.search("long", direction(2, 2001), 1)
    assert [case.case_id for case in found] == ["C000002"]


def test_two_rebuilds_at_once_wait_for_each_other(on_server: AnyArchive, served: Settings) -> None:
    on_server.add_many([new_case(n) for n in range(60)])
    done: list[object] = []

    def rebuild() -> None:
        with closing(open_archive(served)) as archive:
            try:
                done.append(archive.rebuild("hnsw")["a"].kind)
            except ArchiveError as error:
                done.append(error)

    threads = [threading.Thread(target=rebuild) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == ["hnsw"] * 4


ALTERATIONS = [
    ("UPDATE fovea_archive.cases SET patient = 'x' WHERE number = 2", "row does not match"),
    ("UPDATE fovea_archive.cases SET patient = NULL WHERE number = 2", "row does not match"),
    ("UPDATE fovea_archive.cases SET picture = 'x' WHERE number = 2", "picture does not match"),
    ("UPDATE fovea_archive.cases SET picture = NULL WHERE number = 2", "picture does not match"),
]


@pytest.mark.parametrize(("statement", "said"), ALTERATIONS)
def test_altered_rows_are_told_and_never_used(
    on_server: AnyArchive, server: Postgres, statement: str, said: str
) -> None:
    known = {"labels": (Label("x", "m"),), "patient_id": "p1"}
    on_server.add_many([new_case(n, **known) for n in (1, 2)])
    on_server.add(new_case(3, patient_id="p3"))
    server.sql(statement)
    [problem] = on_server.verify()
    assert problem.startswith("C000002")
    assert said in problem
    asked = [lambda: on_server.thumbnail("C000002")]
    if "picture" not in said:  # pictures are not searched
        asked += [
            lambda: nearest(on_server, 9),
            lambda: nearest(on_server, 1),
            lambda: nearest(on_server, 2),
            lambda: on_server.random_pair_distances("a"),
        ]
    for ask in asked:
        with pytest.raises(ArchiveError, match="is damaged") as caught:
            ask()
        assert "pg_restore" in str(caught.value)
        assert "fovea index" not in str(caught.value)


def test_an_altered_vector_is_told_and_never_used(on_server: AnyArchive, server: Postgres) -> None:
    on_server.add_many([new_case(n) for n in (1, 2, 3)])
    [table] = server.ask("SELECT place FROM fovea_archive.encoders")
    vectors = f"fovea_archive.vectors_{table}"
    server.sql(
        f"UPDATE {vectors} a SET embedding = b.embedding "  # noqa: S608 - a digest
        f"FROM {vectors} b WHERE a.number = 2 AND b.number = 3"
    )
    assert [problem[:7] for problem in on_server.verify()] == ["C000002"]
    with pytest.raises(ArchiveError, match="is damaged"):
        nearest(on_server, 9)


def test_a_vector_of_another_case_is_told_and_never_used(
    on_server: AnyArchive, server: Postgres
) -> None:
    on_server.add_many([new_case(n, patient_id=f"p{n}") for n in (1, 2, 3)])
    [table] = server.ask("SELECT place FROM fovea_archive.encoders")
    columns = ("sha256", "embedding", "generation", "vector_sha256")
    server.sql(
        f"UPDATE fovea_archive.vectors_{table} a "  # noqa: S608 - a digest
        f"SET ({', '.join(columns)}) = ({', '.join(f'b.{column}' for column in columns)}) "
        f"FROM fovea_archive.vectors_{table} b "
        "WHERE a.number = 1 AND b.number = 2 OR a.number = 2 AND b.number = 1"
    )
    problems = on_server.verify()
    assert [problem[:7] for problem in problems] == ["C000001", "C000002"]
    assert "another photograph" in problems[0]
    for ask in (
        lambda: nearest(on_server, 9),
        lambda: on_server.random_pair_distances("a"),
        lambda: on_server.has(sha(1), "a"),
        lambda: on_server.add(new_case(1)),
    ):
        with pytest.raises(ArchiveError, match="is damaged"):
            ask()


def test_what_the_server_does_itself_is_said(served: Settings) -> None:
    with closing(open_archive(served)) as archive, pytest.raises(ArchiveError, match="pg_dump"):
        archive.snapshot()


def test_a_dump_brings_everything_back(
    on_server: AnyArchive, server: Postgres, served: Settings, tmp_path: Path
) -> None:
    on_server.add_many([new_case(n, patient_id=f"p{n}", eye="OD") for n in range(20)])
    before = on_server.search("a", direction(9), 20)
    server.dump("fovea_archive", tmp_path / "archive.dump")
    server.sql("DROP DATABASE IF EXISTS again", "CREATE DATABASE again OWNER fovea")
    server.sql("CREATE EXTENSION vector", database="again")
    server.restore(tmp_path / "archive.dump", "again")
    url = server.url(database="again")
    with closing(open_archive(served.model_copy(update={"archive_url": url}))) as restored:
        assert restored.verify() == []
        assert restored.search("a", direction(9), 20) == before
        assert restored.add(new_case(50, patient_id="p1")).case_id == "C000021"


def test_without_the_packages_the_extra_is_named(
    served: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fovea.archive.served", None)
    with pytest.raises(ArchiveError, match=r"fovea-assistant\[server\]"):
        open_archive(served)


def tables_of_another_release(server: Postgres, settings: Settings) -> None:
    open_archive(settings).close()
    server.sql("UPDATE fovea_archive.facts SET value = '9' WHERE name = 'layout'")


def tables_of_a_stranger(server: Postgres, settings: Settings) -> None:
    server.sql("CREATE SCHEMA fovea_archive AUTHORIZATION fovea")
    server.sql("CREATE TABLE fovea_archive.cases (theirs text)")


def no_facts(server: Postgres, settings: Settings) -> None:
    open_archive(settings).close()
    server.sql("DELETE FROM fovea_archive.facts")


@pytest.mark.parametrize("made", [tables_of_another_release, tables_of_a_stranger, no_facts])
def test_tables_of_another_layout_are_refused_and_left_alone(
    server: Postgres, served: Settings, made: Callable[[Postgres, Settings], None]
) -> None:
    made(server, served)
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'fovea_archive'"
    before = server.ask(tables)
    with pytest.raises(ArchiveError, match="not those of a case archive of this release"):
        open_archive(served)
    assert server.ask(tables) == before


def test_tables_that_lose_a_part_are_told(on_server: AnyArchive, server: Postgres) -> None:
    on_server.add(new_case(1))
    [place] = server.ask("SELECT place FROM fovea_archive.encoders")
    server.sql(f"DROP VIEW fovea_archive.search_{place}")
    with pytest.raises(ArchiveError, match="not those of a case archive of this release"):
        nearest(on_server, 9)


def test_a_database_without_pgvector_is_told(server: Postgres, served: Settings) -> None:
    server.sql("DROP DATABASE IF EXISTS bare", "CREATE DATABASE bare OWNER fovea")
    url = server.url(database="bare")
    with pytest.raises(ArchiveError, match="lacks the extension pgvector") as caught:
        open_archive(served.model_copy(update={"archive_url": url}))
    assert "CREATE EXTENSION vector" in str(caught.value)
    assert "database `bare` on `127.0.0.1`" in str(caught.value)


def chain(error: BaseException | None) -> str:
    """The messages of an error and of those that led to it, as a log shows them."""
    return "" if error is None else f"{error!s} {error!r} {chain(error.__cause__)}"


def test_who_may_not_connect_is_told_and_no_password_is_repeated(
    server: Postgres, served: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for url in (server.url("stranger"), server.url(database="absent")):
        with pytest.raises(ArchiveError, match="refuses the connection") as caught:
            open_archive(served.model_copy(update={"archive_url": url}))
        assert server.password not in chain(caught.value)
    for password in ("wrong-password-7", None):
        monkeypatch.delenv("PGPASSWORD")
        monkeypatch.setenv("PGPASSFILE", "/nonexistent")
        if password:
            monkeypatch.setenv("PGPASSWORD", password)
        with pytest.raises(ArchiveError, match="refuses the connection") as caught:
            open_archive(served)
        assert "PGPASSWORD" in str(caught.value)
        assert "wrong-password-7" not in chain(caught.value)
        monkeypatch.setenv("PGPASSWORD", "x")


def test_a_refused_opening_leaves_no_connection(server: Postgres, served: Settings) -> None:
    no_facts(server, served)
    with pytest.raises(ArchiveError) as caught:
        open_archive(served)
    assert caught.value is not None  # its frames hold the engine, so that nothing frees it
    open_now = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'fovea'"
    for _ in range(50):
        if server.ask(open_now) == [0]:
            break
        time.sleep(0.1)
    assert server.ask(open_now) == [0]


def test_who_may_only_read_can_search_but_not_write(
    on_server: AnyArchive, server: Postgres, served: Settings, tmp_path: Path
) -> None:
    on_server.add_many([new_case(n, patient_id="p1") for n in (1, 2)])
    server.sql(
        "DROP ROLE IF EXISTS reader",
        f"CREATE ROLE reader LOGIN PASSWORD '{server.password}'",
        "GRANT USAGE ON SCHEMA fovea_archive TO reader",
        "GRANT SELECT ON ALL TABLES IN SCHEMA fovea_archive TO reader",
    )
    try:
        reading = Settings(data_dir=tmp_path / "other", archive_url=server.url("reader"))
        with closing(open_archive(reading)) as archive:
            assert sorted(nearest(archive, 9)) == ["C000001", "C000002"]
            assert nearest(archive, 1) == []
            assert archive.verify() == []
            with pytest.raises(ArchiveError, match="refuses what") as caught:
                archive.add(new_case(3))
            assert "Grant the role the rights" in str(caught.value)
    finally:
        server.sql("DROP OWNED BY reader", "DROP ROLE reader")


def test_a_machine_without_the_key_can_search_but_name_no_patient(
    on_server: AnyArchive, served: Settings, tmp_path: Path
) -> None:
    on_server.add(new_case(1, patient_id="p1"))
    own = Path(served.data_dir) / "archive-key" / "pseudonym.key"
    other = Settings(data_dir=tmp_path / "other", archive_url=served.archive_url)
    with closing(open_archive(other)) as archive:
        assert nearest(archive, 9) == ["C000001"]
        archive.add(new_case(2))
        with pytest.raises(ArchiveError, match="does not have the `pseudonym") as caught:
            archive.add(new_case(3, patient_id="p1"))
        assert "`archive-key`" in str(caught.value)
        (tmp_path / "other" / "archive-key").mkdir(parents=True)
        (tmp_path / "other" / "archive-key" / "pseudonym.key").write_bytes(own.read_bytes())
        archive.add(new_case(3, patient_id="p1"))
        assert archive.pseudonym("p1") == on_server.pseudonym("p1")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://fovea:geheim@db/cases",
        "postgresql://fovea@db/cases?password=geheim",
        "postgresql://fovea:ge/heim@db/cases",
        "postgresql://fovea:geheim#1@db/cases",
        "postgresql://fovea:12/heim@db/cases",
        "postgresql://fovea:/geheim@db/cases",
        "postgresql://fovea:12#heim@db/cases",
        "postgresql://fovea:#heim@db/cases",
        "postgresql://fovea:12?heim@db/cases",
        "postgresql://fovea?password=geheim@db/cases",
        "postgresql://fovea@db/cases?sslmode=prefer#&password=geheim",
        "postgresql://fovea:geheim",
        "postgresql://db:5432#geheim/cases",
        "postgresql://fovea@db/cases?pass%77ord=geheim",
        "postgresql:geheim",
        "postgresql:/geheim",
        "geheim",
        "mysql://fovea:geheim@db/cases",
    ],
)
def test_an_address_with_a_password_is_refused_and_not_repeated(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOVEA_ARCHIVE_URL", url)
    with pytest.raises(ConfigError, match="FOVEA_ARCHIVE_URL") as caught:
        Settings.from_environment()
    assert "heim" not in str(caught.value)
    assert "heim" not in str(caught.value.__cause__)
    assert "PGPASSWORD" in str(caught.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://", "database `default` on `this machine`"),
        ("postgres://fovea@db.example/cases", "database `cases` on `db.example`"),
        ("postgresql://[::1]:5433/cases?sslmode=require", "database `cases` on `::1`"),
        ("postgresql:///cases?host=/run/postgresql", "database `cases` on `/run/postgresql`"),
    ],
)
def test_an_address_without_a_password_is_accepted_and_described(
    url: str, said: str, tmp_path: Path
) -> None:
    from fovea.archive.server import address_of, described

    assert Settings(data_dir=tmp_path, archive_url=url).archive_url == url
    assert described(address_of(url)) == f"archive in {said}"


@pytest.mark.parametrize("url", ["postgresql:geheim", "postgresql://db:geheim/cases"])
def test_an_address_that_cannot_be_read_is_told_and_not_repeated(url: str, tmp_path: Path) -> None:
    served = pytest.importorskip("fovea.archive.served")
    with pytest.raises(ArchiveError, match="cannot be read") as caught:
        served.ServedArchive.open(url, tmp_path)
    assert "heim" not in chain(caught.value)


# --- page, commands and Python -------------------------------------------------------------


@pytest.fixture
def photographs(retina_path: Path, tmp_path: Path) -> Path:
    """The sample photograph as three other patients' eyes might look."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    picture = cv2.imread(str(retina_path))
    inside = picture.max(axis=2, keepdims=True) > 20
    for name, altered in {
        "turned": cv2.rotate(picture, cv2.ROTATE_90_CLOCKWISE),
        "hazy": np.where(inside, cv2.GaussianBlur(picture, (0, 0), 3), np.uint8(0)),
        "pale": np.where(inside, np.clip(picture * 1.15 + 8, 0, 255).astype(np.uint8), np.uint8(0)),
    }.items():
        cv2.imwrite(str(folder / f"{name}.png"), altered)
    (folder / "cases.csv").write_text("file,patient,labels\nturned.png,p1,glaucoma\nhazy.png,p2,\n")
    return folder


def command(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.stdout


def test_a_whole_turn_is_answered_from_the_server(
    served: Settings,
    photographs: Path,
    retina_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FOVEA_DATA_DIR", str(served.data_dir))
    monkeypatch.setenv("FOVEA_ARCHIVE_URL", str(served.archive_url))
    added = command("index", "add", photographs, "--metadata", photographs / "cases.csv", "--json")
    assert json.loads(added) == {"added": 3}
    again = command("index", "add", photographs, "--metadata", photographs / "cases.csv", "--json")
    assert json.loads(again) == {"already_there": 3}
    assistant = Assistant(served.model_copy(update={"backend": "rules"}))
    answer = assistant.ask([retina_path], "Have we seen an eye like this?")
    [found] = [e for e in answer.evidence.values() if e.tool == "find_similar_cases"]
    names = [neighbour.case_id for neighbour in found.result.similar]
    assert sorted(names) == ["C000001", "C000002", "C000003"]
    labels = {neighbour.case_id: neighbour.labels for neighbour in found.result.similar}
    assert labels["C000003"] == ("glaucoma",)
    assert f"[{found.id}]" in answer.text
    folder = Assistant(Settings(data_dir=tmp_path / "own", backend="rules"))
    vectors = assistant.archive.search("fovea-classical-1", np.ones(128, np.float32), 3)
    folder.archive.add_many(
        [
            NewCase(
                case.sha256, "fovea-classical-1", case.vector,
                assistant.archive.thumbnail(case.case_id), patient_id=case.patient,
                labels=tuple(Label(name, "metadata") for name in case.labels) or None,
            )
            for case in sorted(vectors, key=lambda case: case.case_id)
        ]
    )  # fmt: skip
    assert answer.text == folder.ask([retina_path], "Have we seen an eye like this?").text
    folder.archive.close()
    assert not (served.data_dir / "archive").exists(), "nothing is kept in a folder"
    assistant.archive.close()
    told = json.loads(command("index", "rebuild", "--kind", "auto", "--json"))
    assert [(row["kind"], row["cases"]) for row in told.values()] == [("flat", 3)]
    assert "whole" in command("index", "verify")
    assert json.loads(command("index", "duplicates", "--bits", "0", "--json")) == []
    for arguments in (["snapshot"], ["rollback"], ["rollback", "x"]):
        with pytest.raises(ArchiveError, match="pg_dump"):
            command("index", *arguments)
    command("index", "remove", "C000001")
    with closing(open_archive(served)) as left:
        assert left.encoders() == {"fovea-classical-1": 2}
    rows = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)
    assert [row["ok"] for row in rows if row["what"].startswith("case archive")] == [True]


def test_a_server_that_stops_bars_only_similar_cases(
    running: Postgres, on_server: AnyArchive, served: Settings, retina_path: Path
) -> None:
    on_server.add(new_case(1))
    assistant = Assistant(served.model_copy(update={"backend": "rules"}))
    assert assistant.archive.count("a") == 1
    running.stop()
    try:
        for ask in (assistant.archive.encoders, lambda: nearest(on_server, 9)):
            with pytest.raises(ArchiveError, match="cannot be reached") as caught:
                ask()
            assert running.password not in str(caught.value)
        for known in (assistant, Assistant(assistant.settings)):
            answer = known.ask([retina_path], "Have we seen an eye like this?")
            assert "cannot be reached" in answer.text
        quality = assistant.ask([retina_path], "How good is the photograph?")
        assert [call.status for call in quality.calls if call.tool == "assess_quality"] == ["ok"]
    finally:
        running.start()
    assert nearest(on_server, 9) == ["C000001"], "no restart of Fovea is needed"
    on_server.add(new_case(2))
    assert assistant.archive.count("a") == 2
    assistant.archive.close()
