"""Every label of the supported datasets names exactly one entry, and every entry says something."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from fovea.knowledge import load
from fovea.knowledge.search import STOP_WORDS, tokens

KNOWLEDGE = load()
FILE = yaml.safe_load(Path(__file__).with_name("dataset_labels.yaml").read_text("utf-8"))
ABSENT = FILE.pop("absent")
LABELS = [
    (dataset, label, identifier)
    for dataset, entries in FILE.items()
    for identifier, labels in entries.items()
    for label in labels
]
PHRASES = [(label, identifier) for dataset, label, identifier in LABELS if dataset == "flair"]
SPELLINGS = [
    ("haem", "hem"), ("oedema", "edema"), ("ischaem", "ischem"), ("naevus", "nevus"),
    ("fibre", "fiber"), ("isation", "ization"), ("disc", "disk"),
]  # fmt: skip

NAMED: dict[tuple[str, ...], set[str]] = {}
for entry in KNOWLEDGE.entries.values():
    for name in (*entry.names(), *(x for group in entry.dataset_labels.values() for x in group)):
        NAMED.setdefault(tokens(name), set()).add(entry.id)


def test_all_labels_of_the_four_datasets_are_listed():
    counts = {name: sum(map(len, entries.values())) for name, entries in FILE.items()}
    normal = 1  # RFMiD: 45 abnormalities, and "within normal limits"
    assert counts == {"flair": 109, "rfmid": 45 + normal, "jsiec": 39, "odir": 8}


@pytest.mark.parametrize(("dataset", "label", "identifier"), LABELS)
def test_label_belongs_to_exactly_one_entry(dataset, label, identifier):
    owners = [
        (entry.id, key)
        for entry in KNOWLEDGE.entries.values()
        for key, labels in entry.dataset_labels.items()
        if key.removesuffix("_absent") == dataset
        for other in labels
        if tokens(other) == tokens(label)
    ]
    key = f"{dataset}_absent" if label in ABSENT.get(dataset, ()) else dataset
    assert owners == [(identifier, key)]


@pytest.mark.parametrize(("label", "identifier"), PHRASES)
def test_spelling_variants_of_a_label_find_the_entry(label, identifier):
    variants = {label, label.upper(), label.replace(" ", "-"), label.replace("-", " ")}
    for british, american in SPELLINGS:
        variants |= {label.replace(british, american), label.replace(american, british)}
    if label.endswith("s") and not label.endswith(("is", "us", "ies")):
        variants.add(label[:-1])
    elif not label.startswith("no ") and not label.endswith(("s", "isation", "four")):
        variants.add(f"{label}s")
    for variant in variants:
        assert NAMED[tokens(variant)] == {identifier}
        assert identifier in [hit.entry_id for hit in KNOWLEDGE.search(variant, 2)]


@pytest.mark.parametrize(
    ("label", "identifier"),
    [
        # Labels that FLAIR builds but does not find in its own dictionary.
        ("age-related macular degeneration", "amd_early"), ("myopia", "pathologic_myopia"),
        ("geographical age-related macular degeneration", "amd_late_ga"),
        ("neovascular age-related macular degeneration", "amd_late_nv"),
        ("edudates", "hard_exudate"), ("diabetic macular edema", "dme"),
        # Misspelt keys, and slips of other people.
        ("myopic maculopathy grade zero", "myopic_maculopathy"), ("silicone oil", "silicone_oil"),
        ("druse", "drusen"), ("dragged disc", "dragged_disc"), ("naevi", "naevus"),
        ("congenital disc abnormality", "disc_congenital"), ("papiledema", "papilloedema"),
        ("retinitis pigmentosum", "rp"), ("toxoplasmossis", "toxoplasmosis"),
        ("myelinated nerve fibres", "mnf"), ("optic disc oedema", "papilloedema"),
        ("hemorrhagic pigment epithelial detachment", "ped_haem"), ("choroidal nevi", "naevus"),
        ("intraocular tumor", "melanoma"),
    ],
)  # fmt: skip
def test_misspelt_and_missing_labels_find_the_entry(label, identifier):
    assert KNOWLEDGE.search(label, 1)[0].entry_id == identifier


@pytest.mark.parametrize("entry", KNOWLEDGE.entries.values(), ids=lambda entry: entry.id)
def test_no_entry_only_repeats_its_name(entry):
    own = {word for name in entry.names() for word in tokens(name)} | STOP_WORDS
    for text, least in (
        (entry.text.clinician, 4), (entry.text.lay, 2), *((d.text, 2) for d in entry.descriptors)
    ):  # fmt: skip
        assert len(set(tokens(text)) - own) >= least, text
