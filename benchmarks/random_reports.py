"""Compiles reports of made-up sessions and looks for what must never be in one.

python benchmarks/random_reports.py                 1,000 sessions
python benchmarks/random_reports.py --sessions 50 --seed 7
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import time

from random_evidence import Session, SessionMaker

from fovea.knowledge import Knowledge, load
from fovea.report.compile import compile_report
from fovea.report.model import Report

RANKS = {name: rank for rank, name in enumerate(("U5", "U4", "U4w", "U3", "U2", "U1", "U0"))}
SIDES = {"right": "OD", "OD": "OD", "left": "OS", "OS": "OS"}
"""Words that name an eye in a report."""


def compiled(session: Session, knowledge: Knowledge) -> Report:
    """The report of a session."""
    return compile_report(
        session.images, session.evidence, knowledge=knowledge, refused=session.refused,
        history=session.history,
    )  # fmt: skip


def problems(session: Session, report: Report) -> list[str]:
    """What is wrong with a report, one line each."""
    found = []
    pieces = {piece.id: piece for piece in session.evidence}
    if [section.number for section in report.sections] != list(range(1, 18)):
        found.append("not the 17 sections in their order")
    for section in report.sections:
        filled = bool(section.sentences or section.rows)
        if section.state == "filled" and not filled:
            found.append(f"section {section.key} is called filled and is empty")
        if section.state != "filled" and not section.reason:
            found.append(f"section {section.key} does not say why it is empty")
        for sentence in section.sentences:
            if not sentence.facts or not (sentence.evidence or sentence.knowledge):
                found.append(f"no evidence: {sentence.text}")
            if not set(sentence.evidence) <= set(pieces):
                found.append(f"invented evidence: {sentence.text}")
            true = {session.eyes[h] for i in sentence.evidence for h in pieces[i].images}
            said = {SIDES[word] for word in re.findall(r"\b(right|left|OD|OS)\b", sentence.text)}
            if sentence.evidence and not said <= true:
                found.append(f"swapped eye: {sentence.text}")
    rows = report.section("recommendation").rows
    order = [
        len(RANKS) if row.label.startswith("No advice: ") else RANKS[match[0]]
        for row in rows
        if (match := re.match(r"U\w+", row.value)) or row.label.startswith("No advice: ")
    ]
    if len(order) != len(rows) or order != sorted(order):
        found.append("urgent advice does not come first")
    withheld = [r.value for r in report.section("limitations").rows if "Withheld" in r.label]
    return found + [f"withheld: {reason}" for reason in withheld]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    knowledge = load()
    maker = SessionMaker(options.seed, knowledge)
    wrong: list[str] = []
    seconds: dict[int, list[float]] = {}
    sentences = 0
    for _ in range(options.sessions):
        session = maker.make()
        clock = time.process_time()
        report = compiled(session, knowledge)
        seconds.setdefault(len(session.images), []).append(time.process_time() - clock)
        sentences += sum(len(section.sentences) for section in report.sections)
        wrong += problems(session, report)
    print(f"{options.sessions} sessions, {sentences} sentences, {len(wrong)} problems")
    for count, times in sorted(seconds.items()):
        middle, slowest = 1000 * statistics.median(times), 1000 * max(times)
        print(f"{count} image(s): compile and check {middle:.0f} ms median, {slowest:.0f} ms worst")
    for line in wrong[:20]:
        print(f"- {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
