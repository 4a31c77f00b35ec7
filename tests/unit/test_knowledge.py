"""The knowledge base: every entry valid and sourced, every spelling found, every fault named."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fovea.errors import KnowledgeError
from fovea.knowledge import load
from fovea.knowledge.loading import MAX_FILE_BYTES
from fovea.knowledge.search import tokens

KNOWLEDGE = load()
ENTRIES = sorted(KNOWLEDGE.entries.values(), key=lambda entry: entry.id)
BMES = "stereoscopic disc photographs measured by graders, Blue Mountains Eye Study"
SHARED = Path(__file__).resolve().parents[2].parent / "shared"

REFERENCES = """\
smith2020:
  citation: "Smith A. A made-up article for this test. Journal 2020;1:1-2."
"""
ENTRY = """\
id: thing
kind: finding
name: {en: Thing}
text:
  clinician: A thing that is only here to be tested.
  lay: A thing, said in simple words for everybody.
  cite: [smith2020]
sources:
  - {key: smith2020, claim: what it is}
review: {status: draft}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "references.yaml").write_text(REFERENCES)
    (tmp_path / "findings").mkdir()
    (tmp_path / "findings" / "thing.yaml").write_text(ENTRY)
    return tmp_path


def write(folder: Path, text: str, name: str = "findings/thing.yaml") -> None:
    (folder / name).write_text(text)


def message(folder: Path) -> str:
    with pytest.raises(KnowledgeError) as caught:
        load(folder)
    return str(caught.value)


# The shipped entries


def test_first_version_covers_what_is_asked():
    needed = """
        b_vcdr b_fd b_tort b_density b_avr b_crae b_disc_size optic_disc cup_rim macula fovea
        vessels quality laterality glaucoma_suspect glaucoma dr_none dr_npdr_mild
        dr_npdr_moderate dr_npdr_severe dr_pdr dme ma haem_deep hard_exudate cws drusen
        amd_intermediate s_icdr htn_mild
    """.split()  # noqa: SIM905 - a list of ids reads better as words
    assert set(needed) <= set(KNOWLEDGE.entries)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_entry_says_something_with_a_source(entry):
    names = {" ".join(tokens(name)) for name in entry.names()}
    for descriptor in entry.descriptors:
        assert " ".join(tokens(descriptor.text)) not in names
    for text in (entry.text.clinician, entry.text.lay):
        assert " ".join(tokens(text)) not in names
        assert len(text.split()) >= 6
    assert entry.text.clinician != entry.text.lay
    for passage in KNOWLEDGE.passages(entry.id):
        assert passage.sources
        assert all(len(source.citation) > 20 for source in passage.sources)
    assert entry.review.status == "draft"  # until a clinician has reviewed it


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_every_name_finds_its_entry(entry):
    for name in (entry.id, entry.name.en, *entry.synonyms.en):
        found = [hit.entry_id for hit in KNOWLEDGE.search(name, 3)]
        assert entry.id in found, name


def test_no_name_belongs_to_two_entries():
    owners: dict[tuple[str, ...], str] = {}
    for entry in ENTRIES:
        for name in (entry.name.en, *entry.synonyms.en):
            key = tokens(name)
            assert owners.setdefault(key, entry.id) == entry.id, name


def test_every_reference_is_used_and_outputs_belong_to_one_entry():
    outputs = {name for entry in ENTRIES for name in entry.outputs}
    assert KNOWLEDGE.check(outputs) == []


def test_ids_are_those_of_the_agreed_list():
    agreed = SHARED / "reference" / "kb_entries.json"
    if not agreed.is_file():
        pytest.skip("the agreed entry list is not beside this checkout")
    import json

    rows = {row["id"]: row for row in json.loads(agreed.read_text())}
    assert set(rows) <= set(KNOWLEDGE.entries)
    kinds = {"C": "condition", "F": "finding", "Q": "quality", "A": "anatomy", "B": "biomarker"}
    for entry in (entry for entry in ENTRIES if entry.id in rows):
        expected = kinds.get(rows[entry.id]["type"])
        assert expected is None or entry.kind == expected


