"""Faults of rule files: each is found, named, and located."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from graded_eyes import KNOWLEDGE

from fovea.errors import KnowledgeError
from fovea.knowledge import load, rule_check
from fovea.knowledge.clauses import Facts
from fovea.knowledge.glossary import entry_of, uses_of
from fovea.knowledge.rule_check import check_rules, find_gap, misuses
from fovea.knowledge.rules import ScaleRules

REFERENCES = """\
smith2020:
  citation: "Smith A. A made-up article for this test. Journal 2020;1:1-2."
"""
ENTRY = """\
id: {id}
kind: {kind}
name: {{en: The {id}}}
text:
  clinician: A thing that is only here to be tested.
  lay: A thing, said in simple words for everybody.
  cite: [smith2020]
sources:
  - {{key: smith2020, claim: what it is}}
review: {{status: draft}}
"""
FACTS = """\
spot:
  name: spots
  known_from: photograph
  meaning: At least one spot of any kind.
  photo: Seen in the photograph.
spot.count:
  name: number of spots
  unit: "1"
  known_from: photograph
  quadrants: true
  meaning: Number of spots of any kind.
  photo: Counted in the photograph.
spot.distance:
  name: nearest spot
  unit: um
  graver: less
  known_from: photograph
  meaning: Distance of the nearest spot.
  photo: Measured in the photograph.
person.treated:
  name: treatment
  graver: neither
  known_from: history
  meaning: The person has been treated.
  photo: Told, never seen.
"""
RULES = """\
id: s_spots
name: scale of spots
cite: [smith2020]
image_limits: None that matter here.
applies:
  - {when: {not: {fact: person.treated}}, to: an untreated person}
grades:
  - grade: "0"
    name: no spots
    when: {not: {fact: spot}}
  - grade: "1"
    name: some spots
    entry: spot
    when: {fact: spot}
  - grade: "2"
    name: many spots
    when:
      any:
        - {where: {fact: spot.count, gt: 20}, at_least: 4}
        - {fact: spot.distance, le: 500}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rules").mkdir()
    files = {
        "references.yaml": REFERENCES,
        "spot.yaml": ENTRY.format(id="spot", kind="finding"),
        "s_spots.yaml": ENTRY.format(id="s_spots", kind="scale"),
        "rules/facts.yaml": FACTS,
        "rules/s_spots.yaml": RULES,
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def changed(folder: Path, old: str, new: str, name: str = "rules/s_spots.yaml") -> Path:
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1))
    return folder


def rules_of(text: str) -> ScaleRules:
    return ScaleRules.model_validate(yaml.safe_load(text))


# The shipped rules


def test_the_shipped_rules_are_sound():
    assert check_rules(KNOWLEDGE.rules, KNOWLEDGE.facts, KNOWLEDGE.entries) == []


@pytest.mark.parametrize("rules", KNOWLEDGE.rules.values(), ids=lambda rules: rules.id)
def test_every_fact_is_in_the_glossary_and_every_source_resolves(rules):
    for clause in rules.clauses():
        assert {use.atom.fact for use in uses_of(clause)} <= set(KNOWLEDGE.facts)
    assert all(len(KNOWLEDGE.citation(key)) > 20 for key in rules.cite)
    assert len(rules.image_limits.split()) >= 5


@pytest.mark.parametrize("fact", sorted(KNOWLEDGE.facts))
def test_a_fact_says_what_it_is_and_how_a_photograph_knows_it(fact):
    meaning = KNOWLEDGE.facts[fact]
    assert meaning.meaning.endswith(".")
    assert meaning.photo.endswith(".")
    assert meaning.name != meaning.meaning
    assert fact.startswith("person.") == (entry_of(fact) is None)
    if meaning.known_from != "photograph":
        assert any(
            word in meaning.photo for word in ("Not", "needs", "not", "Suspected", "shows one")
        )


# Loading


def test_a_good_folder_is_loaded_and_graded(folder):
    knowledge = load(folder)
    assert knowledge.check(()) == []
    found = knowledge.grade("s_spots", Facts.of({"spot.count": 3, "person.treated": False}))
    assert found.words().startswith("at least some spots; up to many spots is not excluded")
    assert [knowledge.told(step).text for step in found.because] == ["spots"]
    assert [knowledge.told(step).text for step in found.missing_up] == [
        "number of spots > 20 in at least 4 of 4 quadrants", "nearest spot <= 500",
    ]  # fmt: skip


