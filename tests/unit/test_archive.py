"""The archive in a folder: what is acknowledged stays, what is damaged is told, nobody is named.

What every archive does is in tests/contract/test_archives.py.
"""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import archive_faults
import cv2
import numpy as np
import pytest

from fovea.archive import CaseArchive, Embedding, NewCase, index_folder
from fovea.archive.copies import COPY_FILE, FILE
from fovea.archive.keys import KEY_COPY, KEY_FILE
from fovea.archive.records import thumbnail_of
from fovea.contract import CaseFilter
from fovea.errors import ArchiveError, ConfigError
from fovea.image import Photograph, open_photograph
from fovea.settings import Settings

JPEG = cv2.imencode(".jpg", np.full((8, 8, 3), 90, np.uint8))[1].tobytes()
PATIENT = "Erika-Mustermann-1964-08-12"


def sha(number: int) -> str:
    return f"{number:064x}"


def direction(number: int, dim: int = 16) -> np.ndarray:
    return np.random.default_rng(number).normal(size=dim).astype(np.float32)


def new_case(number: int, encoder_id: str = "a", **known: object) -> NewCase:
    vector = known.pop("vector", direction(number))
    return NewCase(sha(number), encoder_id, vector, JPEG, **known)  # type: ignore[arg-type]


@pytest.fixture
def archive(tmp_path: Path) -> CaseArchive:
    return CaseArchive.open(tmp_path / "archive")


def raw(folder: Path, statement: str, *values: object, file: str = FILE) -> None:
    """Write behind the archive's back, as a failing disk would."""
    connection = sqlite3.connect(folder / file)
    connection.execute(statement, values)
    connection.commit()
    connection.close()


def nearest(archive: CaseArchive, number: int, k: int = 5, encoder_id: str = "a") -> list[str]:
    cases = archive.search(encoder_id, direction(number), k, exclude_sha256=sha(number))
    return [case.case_id for case in cases]


def test_removed_picture_leaves_no_bytes_behind(archive: CaseArchive, tmp_path: Path) -> None:
    picture = np.random.default_rng(5).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
    added = archive.add(NewCase(sha(1), "a", direction(1), jpeg))
    part = jpeg[5000:5060]
    names = (FILE, f"{FILE}-wal", COPY_FILE, f"{COPY_FILE}-wal")
    files = [tmp_path / "archive" / name for name in names]
    assert any(part in path.read_bytes() for path in files)
    archive.remove(added.case_id)
    assert not any(part in path.read_bytes() for path in files)


ALTERATIONS = [
    ("UPDATE embeddings SET vector = ? WHERE sha256 = ?", np.ones(16, "<f2").tobytes()),
    ("UPDATE embeddings SET encoder_id = 'b', dim = ? WHERE sha256 = ?", 16),
    ("UPDATE cases SET labels = ? WHERE sha256 = ?", '[{"name": "x", "source": "y"}]'),
    ("UPDATE cases SET patient = ? WHERE sha256 = ?", "P00000000000000000000"),
    ("UPDATE pictures SET jpeg = ? WHERE sha256 = ?", b"\xff\xd8\xff broken"),
    ("DELETE FROM embeddings WHERE ? = 0 AND sha256 = ?", 0),
    ("DELETE FROM cases WHERE ? = 0 AND sha256 = ?", 0),
    ("UPDATE facts SET value = ? WHERE name = 'generation' AND ? != ''", "1"),
]


@pytest.mark.parametrize(("statement", "value"), ALTERATIONS)
def test_altered_rows_are_told_never_used_and_repaired_from_the_second_copy(
    archive: CaseArchive, tmp_path: Path, statement: str, value: object
) -> None:
    for number in (1, 2, 3):
        archive.add(new_case(number, patient_id=f"p{number}"))
    before = [archive.search("a", direction(n), 3) for n in (1, 2, 9)]
    archive.close()
    raw(tmp_path / "archive", statement, value, sha(2))
    reopened = CaseArchive.open(tmp_path / "archive")
    if "facts" not in statement:  # damaged facts are found, and repaired, by opening
        assert reopened.verify()
    assert [reopened.search("a", direction(n), 3) for n in (1, 2, 9)] == before
    assert reopened.thumbnail("C000002") == JPEG
    if "pictures" not in statement:
        assert reopened.has(sha(2), "a")
    assert reopened.verify() == []
    assert any((tmp_path / "archive" / "quarantine").iterdir())