# Search


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("haemorrhage", "haem_deep"), ("hemorrhages", "haem_deep"), ("Hæmorrhage", None),
        ("micro-aneurysms", "ma"), ("microaneurysm", "ma"), ("MICROANEURYSMS", "ma"),
        ("microanurysm", "ma"), ("VCDR", "b_vcdr"), ("cup to disc ratio", "b_vcdr"),
        ("cup-to-disk ratio", "b_vcdr"), ("What is a normal cup/disc ratio?", "b_vcdr"),
        ("soft exudates", "cws"), ("cotton wool spot", "cws"), ("hard exudate", "hard_exudate"),
        ("edudates", "hard_exudate"), ("diabetic macular edema", "dme"), ("DMO", "dme"),
        ("neovascularization", "nvd_nve"), ("neovascularisation", "nvd_nve"),
        ("age related macular degeneration", "amd_early"), ("optic disk", "optic_disc"),
        ("severe NPDR", "dr_npdr_severe"), ("how is PDR defined", "dr_pdr"),
        ("dr_npdr_mild", "dr_npdr_mild"), ("AV ratio", "b_avr"), ("fractal dimention", "b_fd"),
        ("vessel tortuousity", "b_tort"), ("arteriolar caliber", "b_crae"),
        ("glaucoma suspect", "glaucoma_suspect"), ("suspected glaucoma", "glaucoma_suspect"),
        ("what do OD and OS mean", "laterality"), ("ungradable", "quality"),
        ("generalized arteriolar narrowing", "art_narrowing"), ("grading of DR", None),
        ("normal macula", "normal_fundus"), ("jsiec 0.2", "glaucoma_suspect"),
    ],
)  # fmt: skip
def test_spelling_variants_find_the_entry(query, expected):
    hits = KNOWLEDGE.search(query, 3)
    if expected is not None:
        assert hits[0].entry_id == expected


@pytest.mark.parametrize(
    "query",
    ["", "   ", "weather in Paris", "tell me a joke", "xkqz", "stock price of apple", "???",
     "bread recipe with yeast", "<script>alert(1)</script>", "的", "who won the cup final"],
)  # fmt: skip
def test_nothing_found_is_an_empty_list(query):
    assert [hit for hit in KNOWLEDGE.search(query, 5) if hit.score > 0.85] == []
    if "cup" not in query:
        assert KNOWLEDGE.search(query, 5) == []


def test_hits_quote_word_for_word():
    hit = KNOWLEDGE.search("microaneurysm", 1)[0]
    assert hit.passages[0].text == KNOWLEDGE.get("ma").text.clinician
    assert hit.passages[0].sources[0].key == "etdrs1991"
    assert len(KNOWLEDGE.search("retina", 2)) <= 2


def test_a_bare_number_and_a_numeral_are_no_names():
    for query in ("0.2", "is 0.2 large", "1.1"):
        assert "name or synonym" not in [hit.why for hit in KNOWLEDGE.search(query, 5)]
    assert tokens("four hours") != tokens("for hours")
    assert tokens("colour tumour odour") == tokens("color tumor odor")


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=80), st.integers(-2, 5))
def test_any_query_is_survived(query, limit):
    hits = KNOWLEDGE.search(query, limit)
    assert len(hits) <= max(0, limit)
    assert all(0 < hit.score <= 1 for hit in hits)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_unknown_id_names_the_nearest():
    with pytest.raises(KnowledgeError, match="b_vcdr"):
        KNOWLEDGE.get("vcdr")


# Ranges


@pytest.mark.parametrize(
    ("diameter", "value", "position", "high"),
    [
        (1.2, 0.59, "within", 0.59), (1.2, 0.60, "above", 0.59), (1.9, 0.70, "within", 0.74),
        (1.9, 0.75, "above", 0.74), (1.55, 0.66, "within", 0.665), (1.55, 0.67, "above", 0.665),
        (1.0, 0.9, None, None), (2.4, 0.1, None, None), (None, 0.9, None, None),
    ],
)  # fmt: skip
def test_cup_to_disc_limit_depends_on_disc_size(diameter, value, position, high):
    result = KNOWLEDGE.compare_to_range(
        "b_vcdr", value, output="vertical_cdr", method=BMES, disc_diameter_mm=diameter
    )
    assert result.position == position
    assert result.reason
    assert result.high == pytest.approx(high) if high else result.high is None


def test_ranges_are_never_used_across_methods():
    for method in ("disc and cup masks", "", BMES.replace("graders", "a network")):
        result = KNOWLEDGE.compare_to_range(
            "b_vcdr", 0.9, output="vertical_cdr", method=method, disc_diameter_mm=1.2
        )
        assert result.position is None
        assert "another method" in result.reason


@pytest.mark.parametrize(
    ("value", "position"),
    [(122.0, "below"), (123.0, "within"), (152.0, "within"), (181.0, "within"), (182.0, "above")],
)
def test_range_of_mean_and_sd_is_95_percent(value, position):
    result = KNOWLEDGE.compare_to_range("b_crae", value, output="crae", method="rmhas, UK Biobank.")
    assert result.position == position


def test_biomarker_without_reference_values_says_so():
    result = KNOWLEDGE.compare_to_range("b_tort", 1.1, output="tortuosity", method="arc to chord")
    assert result.position is None
    assert "no reference values" in result.reason


# Cross-check with plugins


def test_check_names_outputs_that_nothing_explains():
    gaps = KNOWLEDGE.check({"vertical_cdr", "unheard_of"})
    assert [gap for gap in gaps if "`unheard_of`" in gap]
    assert not [gap for gap in gaps if "`vertical_cdr`" in gap]