def test_a_changed_rule_is_a_new_version(folder):
    before = load(folder).version
    assert load(changed(folder, "gt: 20", "gt: 30")).version != before


@pytest.mark.parametrize(
    ("old", "new", "where", "what"),
    [
        ("id: s_spots", "id: s_other", ":1", "not the file name"),
        ("id: s_spots", "id: spots", ":1", "`id`"),
        ("cite: [smith2020]", "cite: [jones]", ":3", "`jones` is not in `references.yaml`"),
        ("cite: [smith2020]", "cite: []", ":3", "`cite`"),
        ("image_limits: None that matter here.", "image_limits: none", ":4", "`image_limits`"),
        ("{not: {fact: person.treated}}", "{fact: person.tall}", ":6", "`person.tall` is not in"),
        ("grade: \"1\"", "grade: \"0\"", ":1", "same name"),
        ("when: {fact: spot}", "when: {fact: blot}", ":14", "`blot` is not in `rules/facts.yaml`"),
        ("when: {fact: spot}", "when: spot", ":14", "exactly one of"),
        ("when: {fact: spot}", "when: {fact: spot, sum: [a, b]}", ":14", "exactly one of"),
        ("when: {fact: spot}", "when: {fact: spot, gtt: 1}", ":14", "gtt"),
        ("    when: {fact: spot}\n", "", ":7", "only the mildest grade"),
        ("at_least: 4", "at_least: 9", ":19", "at_least"),
        ("gt: 20", "lt: 20", ":19", "lower limits only"),
        ("le: 500", "le: near", ":20", "le"),
        ("    name: many spots\n", "", ":15", "name"),
        ("grades:", "grades: []\nothers:", "", "grades"),
    ],
)  # fmt: skip
def test_a_fault_of_a_rule_names_file_line_and_field(folder, old, new, where, what):
    with pytest.raises(KnowledgeError) as caught:
        load(changed(folder, old, new))
    assert f"rules/s_spots.yaml{where}" in str(caught.value)
    assert what in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "where", "what"),
    [
        ("graver: less", "graver: worse", ":16", "`spot.distance.graver`"),
        ("known_from: history", "known_from: nowhere", ":23", "known_from"),
        ("spot.distance:", "Spot-distance:", ":13", "not a name"),
        ("  photo: Told, never seen.\n", "", ":20", "photo"),
    ],
)
def test_a_fault_of_the_glossary_names_file_line_and_field(folder, old, new, where, what):
    with pytest.raises(KnowledgeError) as caught:
        load(changed(folder, old, new, "rules/facts.yaml"))
    assert f"rules/facts.yaml{where}" in str(caught.value)
    assert what in str(caught.value)


def test_rules_of_one_id_in_two_folders_are_refused(folder):
    (folder / "rules" / "more").mkdir()
    (folder / "rules" / "more" / "s_spots.yaml").write_text(RULES)
    with pytest.raises(KnowledgeError, match="twice"):
        load(folder)


# Checking


@pytest.mark.parametrize(
    ("old", "new", "name", "said"),
    [
        ("entry: spot", "entry: ghost", "rules/s_spots.yaml",
         "rules/s_spots.yaml: grade `1` stands for `ghost`, which no file defines"),
        ("kind: scale", "kind: guideline", "s_spots.yaml",
         "rules/s_spots.yaml: no entry of kind `scale` is called `s_spots`"),
        ("when: {fact: spot}", "when: {fact: spot, gt: 1}", "rules/s_spots.yaml",
         "rules/s_spots.yaml: `spot` needs no limit"),
        ("{fact: spot.distance, le: 500}", "{fact: spot.distance}", "rules/s_spots.yaml",
         "rules/s_spots.yaml: `spot.distance` needs a limit"),
        ("{fact: spot.distance, le: 500}", "{where: {fact: spot}, at_least: 1}",
         "rules/s_spots.yaml", "rules/s_spots.yaml: `spot` is not known by quadrant"),
        ("{fact: spot.distance, le: 500}", "{fact: spot.distance, ge: 500}", "rules/s_spots.yaml",
         "rules/s_spots.yaml: less of `spot.distance` is graver, and could lower the grade"),
        ("{fact: spot.distance, le: 500}", "{not: {fact: spot}}", "rules/s_spots.yaml",
         "rules/s_spots.yaml: more of `spot` is graver, and could lower the grade"),
        ("{fact: spot.distance, le: 500}", "{fact: spot.count, lt: 9}", "rules/s_spots.yaml",
         "rules/s_spots.yaml: more of `spot.count` is graver, and could lower the grade"),
        ("not: {fact: person.treated}", "not: {fact: spot}", "rules/s_spots.yaml",
         "rules/s_spots.yaml: more of `spot` is graver, and could lower the grade"),
        ("{fact: spot.distance, le: 500}", "{fact: spot.count, gt: 90}", "rules/s_spots.yaml",
         "rules/facts.yaml: no rule asks for `spot.distance`"),
        ("spot.distance:", "blot.distance:", "rules/facts.yaml", None),
        ("when: {not: {fact: spot}}", "when: {fact: person.treated}", "rules/s_spots.yaml",
         "rules/s_spots.yaml: no grade when "),
    ],
)  # fmt: skip
def test_the_check_names_what_does_not_fit(folder, old, new, name, said):
    changed(folder, old, new, name)
    if said is None:
        changed(folder, "spot.distance", "blot.distance")
        said = "rules/facts.yaml: no entry is called `blot`"
    assert [gap for gap in load(folder).check(()) if gap.startswith(said)]