def test_rows_damaged_in_both_copies_are_refused_until_a_snapshot_is_taken_back(
    archive: CaseArchive, tmp_path: Path
) -> None:
    for number in (1, 2, 3):
        archive.add(new_case(number))
    name = archive.snapshot("good")
    archive.add(new_case(4))
    archive.close()
    for file in (FILE, COPY_FILE):
        raw(tmp_path / "archive", "UPDATE cases SET patient = 'x' WHERE number = ?", 2, file=file)
    broken = CaseArchive.open(tmp_path / "archive")
    assert len(broken.verify()) >= 2
    with pytest.raises(ArchiveError, match="Both copies") as caught:
        nearest(broken, 9)
    assert "fovea index rollback" in str(caught.value)
    broken.close()
    CaseArchive.roll_back(tmp_path / "archive", name)
    restored = CaseArchive.open(tmp_path / "archive")
    assert restored.verify() == []
    assert sorted(nearest(restored, 9)) == ["C000001", "C000002", "C000003"]
    assert restored.add(new_case(5)).case_id == "C000005", "numbers are never used twice"


@pytest.mark.parametrize("file", [FILE, COPY_FILE])
@pytest.mark.parametrize("content", [None, b"", b"no database at all" * 300])
def test_a_lost_or_destroyed_file_is_made_anew_and_kept_in_quarantine(
    archive: CaseArchive, tmp_path: Path, file: str, content: bytes | None
) -> None:
    archive.add(new_case(1))
    archive.close()
    path = tmp_path / "archive" / file
    path.unlink() if content is None else path.write_bytes(content)
    reopened = CaseArchive.open(tmp_path / "archive")
    assert nearest(reopened, 9) == ["C000001"]
    assert reopened.verify() == []
    if content:
        kept = (tmp_path / "archive" / "quarantine").iterdir()
        assert content in [path.read_bytes() for path in kept]


@pytest.mark.parametrize("file", [FILE, COPY_FILE])
def test_a_copy_that_seems_to_be_of_another_release_is_made_anew(
    archive: CaseArchive, tmp_path: Path, file: str
) -> None:
    archive.add(new_case(1))
    archive.close()
    raw(tmp_path / "archive", "PRAGMA user_version = 9", file=file)
    reopened = CaseArchive.open(tmp_path / "archive")
    assert nearest(reopened, 9) == ["C000001"]
    assert reopened.verify() == []


def test_an_archive_of_another_release_is_refused_and_left_alone(
    archive: CaseArchive, tmp_path: Path
) -> None:
    archive.add(new_case(1))
    archive.close()
    for file in (FILE, COPY_FILE):
        raw(tmp_path / "archive", "PRAGMA user_version = 9", file=file)
    with pytest.raises(ArchiveError, match="cannot be used as a case archive"):
        CaseArchive.open(tmp_path / "archive")
    assert not (tmp_path / "archive" / "quarantine").exists()


def test_an_archive_without_database_is_no_new_archive(
    archive: CaseArchive, tmp_path: Path
) -> None:
    archive.add(new_case(1))
    archive.close()
    for file in (FILE, COPY_FILE):
        (tmp_path / "archive" / file).unlink()
    with pytest.raises(ArchiveError, match="is missing"):
        CaseArchive.open(tmp_path / "archive")


def test_repair_is_refused_while_another_program_has_the_archive_open(
    archive: CaseArchive, tmp_path: Path
) -> None:
    archive.add(new_case(1))
    CaseArchive.open(tmp_path / "archive")
    raw(tmp_path / "archive", "UPDATE cases SET patient = ?", "x")
    with pytest.raises(ArchiveError, match="another program has it open"):
        nearest(archive, 9)