def test_entries_that_wait_for_a_plugin_are_listed():
    waiting = KNOWLEDGE.without_plugin({"vertical_cdr"})
    assert "fractal_dimension" in waiting
    assert "vertical_cdr" not in waiting


def test_every_output_of_a_built_in_plugin_is_explained():
    from fovea.manifest import read_manifest

    root = Path(__file__).resolve().parents[2] / "plugins" / "fovea_plugins"
    names = {
        output.name
        for path in root.rglob("plugin.toml")
        for output in read_manifest(path).outputs
        if output.kind in ("measurement", "finding")
    }
    assert names
    assert KNOWLEDGE.check(names) == []


# Malformed files


def test_good_folder_loads_and_a_change_is_seen(folder):
    assert load(folder).get("thing").name.en == "Thing"
    assert load(folder) is load(folder)
    write(folder, ENTRY.replace("{en: Thing}", "{en: Another thing}"))
    assert load(folder).get("thing").name.en == "Another thing"


@pytest.mark.parametrize(
    ("old", "new", "where", "what"),
    [
        ("kind: finding", "kind: nonsense", "thing.yaml:2", "`kind`"),
        ("kind: finding\n", "", "thing.yaml:1", "`kind`"),
        ("kind: finding", "kind: finding\nkindd: x", "thing.yaml:3", "`kindd`"),
        ("kind: finding", "kind: finding\nkind: finding", "thing.yaml:3", "twice"),
        ("id: thing", "id: other", "thing.yaml:1", "`other`"),
        ("cite: [smith2020]", "cite: []", "thing.yaml:7", "`text.cite`"),
        ("cite: [smith2020]", "cite: [jones]", "thing.yaml:1", "jones"),
        ("{key: smith2020,", "{key: jones,", "thing.yaml:1", "smith2020"),
        ("{status: draft}", "{status: clinician_reviewed}", "thing.yaml:10", "names reviewer"),
        ("review:", "differential: [ghost]\nreview:", "thing.yaml:10", "`ghost`"),
        ("review:", "descriptors: [{text: a thing, use: [report], cite: [smith2020]}]\nreview:",
         "thing.yaml:10", "text"),
        ("review:", "  - {key: jones2021, claim: more}\nreview:", "thing.yaml:10", "jones2021"),
        ("name: {en: Thing}", "name: {en: Thing", "thing.yaml:4", "malformed"),
        ("name: {en: Thing}", "name: &a {en: Thing}\ncopy: *a", "thing.yaml:3", "aliases"),
        ("name: {en: Thing}", "name: !!python/object/apply:os.system [id]", "thing.yaml:3",
         "malformed"),
        ("name: {en: Thing}", "name:\n\t- tab", "thing.yaml:4", "malformed"),
    ],
)  # fmt: skip
def test_fault_names_file_line_and_field(folder, old, new, where, what):
    assert old in ENTRY
    write(folder, ENTRY.replace(old, new, 1))
    said = message(folder)
    assert f"findings/{where}" in said
    assert what in said


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\xff\xfe\x00", "UTF-8"),
        (b"[" * 5000, ""),
        (b"- just\n- a list\n", ""),
        (b"", ""),
        (b"x" * (MAX_FILE_BYTES + 1), "larger"),
        (b"a: &a [x]\nb: [*a,*a]\n", "aliases"),
        (b"--- 1\n--- 2\n", ""),
        (b"a: \x00", ""),
        (b"2001-99-99: x\n? [a, b]\n: c\n", ""),
    ],
)
def test_strange_file_is_one_clear_error(folder, content, what):
    (folder / "findings" / "thing.yaml").write_bytes(content)
    said = message(folder)
    assert "findings/thing.yaml" in said
    assert what in said


def test_missing_folder_or_sources(folder, tmp_path):
    with pytest.raises(KnowledgeError, match="does not exist"):
        load(tmp_path / "nowhere")
    (folder / "references.yaml").unlink()
    assert "references.yaml" in message(folder)


def test_same_id_in_two_folders_is_refused(folder):
    (folder / "scales").mkdir()
    write(folder, ENTRY, "scales/thing.yaml")
    assert "twice" in message(folder)


def test_range_with_one_point_is_refused(folder):
    extra = (
        "ranges:\n  - {output: x, method: some method, unit: '1', population: people,\n"
        "     text: A range of this test., cite: [smith2020],\n"
        "     by_disc_diameter: [{disc_diameter_mm: 1, median: 0.3, high: 0.5}]}\nreview:"
    )
    write(folder, ENTRY.replace("review:", extra))
    assert "at least two points" in message(folder)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_give_a_knowledge_error(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("kb")
    (folder / "references.yaml").write_text(REFERENCES)
    (folder / "thing.yaml").write_bytes(content)
    with pytest.raises(KnowledgeError):
        load(folder)