def test_the_check_compares_the_grade_that_an_entry_calls_its_own(folder):
    criteria = "criteria: {scale: s_spots, grade: '2', text: A made-up rule., cite: [smith2020]}\n"
    changed(folder, "sources:", f"{criteria}sources:", "spot.yaml")
    assert "rules/s_spots.yaml: grade `1` is called `2` by `spot`" in load(folder).check(())
    changed(folder, "grade: '2'", "grade: '1'", "spot.yaml")
    assert load(folder).check(()) == []


def test_a_source_that_only_rules_cite_is_used(folder):
    more = REFERENCES + REFERENCES.replace("smith2020", "jones2021")
    (folder / "references.yaml").write_text(more)
    assert load(folder).check(()) == ["references.yaml: `jones2021` is never cited"]
    changed(folder, "cite: [smith2020]", "cite: [jones2021]")
    assert load(folder).check(()) == []


def test_more_of_a_fact_that_is_no_lesion_may_lower_a_grade(folder):
    changed(
        folder, "when: {fact: spot}", "when: {all: [{fact: spot}, {not: {fact: person.treated}}]}"
    )
    problems = misuses(load(folder).rules["s_spots"], load(folder).facts)
    assert len(problems) == 1
    assert problems[0].startswith("no grade when")  # spots that were treated
    assert "`person.treated` is true" in problems[0]


# The search for gaps


GAPS = [
    ("{fact: drusen.size, ge: 125}", "{fact: drusen.size, lt: 63}", "`drusen.size` is 63"),
    ("{fact: drusen.size, gt: 63}", "{fact: drusen.size, lt: 63}", "`drusen.size` is 63"),
    ("{fact: drusen.size, ge: 63}", "{fact: drusen.size, lt: 63}", None),
    ("{fact: drusen.size, gt: 63}", "{fact: drusen.size, le: 63}", None),
    ("{where: {fact: ma}, at_least: 3}", "{not: {where: {fact: ma}, at_least: 2}}",
     "`ma` is true and false"),
    ("{where: {fact: ma}, at_least: 2}", "{not: {where: {fact: ma}, at_least: 2}}", None),
    ("{all: [{fact: a}, {fact: b}]}", "{not: {any: [{fact: a}, {fact: b}]}}",
     "`a` is false, `b` is true"),
    ("{sum: [a.x, b.x], each_at_most: 2, ge: 3}",
     "{not: {sum: [a.x, b.x], each_at_most: 2, ge: 3}}", None),
]  # fmt: skip


@pytest.mark.parametrize(("graver", "mildest", "gap"), GAPS)
def test_a_gap_between_grades_is_found_exactly(graver, mildest, gap):
    text = f"""
id: s_gap
name: scale with or without a gap
cite: [smith2020]
image_limits: None that matter here.
grades:
  - {{grade: "0", name: mild, when: {mildest}}}
  - {{grade: "1", name: grave, when: {graver}}}
"""
    found = find_gap(rules_of(text))
    assert found is None if gap is None else found.startswith(gap)


def test_too_many_combinations_are_said_to_be_too_many(monkeypatch):
    monkeypatch.setattr(rule_check, "MAX_NODES", 5)
    problems = misuses(KNOWLEDGE.rules["s_icdr"], KNOWLEDGE.facts)
    assert problems == ["too many combinations of facts to prove that each has a grade"]