def test_strangers_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    raw(tmp_path, "CREATE TABLE theirs (x)")
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(ArchiveError, match="another program"):
        CaseArchive.open(tmp_path)
    assert (tmp_path / FILE).read_bytes() == before


def test_lost_or_other_key_is_refused(archive: CaseArchive, tmp_path: Path) -> None:
    archive.add(new_case(1, patient_id=PATIENT))
    archive.close()
    key = tmp_path / "archive" / KEY_FILE
    copy = tmp_path / "archive" / KEY_COPY
    kept = key.read_bytes()
    for content in (None, b"x" * 32, b""):
        for path in (key, copy):
            path.unlink() if content is None else path.write_bytes(content)
        with pytest.raises(ArchiveError, match="key"):
            CaseArchive.open(tmp_path / "archive")
    key.write_bytes(kept)
    assert CaseArchive.open(tmp_path / "archive").count("a") == 1
    assert copy.read_bytes() == kept, "the second file is written again"


def test_nothing_but_the_store_is_written_and_only_for_the_owner(
    archive: CaseArchive, tmp_path: Path
) -> None:
    archive.add(new_case(1))
    nearest(archive, 9)
    found = list((tmp_path / "archive").rglob("*"))
    databases = {f"{name}{log}" for name in (FILE, COPY_FILE) for log in ("", "-wal", "-shm")}
    files = {path.name for path in found if path.is_file()}
    assert files - databases == {
        KEY_FILE, KEY_COPY, "archive.lock", "000000000002.json", "000000000002.faiss",
    }  # fmt: skip
    for path in found:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


# --- folders -------------------------------------------------------------------------------


class Brightness:
    """An encoder small enough to check by hand; refuses blue pictures, crashes on green ones."""

    encoder_id = "brightness"

    def __init__(self) -> None:
        self.calls = 0

    def embed(self, image: Photograph) -> np.ndarray:
        self.calls += 1
        red, green, blue = image.pixels[image.field_of_view].mean(axis=0)
        if green > 200:
            raise IndexError("list index out of range")
        return np.array([red, green, blue + 1], np.float32)


def embedding(encoder: Brightness | None = None) -> Embedding:
    loaded = encoder or Brightness()
    return Embedding(loaded.encoder_id, lambda: (loaded, lambda photograph: None), Settings())  # type: ignore[return-value,arg-type]


def write_eye(path: Path, colour: tuple[int, int, int]) -> Path:
    rows, columns = np.mgrid[:160, :160]
    picture = np.zeros((160, 160, 3), np.uint8)
    picture[(rows - 80) ** 2 + (columns - 80) ** 2 < 70**2] = colour[::-1]
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> SimpleNamespace:
    root = tmp_path / "photographs"
    write_eye(root / "Mustermann_left.png", (200, 100, 40))
    write_eye(root / "visit 2" / "b.png", (180, 90, 50))
    write_eye(root / "c.png", (30, 250, 30))
    (root / "notes.txt").write_text("not an image")
    (root / ".hidden.png").write_bytes(b"x")
    csv_path = root / "metadata.csv"
    csv_path.write_text(
        "file,patient,eye,labels,date,device\n"
        f"Mustermann_left.png,{PATIENT},left,glaucoma; myopia,2024-05-01,Canon CR-2\n"
        f"visit 2/b.png,{PATIENT},OD,,,\n"
        "gone.png,p9,,,,\n",
        encoding="utf-8-sig",
    )
    return SimpleNamespace(root=root, csv=csv_path)


