"""Plants damage in a case archive, kills its writers, fills its disk, and counts what it loses.

    python benchmarks/archive_faults.py [--corruptions 800] [--kills 250] [--full 40] [--seed 0]

Corruptions: flipped bytes, truncations, zeroed pages and wrong files, in the databases
(heading, pages, logs), the stored indexes, their manifests and the keys. After each, the
archive is opened and asked the same questions: it must answer the same, and `verify` must
end clean. Kills: `kill -9` at random instants of add, remove, compact, rebuild and snapshot;
what was acknowledged must be there, what was removed must not. Full disk: the largest file
size that the system permits is set to random values within a change.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from fovea.archive import CaseArchive, Label, NewCase, searching
from fovea.archive.copies import COPY_FILE, FILE
from fovea.archive.keys import KEY_COPY, KEY_FILE
from fovea.errors import ArchiveError

ENCODER, DIM, CASES, QUESTIONS = "bench-1", 32, 300, 5
JPEG = cv2.imencode(".jpg", np.full((8, 8, 3), 90, np.uint8))[1].tobytes()
OPERATIONS = ("add", "remove", "compact", "rebuild", "snapshot")
Answers = list[list[tuple[str, float]]]


def surroundings() -> dict[str, str]:
    """The environment of a child that imports what this process imports."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def new_case(number: int) -> NewCase:
    """A case whose vector follows from its number."""
    vector = np.random.default_rng(number).normal(size=DIM).astype(np.float32)
    labels = (Label(f"label {number % 5}", "bench"),)
    return NewCase(
        f"{number:064x}", ENCODER, vector, JPEG, patient_id=str(number // 2), labels=labels
    )


def answers(archive: CaseArchive) -> Answers:
    """The ten nearest cases of each question, with their distances."""
    questions = np.random.default_rng(77).normal(size=(QUESTIONS, DIM)).astype(np.float32)
    found = [archive.search(ENCODER, question, 10) for question in questions]
    return [[(case.case_id, round(case.distance, 5)) for case in cases] for cases in found]


def filled(folder: Path, *, running: Path | None = None) -> Answers:
    """A sound archive with two stored indexes, closed; what it answers.

    Args:
        folder: Where to.
        running: Copy the files here while the archive is open, with its logs.
    """
    searching.MOST_LOOSE = 5  # an index is built again after few changes
    archive = CaseArchive.open(folder)
    archive.add_many([new_case(number) for number in range(CASES - 60)])
    answers(archive)
    archive.add_many([new_case(number) for number in range(CASES - 60, CASES)])
    answers(archive)
    archive.remove("C000007")
    archive.add(new_case(CASES))
    found = answers(archive)
    if running is not None:
        shutil.copytree(folder, running)
    archive.close()
    return found


# --- damage --------------------------------------------------------------------------------


def flip_byte(content: bytearray, drawn: np.random.Generator) -> None:
    content[drawn.integers(len(content))] ^= 1 << int(drawn.integers(8))


def flip_heading(content: bytearray, drawn: np.random.Generator) -> None:
    content[drawn.integers(min(100, len(content)))] ^= int(drawn.integers(1, 256))


def flip_many(content: bytearray, drawn: np.random.Generator) -> None:
    for place in drawn.integers(len(content), size=64):
        content[place] = int(drawn.integers(256))


def truncate(content: bytearray, drawn: np.random.Generator) -> None:
    del content[drawn.integers(len(content)) :]


def zero_page(content: bytearray, drawn: np.random.Generator) -> None:
    page = int(drawn.integers(1 + len(content) // 4096)) * 4096
    content[page : page + 4096] = bytes(len(content[page : page + 4096]))


def zero_tail(content: bytearray, drawn: np.random.Generator) -> None:
    start = int(drawn.integers(len(content)))
    content[start:] = bytes(len(content) - start)


MUTATIONS: tuple[Callable[[bytearray, np.random.Generator], None], ...] = (
    flip_byte, flip_heading, flip_many, truncate, zero_page, zero_tail,
)  # fmt: skip


def targets(folder: Path) -> list[Path]:
    """The files that hold something; each kind as often as it matters."""
    databases = [folder / FILE, folder / COPY_FILE]
    logs = [path.with_name(f"{path.name}-wal") for path in databases]
    indexes = sorted(folder.glob("index/*/[0-9]*"))
    keys = [folder / KEY_FILE, folder / KEY_COPY]
    found = [*databases, *databases, *logs, *indexes, *indexes, *keys]
    return [path for path in found if path.exists() and path.stat().st_size]


def exchange(folder: Path, other: Path, drawn: np.random.Generator) -> str:
    """Put a sound but wrong file in the place of another: old, foreign, or of a neighbour."""
    newest = sorted(folder.glob("index/*/[0-9]*.json"))[-1]
    older = sorted(folder.glob("index/*/[0-9]*.json"))[0]
    foreign = sorted(other.glob("index/*/[0-9]*.json"))[-1]
    pairs = [
        (older, newest), (older.with_suffix(".faiss"), newest.with_suffix(".faiss")),
        (foreign, newest), (foreign.with_suffix(".faiss"), newest.with_suffix(".faiss")),
        (other / FILE, folder / FILE), (other / COPY_FILE, folder / COPY_FILE),
        (other / KEY_FILE, folder / KEY_FILE),
    ]  # fmt: skip
    choice = int(drawn.integers(len(pairs) + 1))
    if choice == len(pairs):  # a whole foreign index with its own manifest
        shutil.copy(foreign, newest)
        shutil.copy(foreign.with_suffix(".faiss"), newest.with_suffix(".faiss"))
        return "foreign index and manifest"
    source, target = pairs[choice]
    shutil.copy(source, target)
    return f"{target.suffix} exchanged"


def plant(count: int, seed: int, work: Path) -> Iterator[tuple[str, str]]:
    """What was damaged, and what became of it: recovered, unharmed, refused or WRONG."""
    running, closed, other = work / "running", work / "closed", work / "other"
    expected = filled(closed, running=running)
    early = CaseArchive.open(other)  # of another clinic
    early.add_many([new_case(number) for number in range(CASES // 2)])
    for number in range(100):  # more changes than the archive that it is put into
        early.annotate(new_case(number).sha256, device="other camera")
    answers(early)
    early.close()
    drawn = np.random.default_rng(seed)
    for _ in range(count):
        template = closed if drawn.random() < 0.5 else running
        folder = work / "case"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(template, folder)
        if drawn.random() < 0.1:
            told = exchange(folder, other, drawn)
        else:
            names = targets(folder)
            path = names[drawn.integers(len(names))]
            mutation = MUTATIONS[drawn.integers(len(MUTATIONS))]
            content = bytearray(path.read_bytes())
            mutation(content, drawn)
            path.write_bytes(content)
            told = f"{mutation.__name__} in {path.suffix or path.name}"
        yield told, outcome(folder, expected)


def outcome(folder: Path, expected: Answers) -> str:
    """How the archive takes the damage."""
    try:
        archive = CaseArchive.open(folder)
    except ArchiveError as error:
        return f"REFUSED: {error}"
    try:
        if answers(archive) != expected:
            return "WRONG ANSWER"
        if archive.verify():
            archive.rebuild()
        problems = archive.verify()
        if problems or answers(archive) != expected:
            return f"NOT REPAIRED: {problems}"
        kept = any((folder / "quarantine").glob("*"))
        return "recovered, damage kept in quarantine" if kept else "unharmed or healed in place"
    except ArchiveError as error:
        return f"REFUSED: {error}"
    finally:
        archive.close()


# --- kill -9 -------------------------------------------------------------------------------


def write_at_random(folder: Path, operation: str, seed: int, say: Callable[[str], None]) -> None:
    """Change the archive until killed; every step is announced and acknowledged."""
    searching.MOST_LOOSE = 5
    drawn = np.random.default_rng(seed)
    archive = CaseArchive.open(folder)
    say("open")
    number = 1000 * (seed + 1)
    while True:
        fresh = [number + i for i in range(int(drawn.integers(1, 40)))]
        number += len(fresh)
        say(f"begin add {' '.join(map(str, fresh))}")
        done = archive.add_many([new_case(n) for n in fresh])
        say(f"done add {' '.join(map(str, fresh))}")
        if operation == "remove" or drawn.random() < 0.5:
            for n, added in list(zip(fresh, done, strict=True))[: int(drawn.integers(40))]:
                say(f"begin remove {n}")
                archive.remove(added.case_id)
                say(f"done remove {n}")
        if operation == "compact":
            archive.search(ENCODER, np.ones(DIM, np.float32), 3)
        elif operation == "rebuild":
            archive.rebuild()
        elif operation == "snapshot":
            archive.snapshot("bench")


def kill(count: int, seed: int, work: Path) -> Iterator[tuple[str, str, float]]:
    """The operation under way, what became of the archive, and seconds to open it again."""
    folder = work / "killed"
    present: set[int] = set()
    drawn = np.random.default_rng(seed)
    for turn in range(count):
        operation = OPERATIONS[turn % len(OPERATIONS)]
        command = [sys.executable, __file__, "--writer", operation, "--folder", str(folder)]
        with subprocess.Popen(
            [*command, "--seed", str(seed + turn)],
            stdout=subprocess.PIPE,
            text=True,
            env=surroundings(),
        ) as writer:
            assert writer.stdout is not None  # noqa: S101 - for the type checker
            lines = [writer.stdout.readline()]
            if lines != ["open\n"]:
                raise RuntimeError("the writer did not start")
            time.sleep(float(drawn.uniform(0, 0.5)))
            writer.send_signal(signal.SIGKILL)
            lines += writer.stdout.readlines()
        uncertain: set[int] = set()
        for line in lines:
            if not line.endswith("\n") or line == "open\n":
                continue
            state, verb, *numbers = line.split()
            named = set(map(int, numbers))
            uncertain = named if state == "begin" else set()
            if state == "done":
                present = present | named if verb == "add" else present - named
        started = time.perf_counter()
        try:
            archive = CaseArchive.open(folder)
            cases = archive.search(ENCODER, np.ones(DIM, np.float32), 10**6)
            seconds = time.perf_counter() - started
            there = {int(case.sha256, 16) for case in cases}
            problems = archive.verify()
            archive.close()
        except ArchiveError as error:
            yield operation, f"UNLOADABLE: {error}", time.perf_counter() - started
            return
        lost, ghosts = present - there - uncertain, there - present - uncertain
        whole = not uncertain & there or uncertain <= there
        if problems or lost or ghosts or not whole:
            yield operation, f"LOST {len(lost)} GHOSTS {len(ghosts)} {problems}", seconds
        else:
            yield operation, "sound, nothing lost, no ghosts", seconds
        present = there


# --- full disk -----------------------------------------------------------------------------


def fill_disk(count: int, seed: int, work: Path) -> Iterator[tuple[str, str]]:
    """The operation, and what became of it when files could not grow any more."""
    drawn = np.random.default_rng(seed)
    template = work / "template"
    expected = filled(template)
    for turn in range(count):
        operation = OPERATIONS[turn % len(OPERATIONS)]
        folder = work / "full"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(template, folder)
        room = int(drawn.integers(0, 200_000))
        command = [sys.executable, __file__, "--limited", operation, "--folder", str(folder)]
        done = subprocess.run(
            [*command, "--room", str(room)], capture_output=True, text=True, check=False,
            env=surroundings(),
        )  # fmt: skip
        if done.returncode or not done.stdout:
            yield operation, f"CRASHED: {done.stderr[-300:]}"
            continue
        said = json.loads(done.stdout)
        archive = CaseArchive.open(folder)
        same, problems = answers(archive) == expected, archive.verify()
        archive.close()
        if problems or not said["reads"]:
            yield operation, f"HARMED: {problems} {said}"
        elif said["error"]:
            state = "old state" if same else "but the change is there whole"
            yield operation, f"refused, {state}"
        else:
            yield operation, "done"


def limited(folder: Path, operation: str, room: int) -> None:
    """One operation where no file may grow beyond `room` bytes; prints how it went."""
    import resource

    searching.MOST_LOOSE = 5
    archive = CaseArchive.open(folder)
    before = answers(archive)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    error = ""
    try:
        if operation == "remove":
            archive.remove("C000012")
        elif operation == "rebuild":
            archive.rebuild()
        elif operation == "snapshot":
            archive.snapshot("bench")
        else:
            archive.add_many([new_case(CASES + 1 + n) for n in range(40)])
            if operation == "compact":
                answers(archive)
    except ArchiveError as refused:
        error = str(refused)
    reads = True
    if error:
        try:
            reads = answers(archive) == before
        except ArchiveError as refused:
            reads = False
            error += f" | then {refused}"
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    print(json.dumps({"error": error, "reads": reads}))


# --- command -------------------------------------------------------------------------------


def main() -> None:
    """Run what was asked for and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corruptions", type=int, default=800)
    parser.add_argument("--kills", type=int, default=250)
    parser.add_argument("--full", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--writer", choices=OPERATIONS, help=argparse.SUPPRESS)
    parser.add_argument("--limited", choices=OPERATIONS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--room", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    if given.writer:
        write_at_random(given.folder, given.writer, given.seed, partial(print, flush=True))
    if given.limited:
        limited(given.folder, given.limited, given.room)
        return
    with tempfile.TemporaryDirectory() as made:
        work = Path(made)
        told: Counter[str] = Counter()
        for number, (_, result) in enumerate(plant(given.corruptions, given.seed, work), 1):
            told[result] += 1
            show("corruptions", number, given.corruptions, told)
        told, longest = Counter(), 0.0
        killed = kill(given.kills, given.seed, work)
        for number, (operation, result, seconds) in enumerate(killed, 1):
            told[f"{operation}: {result}"] += 1
            longest = max(longest, seconds)
            show("times kill -9", number, given.kills, told)
        print(f"  longest opening and first search after kill -9: {longest:.2f} s")
        told = Counter()
        for number, (operation, result) in enumerate(fill_disk(given.full, given.seed, work), 1):
            told[f"{operation}: {result}"] += 1
            show("times a full disk", number, given.full, told)


def show(what: str, number: int, total: int, told: Counter[str]) -> None:
    """Print the counts so far, every fifty times and at the end."""
    if number % 50 == 0 or number == total:
        print(f"{number} of {total} {what}")
        for result, count in sorted(told.items()):
            print(f"  {count:5d} {result}", flush=True)


if __name__ == "__main__":
    main()
