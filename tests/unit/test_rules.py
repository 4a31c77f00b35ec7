"""The rule engine: three-valued, bounded, monotone, and able to say why."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fovea.knowledge.clauses import QUADRANTS, All, Any, Atom, Bounds, Facts, Not, Quadrants, Sum
from fovea.knowledge.rules import Grading, NotGraded, ScaleRules, grade

HEAD = {"id": "s_test", "name": "test", "cite": ["none"], "image_limits": "no limits at all"}
ADULT = {"when": {"fact": "person.age", "ge": 18}, "to": "an adult", "otherwise": "a child"}


def scale(*grades, **more):
    return ScaleRules.model_validate({**HEAD, "grades": list(grades), **more})


RULES = ScaleRules.model_validate(
    {
        **HEAD,
        "grades": [
            {
                "grade": "0",
                "name": "nothing",
                "when": {"not": {"any": [{"fact": "ma"}, {"fact": "haem"}, {"fact": "vessels"}]}},
            },
            {"grade": "1", "name": "mild", "when": {"fact": "ma"}},
            {"grade": "2", "name": "moderate", "when": {"any": [{"fact": "haem"}]}},
            {
                "grade": "3",
                "name": "severe",
                "when": {
                    "any": [
                        {"where": {"fact": "haem", "gt": 20}, "at_least": 4},
                        {"where": {"fact": "beading"}, "at_least": 2},
                    ]
                },
            },
            {"grade": "4", "name": "proliferative", "when": {"fact": "vessels"}},
        ],
    }
)
CLEAR = {"ma": 0, "haem": 0, "beading": False, "vessels": False}


def graded(whole=None, quadrants=None):
    return grade(RULES, Facts.of(whole, quadrants))


def test_what_was_not_looked_at_is_not_absent():
    nothing = graded()
    assert not nothing.proved
    assert (nothing.lowest.grade, nothing.highest.grade) == ("0", "4")
    assert "nothing is proved" in nothing.words()


def test_absence_of_everything_is_the_lowest_grade_with_its_reasons():
    found = graded(CLEAR)
    assert found.exact
    assert found.words() == "nothing"
    assert [step.text for step in found.because] == ["no ma", "no haem", "no vessels"]
    assert [step.text for step in found.missing_up] == ["ma"]
    assert found.missing_down == ()


def test_a_grade_is_bounded_and_not_guessed_where_quadrants_are_outside_the_field():
    found = graded({**CLEAR, "haem": 25, "beading": None}, {"haem": {"superonasal": 25}})
    assert (found.lowest.grade, found.highest.grade) == ("2", "3")
    assert found.words().startswith("at least moderate; up to severe is not excluded")
    needed = {step.fact: step.reason for step in found.missing_up}
    assert "held in superonasal; not settled in superotemporal" in needed["haem"]


@pytest.mark.parametrize(("count", "grade_of"), [(20, "2"), (21, "3"), (19, "2")])
def test_the_limit_of_twenty_haemorrhages_in_each_of_four_quadrants(count, grade_of):
    found = graded({**CLEAR, "haem": 4 * count}, {"haem": dict.fromkeys(QUADRANTS, count)})
    assert found.exact
    assert found.lowest.grade == grade_of


def test_bounds_decide_only_what_holds_for_all_of_them():
    atom = Atom(fact="size", ge=63, lt=125)
    assert atom.holds(Bounds(70, 120)) is True
    assert atom.holds(Bounds(60, 120)) is None
    assert atom.holds(Bounds(10, 62)) is False
    assert atom.holds(63.0) is True
    assert atom.holds(125.0) is False
    assert atom.holds(None) is None
    assert str(atom) == "size >= 63 and < 125"
    with pytest.raises(ValueError, match="low <= high"):
        Bounds(2, 1)


def test_a_presence_leaves_the_number_open_and_an_absence_makes_it_nought():
    atom = Atom(fact="count", gt=20)
    assert atom.holds(True) is None
    assert atom.holds(False) is False
    assert Atom(fact="count").holds(True) is True


def test_one_quadrant_that_holds_is_enough_for_the_whole():
    facts = Facts.of(quadrants={"irma": {"superonasal": True}})
    assert Atom(fact="irma").judge(facts) is True
    absent = Facts.of(quadrants={"irma": dict.fromkeys(QUADRANTS, False)})
    assert Atom(fact="irma").judge(absent) is False
    partly = Facts.of(quadrants={"irma": {"superonasal": False}})
    assert Atom(fact="irma").judge(partly) is None


def test_what_is_absent_everywhere_is_absent_in_each_quadrant():
    clause = Quadrants(where=Atom(fact="beading"), at_least=2)
    assert clause.judge(Facts.of({"beading": False})) is False
    assert clause.judge(Facts.of({"beading": True})) is None  # somewhere, but where?


def test_evidence_and_reasons_are_passed_on():
    facts = Facts.of(
        {**CLEAR, "ma": 3, "haem": None},
        evidence={"ma": ("E4",)},
        reasons={"haem": "the picture is grey"},
    )
    found = grade(RULES, facts)
    assert found.because[0].evidence == ("E4",)
    assert found.missing_up[0].reason == "the picture is grey"
    assert found.missing_down == found.because


def test_a_scale_with_a_gap_is_an_error():
    gap = scale(*({"grade": g, "name": f"grade {g}", "when": {"fact": g}} for g in ("a", "b")))
    with pytest.raises(ValueError, match="has a gap"):
        grade(gap, Facts.of({"a": False, "b": False}))


@pytest.mark.parametrize(
    "bad",
    [
        {"fact": "ma", "any": [{"fact": "ma"}]},
        {"fakt": "ma"},
        {"fact": "Not a name"},
        {"all": []},
        {"where": {"fact": "ma"}, "at_least": 5},
        {"where": {"fact": "size", "lt": 5}, "at_least": 1},
        {"where": {"fact": "size", "le": 5}, "at_least": 1},
        {"sum": ["one"], "each_at_most": 2, "ge": 1},
        {"sum": ["one", "two"], "each_at_most": 0, "ge": 1},
        {"at_least": 2},
        "ma",
        ["ma"],
        None,
    ],
)
def test_a_malformed_clause_is_refused(bad):
    rules = [{"grade": g, "name": "some grade", "when": bad} for g in ("0", "1")]
    with pytest.raises(ValidationError):
        scale(*rules)


def test_two_grades_of_one_name_are_refused():
    rules = [{"grade": "0", "name": "some grade", "when": {"fact": "ma"}}] * 2
    with pytest.raises(ValidationError, match="same name"):
        scale(*rules)


def test_only_the_mildest_grade_may_be_what_is_left():
    mildest, mild = {"grade": "0", "name": "none"}, {"grade": "1", "name": "mild"}
    left = scale(mildest, {**mild, "when": {"fact": "ma"}})
    assert grade(left, Facts.of({"ma": False})).lowest.grade == "0"
    assert grade(left, Facts.of({"ma": True})).lowest.grade == "1"
    with pytest.raises(ValidationError, match="only the mildest grade"):
        scale({**mildest, "when": {"fact": "ma"}}, mild)


@pytest.mark.parametrize("grades", ["nothing", ["0", "1"], [{"grade": "0", "name": "none"}], []])
def test_malformed_grades_are_refused(grades):
    with pytest.raises(ValidationError):
        ScaleRules.model_validate({**HEAD, "grades": grades})


# What one fact says about another


def test_what_is_said_of_an_absent_finding_does_not_hold():
    gone = Facts.of({"drusen": False})
    assert Atom(fact="drusen.largest", ge=63).judge(gone) is False
    assert Atom(fact="drusen.nearest", le=500).judge(gone) is False  # and not: 0 is near
    assert Atom(fact="drusen.largest", ge=63).judge(Facts.of()) is None
    assert Atom(fact="drusen.largest", ge=63).judge(Facts.of({"drusen": True})) is None
    assert Quadrants(where=Atom(fact="drusen.many"), at_least=1).judge(gone) is False


def test_what_is_known_of_a_finding_outweighs_its_absence():
    """Contradictory evidence is shown, not settled in favour of the milder reading."""
    facts = Facts.of({"drusen": False, "drusen.largest": 130})
    assert Atom(fact="drusen.largest", ge=125).judge(facts) is True


def test_a_finding_absent_from_one_quadrant_lacks_its_features_there():
    facts = Facts.of(quadrants={"irma": {"superonasal": False}, "irma.bad": {"inferonasal": True}})
    assert facts.lacks("irma.bad", "superonasal")
    assert not facts.lacks("irma.bad", "inferonasal")
    assert not facts.lacks("irma")
    assert Quadrants(where=Atom(fact="irma.bad"), at_least=4).judge(facts) is False
    assert Quadrants(where=Atom(fact="irma.bad"), at_least=3).judge(facts) is None
    assert Quadrants(where=Atom(fact="irma.bad"), at_least=1).judge(facts) is True


def test_the_whole_has_at_least_its_richest_quadrant_and_at_most_their_sum():
    some = Facts.of(quadrants={"haem.count": {"superonasal": 12, "inferonasal": Bounds(3, 9)}})
    assert some.value("haem.count") == Bounds(12, float("inf"))
    every = Facts.of(quadrants={"haem.count": dict.fromkeys(QUADRANTS, 5)})
    assert every.value("haem.count") == Bounds(5, 20)
    assert Atom(fact="haem.count", gt=20).judge(every) is False
    assert Atom(fact="haem.count", gt=10).judge(every) is None
    assert Facts.of(quadrants={"haem.count": {"superonasal": None}}).value("haem.count") is None


def test_no_quadrant_exceeds_what_the_whole_does_not():
    clause = Quadrants(where=Atom(fact="haem.count", gt=20), at_least=1)
    assert clause.judge(Facts.of({"haem.count": 20})) is False
    assert clause.judge(Facts.of({"haem.count": 21})) is None
    partly = Facts.of({"haem.count": 20}, {"haem.count": {"superonasal": 20}})
    assert clause.judge(partly) is False


# Sums


SCORE = Sum(sum=("a", "b", "c"), each_at_most=2, ge=3)


@pytest.mark.parametrize(
    ("scores", "truth"),
    [
        ({"a": 2, "b": 1}, True), ({"a": 2, "b": 0, "c": 0}, False), ({"a": 2, "b": 0}, None),
        ({}, None), ({"a": 0, "b": 0}, False), ({"a": 9, "b": 0, "c": 0}, False),
        ({"a": Bounds(1, 2), "b": 1, "c": 1}, True), ({"a": Bounds(0, 1), "b": 1, "c": 1}, None),
    ],
)  # fmt: skip
def test_a_sum_takes_the_unknown_as_anything_allowed(scores, truth):
    assert SCORE.judge(Facts.of(scores)) is truth


def test_a_sum_says_how_far_it_is_settled():
    facts = Facts.of({"a": 2, "b": 0}, evidence={"a": ("E1",), "b": ("E1", "E2")})
    (step,) = SCORE.steps(facts)
    assert step.text == "a + b + c >= 3"
    assert step.reason == "2 to 4; not assessed: c"
    assert step.evidence == ("E1", "E2")
    (wide,) = SCORE.steps(Facts.of({"a": Bounds(0, 1), "b": 1, "c": 1}))
    assert wide.reason == "2 to 3; not assessed: none"
    (no,) = SCORE.steps(Facts.of({"a": 2, "b": 1}), sought=False)
    assert (no.text, no.truth, no.reason) == ("a + b + c < 3", False, "")


# The trace


def texts(steps):
    return [step.text for step in steps]


def test_a_part_that_fails_earns_nothing_and_one_that_holds_lacks_nothing():
    a, b, c = (Atom(fact=name) for name in "abc")
    clause = Any(any=(All(all=(a, b)), c))
    facts = Facts.of({"a": True, "b": False, "c": True})
    assert texts(clause.steps(facts)) == ["c"]  # a holds too, but not together with b
    both = All(all=(Any(any=(a, b)), c))
    assert texts(both.steps(Facts.of({"a": True, "c": False}))) == ["c"]
    assert texts(both.steps(Facts.of({"c": True}))) == ["a", "b"]
    assert texts(both.steps(Facts.of({"c": False}), sought=False)) == ["no c"]
    against = both.steps(Facts.of({"a": True, "c": True}), sought=False)
    assert texts(against) == ["no a", "no b", "no c"]  # b is unknown, so it may hold


def test_clauses_may_be_built_from_clauses():
    clause = All(all=(Not(part=Atom(fact="a")), Quadrants(where=Atom(fact="b"), at_least=4), SCORE))
    known = Facts.of({"a": False, "b": True}, {"b": dict.fromkeys(QUADRANTS, True)})
    assert clause.judge(known) is None
    assert texts(clause.steps(known)) == ["a + b + c >= 3"]


def test_the_opposite_of_one_limit_is_a_limit():
    for atom, said in (
        (Atom(fact="a", gt=1), "a <= 1"), (Atom(fact="a", ge=1), "a < 1"),
        (Atom(fact="a", lt=1), "a >= 1"), (Atom(fact="a", le=1), "a > 1"),
        (Atom(fact="a"), "no a"), (Atom(fact="a", gt=1, lt=9), "no a > 1 and < 9"),
    ):  # fmt: skip
        (step,) = atom.steps(Facts.of({"a": 0.5}), sought=False)
        assert (step.text, step.asked) == (said, str(atom))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "not assessed"), (True, "known to be present only"),
        (Bounds(3, 90), "between 3 and 90"), (Bounds(3, float("inf")), "at least 3"),
    ],
)  # fmt: skip
def test_a_number_that_is_not_settled_says_how_far_it_is_known(value, reason):
    (step,) = Atom(fact="count", gt=20).steps(Facts.of({"count": value}))
    assert (step.truth, step.reason) == (None, reason)


def test_a_reason_that_was_given_stands():
    (step,) = Atom(fact="size", ge=63).steps(
        Facts.of({"size": Bounds(50, 70)}, reasons={"size": "blurred"})
    )
    assert step.reason == "blurred"


# Whom a scale is for


AGED = scale(
    {"grade": "0", "name": "none"},
    {"grade": "1", "name": "early", "when": {"fact": "drusen"}},
    applies=[ADULT, {"when": {"fact": "seen"}, "to": "a clear picture"}],
)


def test_a_scale_that_is_not_for_this_eye_gives_no_grade():
    found = grade(AGED, Facts.of({"drusen": True, "person.age": 17, "seen": True}))
    assert isinstance(found, NotGraded)
    assert found.words() == "a child: the scale is for an adult"
    assert [(step.text, step.truth) for step in found.because] == [("person.age < 18", True)]
    blurred = grade(AGED, Facts.of({"drusen": True, "person.age": 18, "seen": False}))
    assert blurred.words() == "not graded: the scale is for a clear picture"


def test_where_it_is_not_known_whether_a_scale_applies_the_grade_says_so():
    found = grade(AGED, Facts.of({"drusen": True}))
    assert isinstance(found, Grading)
    assert (found.proved, found.exact) == (True, False)
    assert found.words() == (
        "early; the scale is for an adult and a clear picture, which is not known here"
    )
    assert texts(found.provided) == ["person.age >= 18", "seen"]
    known = grade(AGED, Facts.of({"drusen": True, "person.age": 18, "seen": True}))
    assert (known.exact, known.words(), known.provided) == (True, "early", ())


def test_nothing_is_proved_when_only_one_grade_is_possible_but_not_certain():
    one = scale(
        {"grade": "0", "name": "none", "when": {"fact": "a"}},
        {"grade": "1", "name": "some", "when": {"fact": "b"}},
    )
    found = grade(one, Facts.of({"b": False}))
    assert found.words() == "not graded: none is not excluded"
    assert found.because == ()
    assert texts(found.unsettled) == ["a"]


def test_what_is_unsettled_is_what_is_unknown_of_the_grades_that_are_open():
    found = graded({**CLEAR, "haem": 25, "beading": None})
    assert texts(found.unsettled) == ["haem > 20 in at least 4 of 4 quadrants",
                                      "beading in at least 2 of 4 quadrants"]  # fmt: skip


values = st.one_of(st.none(), st.integers(0, 40).map(float))
presences = st.one_of(st.none(), st.booleans())
eyes = st.fixed_dictionaries(
    {
        "ma": values,
        "vessels": presences,
        "haem": st.fixed_dictionaries(dict.fromkeys(QUADRANTS, values)),
        "beading": st.fixed_dictionaries(dict.fromkeys(QUADRANTS, presences)),
    }
)


def judged(eye):
    quadrants = {name: eye[name] for name in ("haem", "beading")}
    found = graded({"ma": eye["ma"], "vessels": eye["vessels"]}, quadrants)
    order = [rule.grade for rule in RULES.grades]
    return order.index(found.lowest.grade), order.index(found.highest.grade), found.proved


@settings(max_examples=150, deadline=None)
@given(eyes)
def test_bounds_are_in_order_and_total(eye):
    low, high, _ = judged(eye)
    assert 0 <= low <= high <= 4


@settings(max_examples=150, deadline=None)
@given(eyes, st.sampled_from(QUADRANTS), st.integers(0, 30))
def test_one_more_lesion_never_lowers_a_proved_grade(eye, where, more):
    before, _, proved = judged(eye)
    worse = {**eye, "haem": {**eye["haem"], where: (eye["haem"][where] or 0.0) + more}}
    if eye["haem"][where] is None or not proved:
        return
    assert judged(worse)[0] >= before


@settings(max_examples=150, deadline=None)
@given(eyes)
def test_learning_more_only_narrows_the_bounds(eye):
    low, high, proved = judged(eye)
    known = {**eye, "ma": 0.0 if eye["ma"] is None else eye["ma"]}
    known["vessels"] = bool(eye["vessels"])
    for name, absent in (("haem", 0.0), ("beading", False)):
        known[name] = {q: absent if v is None else v for q, v in eye[name].items()}
    settled_low, settled_high, settled = judged(known)
    assert settled
    assert settled_low == settled_high
    assert settled_high <= high
    assert settled_low >= low or not proved


def test_every_combination_of_presence_has_a_grade():
    for ma, haem, beading, vessels in itertools.product((True, False, None), repeat=4):
        found = graded({"ma": ma, "haem": haem, "beading": beading, "vessels": vessels})
        assert int(found.lowest.grade) <= int(found.highest.grade)