def test_folder_is_indexed_file_by_file_and_resumed(
    archive: CaseArchive, folder: SimpleNamespace, tmp_path: Path
) -> None:
    encoder, errors_csv = Brightness(), tmp_path / "errors.csv"

    def index() -> dict[str, str]:
        events = index_folder(
            archive,
            embedding(encoder),
            folder=folder.root,
            metadata_csv=folder.csv,
            errors_csv=errors_csv,
        )
        return {event.file: event.outcome for event in events}

    expected = {"Mustermann_left.png": "added", "visit 2/b.png": "added"}
    failed = dict.fromkeys(("c.png", "gone.png", "notes.txt"), "failed")
    assert index() == expected | failed
    listed = errors_csv.read_text().splitlines()
    assert listed[0] == "file,error,reason"
    assert sorted(line.split(",")[:2] for line in listed[1:]) == [
        ["c.png", "PluginFailed"],
        ["gone.png", "FoveaError"],
        ["notes.txt", "UnreadableImage"],
    ]
    assert encoder.calls == 3
    assert index() == dict.fromkeys(expected, "already_there") | failed
    assert encoder.calls == 4, "only the one that failed is tried again"
    folder.csv.write_text("file,label\nvisit 2/b.png,normal\n")
    assert index()["visit 2/b.png"] == "updated"
    cases = archive.search("brightness", np.ones(3, np.float32), 5, exclude_sha256="")
    found = {case.case_id: (case.eye, case.labels) for case in cases}
    assert found == {"C000001": ("OS", ("glaucoma", "myopia")), "C000002": ("OD", ("normal",))}
    assert len({case.patient for case in cases}) == 1
    by_camera = CaseFilter(device="Canon CR-2")
    found_again = archive.search("brightness", np.ones(3, np.float32), 5, wanted=by_camera)
    assert [case.case_id for case in found_again] == ["C000001"]


def test_errors_are_listed_only_if_asked(
    archive: CaseArchive, folder: SimpleNamespace, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*.csv"))
    list(index_folder(archive, embedding(), folder=folder.root))
    assert sorted(tmp_path.rglob("*.csv")) == before


def test_neither_patient_nor_file_name_is_stored(
    archive: CaseArchive, folder: SimpleNamespace, tmp_path: Path
) -> None:
    list(index_folder(archive, embedding(), folder=folder.root, metadata_csv=folder.csv))
    pseudonym = archive.pseudonym(PATIENT)
    stored = b"".join(path.read_bytes() for path in (tmp_path / "archive").iterdir())
    assert pseudonym.encode() in stored
    for name in (PATIENT, "Mustermann", "visit 2", "photographs"):
        assert name.encode() not in stored
    other = CaseArchive.open(tmp_path / "other")
    assert other.pseudonym(PATIENT) != pseudonym, "without the key a pseudonym cannot be guessed"


def test_one_photograph_under_two_names_with_other_metadata_is_a_failure(
    archive: CaseArchive, tmp_path: Path
) -> None:
    root = tmp_path / "twice"
    write_eye(root / "a.png", (200, 100, 40))
    (root / "b.png").write_bytes((root / "a.png").read_bytes())
    (root / "c.png").write_bytes((root / "a.png").read_bytes())
    table = tmp_path / "m.csv"
    table.write_text("file,patient\na.png,p1\nb.png,p2\nc.png,p1\n")
    found = index_folder(archive, embedding(), folder=root, metadata_csv=table)
    events = {event.file: event for event in found}
    assert events["a.png"].outcome == "added"
    assert events["b.png"].outcome == "failed"
    assert "also `a.png`" in events["b.png"].reason
    assert events["c.png"].outcome == "already_there"
    assert sorted(event.number for event in events.values()) == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,patiant\n", "line 1, column 2: Unknown column 'patiant'"),
        ("file,file\n", "line 1, column 1: The column `file` is there twice"),
        ("patient,eye\n", "line 1: There is no column `file`"),
        ("", "line 1: There is no column `file`"),
        ("file,eye\na.png,OD\nb.png,middle\n", "line 3, column `eye`: 'middle' is not an eye"),
        ("file,device\na.png,<x>\n", "line 2, column `device`: '<x>' cannot be the name"),
        ("file,date\na.png,01.05.2024\n", "line 2, column `date`: '01.05.2024' is not a date"),
        ("file,label\n\na.png,<b>x</b>\n", "line 3, column `labels`: '<b>x</b>' cannot be"),
        ("file,label\na.png,a,b\n", "line 2: The line has 3 cells"),
        ("file\na.png\na.png\n", "line 3, column `file`: The file has two lines"),
        ("file\n../a.png\n", "line 2, column `file`: The file is empty or lies outside"),
        ('file,label\na.png,"open\n', "line 2: The line is not CSV"),
        (b"file,label\na.png,caf\xe9\n", "line 2: The metadata file is not UTF-8"),
    ],
)
def test_metadata_errors_name_line_and_column(
    archive: CaseArchive, tmp_path: Path, text: str | bytes, said: str
) -> None:
    table = tmp_path / "m.csv"
    table.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        index_folder(archive, embedding(), folder=tmp_path, metadata_csv=table)
    assert str(caught.value).startswith(f"`m.csv` {said}")


