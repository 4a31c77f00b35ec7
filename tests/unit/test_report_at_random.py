"""Reports of made-up sessions are sound, and planted errors are caught.

The full runs are `python benchmarks/random_reports.py` and `python benchmarks/planted_errors.py`.
"""

from __future__ import annotations

import planted_errors
import pytest
import report_evidence as made
from random_evidence import SessionMaker
from random_reports import compiled, problems

from fovea.contract import Finding
from fovea.knowledge import load
from fovea.report.compile import compile_report

KNOWLEDGE = load()


def test_reports_of_random_sessions_are_sound():
    maker = SessionMaker(11, KNOWLEDGE)
    found, kinds = [], set()
    for _ in range(20):
        session = maker.make()
        report = compiled(session, KNOWLEDGE)
        found += problems(session, report)
        kinds |= {s.facts[0].kind for part in report.sections for s in part.sentences}
    assert found == []
    assert {"measurement", "finding", "grade", "statement", "case", "comparison"} - kinds <= {
        "comparison"
    }


def test_the_search_for_problems_finds_them():
    maker = SessionMaker(12, KNOWLEDGE)
    session = next(s for s in iter(maker.make, None) if len(s.images) == 1 and len(s.evidence) > 4)
    swapped = {handle: "OS" if eye == "OD" else "OD" for handle, eye in session.eyes.items()}
    report = compiled(session, KNOWLEDGE)
    wrong = type(session)(
        swapped, session.images, session.evidence, session.history, session.refused
    )
    assert any("swapped eye" in line for line in problems(wrong, report))
    bare = report.model_copy(
        update={"sections": tuple(s.model_copy(update={"sentences": (), "rows": ()})
                                  for s in report.sections)}
    )  # fmt: skip
    assert any("is empty" in line for line in problems(session, bare))


def test_planted_errors_are_caught_and_true_sentences_kept():
    result = planted_errors.score(57, seed=5)
    assert set(result.planted) == set(planted_errors.KINDS)
    assert result.planted.total() >= 57
    assert result.missed == []
    assert result.correct > 100
    assert result.false == []


@pytest.mark.parametrize("state", ["present", "not_assessable"])
def test_no_name_of_the_knowledge_base_raises_an_alarm(state):
    """Such as `type 2` or `treated`, which are neither a count nor advice in a name."""
    entries = [e.id for e in KNOWLEDGE.entries.values() if e.kind in ("condition", "finding")]
    piece = made.evidence(
        2, "third_party",
        findings=tuple(Finding(concept=name, state=state) for name in entries),
    )  # fmt: skip
    report = compile_report((made.record(),), (made.quality(), piece), knowledge=KNOWLEDGE)
    rows = report.section("limitations").rows
    assert [row.value for row in rows if "Withheld" in row.label] == []
    told = [s for part in report.sections for s in part.sentences if s.facts[0].kind == "finding"]
    assert set(entries) - {s.facts[0].name for s in told} == set()
