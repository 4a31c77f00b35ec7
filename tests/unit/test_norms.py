"""One's own cohort: what is read, which percentiles are made, and what is said with them."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from report_evidence import evidence, quality
from typer.testing import CliRunner

from fovea.cli import app
from fovea.contract import CohortPlace, Measurement, Result
from fovea.errors import KnowledgeError
from fovea.knowledge import load
from fovea.knowledge.cohort import COLUMNS, Row, build, read_table, table_of
from fovea.knowledge.loading import read_norms
from fovea.knowledge.norms import RANKS, plain_method, rank_of, wilson
from fovea.report.check import check_text
from fovea.report.compile import compile_report

MADE_BY = "measure_biomarkers 0.2.0 from segment_vessels 0.3.0"
METHOD = "vessel area over field area; 12 segments; field without the disc"
HEADER = "image,name,value,unit,method,made_by,age,sex\n"


def rows(count=200, **fields):
    made = {
        "name": "vessel_density", "zone": None, "unit": "1", "method": METHOD,
        "made_by": MADE_BY, "person": None, "age": None, "sex": None, **fields,
    }  # fmt: skip
    return [Row(image=f"p{n}", value=(n + 1) / 1000, **made) for n in range(count)]


def norms_of(cohort, **how):
    return build(cohort, cohort="City clinic 2026", built="2026-11-23", **how)[0]


def density(value, method=METHOD, **fields):
    return Measurement(name="vessel_density", value=value, unit="1", method=method, **fields)


def test_percentiles_are_those_of_rank_p_times_n_plus_one():
    norms = norms_of(rows(199))  # rank p (n + 1) of 1, 2 ... 199 is 2 p
    assert norms.norms[0].strata[0].percentiles == tuple(rank * 2 / 1000 for rank in RANKS)
    assert norms.norms[0].strata[0].n == 199
    assert norms.counted == "photographs"


def test_a_value_is_placed_with_its_interval_cohort_and_number():
    place = norms_of(rows(199)).place(density(0.068), MADE_BY)
    assert place.percentile == 34
    assert place.words == (
        "at the 34th percentile (95 % interval 28 to 41) of the cohort City clinic 2026 "
        "(n = 199 photographs)"
    )


@pytest.mark.parametrize(
    ("value", "words"), [(0.001, "below the 2.5th"), (0.9, "above the 97.5th")]
)
def test_beyond_the_last_percentile_no_rank_is_made_up(value, words):
    place = norms_of(rows()).place(density(value), MADE_BY)
    assert place.words.startswith(f"{words} percentile of the cohort")
    assert place.low is None


def test_how_many_segments_a_value_rests_on_is_no_other_method():
    other = METHOD.replace("12 segments", "9 segments")
    assert plain_method(METHOD) == plain_method(other) != plain_method("vessel area")
    assert norms_of(rows()).place(density(0.05, other), MADE_BY) is not None


@pytest.mark.parametrize(
    ("m", "by"),
    [
        (density(0.05, "share of pixels by another tool"), MADE_BY),
        (density(0.05), MADE_BY.replace("0.2.0", "0.3.0")),
        (density(0.05), MADE_BY.replace("segment_vessels 0.3.0", "segment_vessels 0.4.0")),
        (density(0.05, zone="zone_b"), MADE_BY),
        (density(0.05).model_copy(update={"unit": "%"}), MADE_BY),
        (density(0.05).model_copy(update={"name": "tortuosity"}), MADE_BY),
    ],
)
def test_nothing_is_compared_across_methods_versions_zones_or_units(m, by):
    assert norms_of(rows()).place(m, by) is None


def test_methods_are_kept_apart_when_percentiles_are_made():
    cohort = rows(60) + [
        Row(**{**row.__dict__, "image": f"q{row.image}", "made_by": "other 1", "value": 5.0})
        for row in rows(60)
    ]
    norms = norms_of(cohort)
    assert [norm.strata[0].n for norm in norms.norms] == [60, 60]
    assert norms.place(density(0.03), MADE_BY).percentile == pytest.approx(49, abs=1)


def test_age_and_sex_are_used_only_where_they_are_known():
    cohort = [*rows(80, age=52.0, sex="F"), *rows(50, age=31.0, sex="M", name="vessel_density")]
    cohort = [Row(**{**row.__dict__, "image": f"{n}"}) for n, row in enumerate(cohort)]
    norms = norms_of(cohort)
    said = {(s.said, s.n) for s in norms.norms[0].strata}
    assert ("women of 50 to 59 years", 80) in said
    assert ("men", 50) in said
    assert norms.place(density(0.04), MADE_BY).n == 130
    own = norms.place(density(0.04), MADE_BY, age_years=50, sex="F")
    assert (own.n, own.cohort) == (80, "City clinic 2026, women of 50 to 59 years")
    assert norms.place(density(0.04), MADE_BY, age_years=70, sex="F").n == 80  # women of any age
    assert norms.place(density(0.04), MADE_BY, age_years=70).n == 130


def test_two_eyes_of_one_person_count_once():
    both = [
        Row(**{**row.__dict__, "image": f"{row.image}{eye}", "person": row.image})
        for row in rows(50)
        for eye in ("OD", "OS")
    ]
    norms = norms_of(both)
    assert (norms.norms[0].strata[0].n, norms.counted) == (50, "people")


def test_too_few_values_give_no_percentiles():
    norms, few = build(
        [*rows(40), *rows(39, name="tortuosity")], cohort="City clinic", built="2026-11-23"
    )
    assert [norm.output for norm in norms.norms] == ["vessel_density"]
    assert [(item.name, item.n) for item in few] == [("tortuosity", 39)]
    with pytest.raises(KnowledgeError, match="No measurement has 41 values"):
        norms_of(rows(40), least_n=41)


@settings(derandomize=True, max_examples=25, deadline=None)
@given(st.lists(st.floats(0.0, 1.0).map(lambda v: round(v, 2)), min_size=40, max_size=90))
def test_the_rank_rises_with_the_value_and_is_that_of_the_cohort(values):
    cohort = [
        Row(**{**row.__dict__, "value": v})
        for row, v in zip(rows(len(values)), values, strict=True)
    ]
    kept = norms_of(cohort).norms[0].strata[0].percentiles
    ranks = [(v, rank_of(v, kept)) for v in sorted(set(values))]
    known = [(v, rank) for v, rank in ranks if rank is not None]
    assert [rank for _, rank in known] == sorted(rank for _, rank in known)
    for value, rank in known:
        below, upto = np.mean(np.array(values) < value), np.mean(np.array(values) <= value)
        # Between two kept ranks, ten apart, the rank is interpolated.
        assert 100 * below - 12 <= rank <= 100 * upto + 12


def test_the_interval_is_wilsons():
    assert wilson(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)  # Wilson 1927, n = 100
    assert wilson(0.0, 50)[0] == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("image,name,value\n", "1:4", "`unit` is missing"),
        (HEADER.replace(",age", ",years"), "1:7", "no column `years`"),
        (HEADER.replace(",age", ",unit"), "1:7", "`unit` is there twice"),
        (HEADER + "p1,vessel_density,,1,share,v,,\n", "2:3", "it is empty"),
        (HEADER + "p1,vessel_density,nan,1,share,v,,\n", "2:3", "'nan' is not a number"),
        (HEADER + "p1,vessel_density,0.1,1,share,v,,\np2,vessel_density,1e,1,share,v,,\n", "3:3",
         "'1e' is not a number"),
        (HEADER + "p1,vessel_density,0.1,1,share,v,140,\n", "2:7", "140 is not an age"),
        (HEADER + "p1,vessel_density,0.1,1,share,v,40,x\n", "2:8", "'x' is not F or M"),
        (HEADER + "p1,vessel_density,0.1\n", "2:4", "3 cells, the header 8"),
        (HEADER + 2 * "p1,vessel_density,0.1,1,share,v,,\n", "3:2", "is on line 2 already"),
        (HEADER + '"p1,vessel_density', "2:1", "malformed"),
        (HEADER, "2:1", "no rows"),
        ("", "1:1", "`image` is missing"),
    ],
)  # fmt: skip
def test_a_bad_table_says_line_and_column(tmp_path, text, where, what):
    path = tmp_path / "cohort.csv"
    path.write_text(text)
    with pytest.raises(KnowledgeError) as error:
        read_table(path)
    assert error.value.where == f"cohort.csv:{where}"
    assert what in str(error.value)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "cohort.csv").write_bytes(b"\xff\xfe\x00i")
    with pytest.raises(KnowledgeError, match="not UTF-8"):
        read_table(tmp_path / "cohort.csv")


@pytest.fixture
def results(tmp_path):
    """What `fovea analyse` writes for 45 photographs, as far as it is read."""
    for n in range(45):
        folder = tmp_path / "results" / f"p{n}"
        folder.mkdir(parents=True)
        piece = evidence(4, "measure_biomarkers", measurements=(density(0.1 + n / 1000),))
        content = piece.model_copy(
            update={"provenance": piece.provenance.model_copy(
                update={"plugin_version": "0.2.0", "inputs": {"segment_vessels": "0.3.0"}})}
        ).as_json()  # fmt: skip
        (folder / "result.json").write_text(json.dumps({"evidence": {"E4": content}}))
    return tmp_path / "results"


def test_from_results_to_norms_by_commands(results, tmp_path, monkeypatch):
    monkeypatch.setenv("FOVEA_DATA_DIR", str(tmp_path / "home"))
    monkeypatch.delenv("FOVEA_NORMS", raising=False)
    people = tmp_path / "people.csv"
    people.write_text("image,age,sex\n" + "".join(f"p{n},55,F\n" for n in range(45)))
    cohort = tmp_path / "cohort.csv"
    run = CliRunner()
    command = ["norms", "table", str(results), "--out", str(cohort), "--people", str(people)]
    assert run.invoke(app, command).exit_code == 0
    with cohort.open() as file:
        table = list(csv.DictReader(file))
    assert tuple(table[0]) == COLUMNS
    assert (table[0]["made_by"], table[0]["age"]) == (MADE_BY, "55")
    assert run.invoke(app, ["norms", "show"]).output.startswith("No cohort is in use")
    built = run.invoke(app, ["norms", "build", str(cohort), "--name", "City clinic", "--json"])
    assert json.loads(built.stdout)["measurements"] == 1
    shown = run.invoke(app, ["norms", "show"]).output
    assert "vessel_density\t1\twomen of 50 to 59 years\t45" in shown
    found = load(norms=tmp_path / "home" / "norms.yaml").with_cohort(
        Result(summary="Measured.", measurements=(density(0.122),)), MADE_BY
    )
    assert found.measurements[0].cohort.n == 45


def test_people_of_no_result_are_refused(results, tmp_path):
    people = tmp_path / "people.csv"
    people.write_text("image,age\np1,40\np77,41\n")
    with pytest.raises(KnowledgeError, match=r"people\.csv:3:1: .*no result of `p77`"):
        list(table_of(results, people))


def test_a_damaged_result_is_named(results):
    (results / "p3" / "result.json").write_text("{")
    with pytest.raises(KnowledgeError, match=r"p3/result\.json"):
        list(table_of(results))


@pytest.mark.parametrize("command", [["--name", "x"], ["--name", "City", "--least", "5"]])
def test_a_name_or_number_that_will_not_do_is_a_usage_error(tmp_path, command):
    ran = CliRunner().invoke(app, ["norms", "build", str(tmp_path / "c.csv"), *command])
    assert ran.exit_code == 2


def test_a_norms_file_that_was_edited_badly_says_the_line(tmp_path):
    path = tmp_path / "norms.yaml"
    content = norms_of(rows()).model_dump(mode="json", exclude_none=True)
    content["norms"][0]["strata"][0]["n"] = 3
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(KnowledgeError, match=r"norms.yaml:\d+: `norms.0.strata.0.n`"):
        read_norms(path)


def test_the_file_says_the_same_when_it_is_read_again(tmp_path):
    norms = norms_of(rows(60, age=40.0, sex="M"))
    path = tmp_path / "norms.yaml"
    path.write_text(yaml.safe_dump(norms.model_dump(mode="json", exclude_none=True)))
    assert read_norms(path) == norms


def test_what_a_plugin_claims_about_a_cohort_is_taken_off():
    claimed = CohortPlace(percentile=99, cohort="Mine", n=9, counted="people")
    result = Result(summary="Measured.", measurements=(density(0.1, cohort=claimed),))
    assert load().with_cohort(result, MADE_BY).measurements[0].cohort is None


# Reports and answers


def placed(value=0.068, **fields):
    m = density(value, eye="OD", **fields)
    norms = norms_of(rows(199))
    m = m.model_copy(update={"cohort": norms.place(m, MADE_BY)})
    assert m.cohort is not None
    return [quality(), evidence(4, "measure_biomarkers", measurements=(m,))]


def test_the_report_states_percentile_cohort_and_number():
    report = compile_report((), placed(), knowledge=load())
    texts = [sentence.text for sentence in report.section("biomarkers").sentences]
    assert (
        "The vessel density of the right eye (OD) is at the 34th percentile (95 % interval 28 to "
        "41) of the cohort City clinic 2026 (n = 199 photographs) [E4][K:b_density]."
    ) in texts


GOOD = placed()[1].result.measurements[0].cohort.words


@pytest.mark.parametrize(
    ("sentence", "stands"),
    [
        (f"The vessel density is 0.068, {GOOD} [E4].", True),
        (f"The vessel density of the right eye is {GOOD} [E4].", True),
        (f"The vessel density of the left eye is {GOOD} [E4].", False),
        (f"The fractal dimension is {GOOD} [E4].", False),
        (f"The vessel density in zone B is {GOOD} [E4].", False),
        (f"The vessel density is {GOOD.replace('34', '35')} [E4].", False),
        (f"The vessel density is {GOOD.replace('199', '1990')} [E4].", False),
        (f"The vessel density is {GOOD} [E1].", False),
        (f"The vessel density is normal, {GOOD} [E4].", False),
        ("The vessel density is at the 34th percentile [E4].", False),
        (f"The vessel density is {GOOD}.", False),
    ],
)
def test_a_sentence_about_the_cohort_stands_only_word_for_word(sentence, stands):
    checked = check_text(sentence, placed(), load())
    assert (checked.kept == sentence) is stands, checked.struck