def test_metadata_errors_never_repeat_the_patient(archive: CaseArchive, tmp_path: Path) -> None:
    table = tmp_path / "m.csv"
    table.write_text(f"file,patient\na.png,{PATIENT * 9}\n")
    with pytest.raises(ConfigError) as caught:
        index_folder(archive, embedding(), folder=tmp_path, metadata_csv=table)
    assert PATIENT not in str(caught.value)


def test_thumbnail_is_small_and_shows_only_the_field_of_view(tmp_path: Path) -> None:
    path = write_eye(tmp_path / "eye.png", (200, 100, 40))
    picture = cv2.imread(str(path))
    big = cv2.resize(picture, (800, 800), interpolation=cv2.INTER_NEAREST)
    cv2.putText(big, "ERIKA M", (4, 40), cv2.FONT_HERSHEY_SIMPLEX, 1.2, (255, 255, 255), 3)
    cv2.imwrite(str(path), big)
    jpeg = thumbnail_of(open_photograph(path))
    small = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert max(small.shape) == 256
    assert b"Exif" not in jpeg
    assert small[:20, :80].max() < 12
    assert small[128, 128, 2] > 150


# --- faults: a small version of benchmarks/archive_faults.py --------------------------------


def test_planted_damage_is_never_taken_for_good(tmp_path: Path) -> None:
    found = list(archive_faults.plant(12, 3, tmp_path))
    fine = {"recovered, damage kept in quarantine", "unharmed or healed in place"}
    assert [told for told in found if told[1] not in fine] == []
    assert len({told for _, told in found}) == 2


def test_killed_writers_lose_nothing_and_leave_no_ghosts(tmp_path: Path) -> None:
    found = list(archive_faults.kill(5, 11, tmp_path))
    assert [told for _, told, _ in found] == ["sound, nothing lost, no ghosts"] * 5


def test_a_full_disk_is_told_and_changes_nothing(tmp_path: Path) -> None:
    found = list(archive_faults.fill_disk(4, 1, tmp_path))
    fine = {"done", "refused, old state", "refused, but the change is there whole"}
    assert [told for told in found if told[1] not in fine] == []
    assert any(told.startswith("refused") for _, told in found)


def test_a_change_is_refused_before_the_disk_is_full(
    archive: CaseArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.add(new_case(1))
    monkeypatch.setattr("fovea.archive.database.RESERVE_BYTES", 1 << 60)
    with pytest.raises(ArchiveError, match="disk is full: nothing was changed") as caught:
        archive.add(new_case(2))
    assert "Free some space" in str(caught.value)
    assert nearest(archive, 9) == ["C000001"]


READ_ONLY = """
import os, sys
from pathlib import Path
from fovea.archive import CaseArchive
from fovea.errors import ArchiveError
if os.getuid() == 0:
    os.setuid(65534)
try:
    CaseArchive.open(Path(sys.argv[1]))
except ArchiveError as error:
    print(error)
"""


def test_a_folder_without_the_right_to_write_is_told(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as made:  # pytest's own folders are closed to others
        folder = Path(made) / "archive"
        archive = CaseArchive.open(folder)
        archive.add(new_case(1))
        archive.close()
        before = {path.name: path.read_bytes() for path in folder.glob("*.*")}
        Path(made).chmod(0o755)
        folder.chmod(0o555)
        roots = ":".join(str(Path(path).resolve()) for path in sys.path if path)
        done = subprocess.run(
            [sys.executable, "-c", READ_ONLY, str(folder)],
            capture_output=True, text=True, env={"PYTHONPATH": roots}, check=False,
        )  # fmt: skip
        folder.chmod(0o755)
        assert "archive `archive`: The case archive cannot be read or written" in done.stdout
        assert "permissions" in done.stdout
        assert {path.name: path.read_bytes() for path in folder.glob("*.*")} == before


# --- snapshots and indexes -------------------------------------------------------------------


def test_snapshot_is_taken_back_and_what_was_there_is_kept(
    archive: CaseArchive, tmp_path: Path
) -> None:
    folder = tmp_path / "archive"
    archive.add(new_case(1, patient_id=PATIENT))
    name = archive.snapshot("before")
    archive.add(new_case(2))
    archive.remove("C000001")
    assert (nearest(archive, 9), CaseArchive.snapshots_in(folder)) == (["C000002"], [name])
    with pytest.raises(ArchiveError, match="another program has it open"):
        CaseArchive.roll_back(folder, name)
    archive.close()
    with pytest.raises(ArchiveError, match="no snapshot `none`"):
        CaseArchive.roll_back(folder, "none")
    CaseArchive.roll_back(folder, name)
    back = CaseArchive.open(folder)
    assert nearest(back, 9) == ["C000001"]
    assert back.case(sha(1)).patient == back.pseudonym(PATIENT)  # type: ignore[union-attr]
    assert back.verify() == []
    assert any(path.name.endswith(FILE) for path in (folder / "quarantine").iterdir())
    with pytest.raises(ArchiveError, match="cannot be the name"):
        back.snapshot("../x")


def test_a_damaged_snapshot_is_told_and_not_taken_back(
    archive: CaseArchive, tmp_path: Path
) -> None:
    archive.add(new_case(1))
    name = archive.snapshot()
    path = tmp_path / "archive" / "snapshots" / f"{name}.sqlite"
    path.write_bytes(path.read_bytes()[:-4096])
    [problem] = archive.verify()
    assert f"snapshot `{name}` is damaged" in problem
    archive.close()
    with pytest.raises(ArchiveError, match="is damaged"):
        CaseArchive.roll_back(tmp_path / "archive", name)
    assert nearest(CaseArchive.open(tmp_path / "archive"), 9) == ["C000001"]


def test_changes_after_the_index_was_built_are_seen_without_building_it_again(
    archive: CaseArchive, tmp_path: Path
) -> None:
    archive.add_many([new_case(number) for number in range(1, 31)])
    before = nearest(archive, 77, k=40)
    [stored] = (tmp_path / "archive" / "index").rglob("*.faiss")
    written = stored.stat().st_mtime_ns
    archive.remove(before[0])
    archive.add(new_case(31, vector=direction(77)))
    archive.add(new_case(int(before[1][1:]), vector=-direction(77)))
    assert nearest(archive, 77, k=40) == ["C000031", *before[2:], before[1]]
    again = CaseArchive.open(tmp_path / "archive")
    assert nearest(again, 77, k=40) == ["C000031", *before[2:], before[1]]
    assert [p.stat().st_mtime_ns for p in (tmp_path / "archive" / "index").rglob("*.faiss")] == [
        written
    ]
    archive.rebuild()
    assert nearest(archive, 77, k=40) == ["C000031", *before[2:], before[1]]
    [kept] = (tmp_path / "archive" / "index").rglob("*.faiss")
    assert kept != stored, "no stored index holds the removed vector any more"
