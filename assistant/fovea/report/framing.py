"""The parts of a report that are rows rather than prose: header, advice, limits, provenance."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from fovea.evidence import Evidence, ImageRecord
from fovea.image import Eye
from fovea.knowledge import Entry
from fovea.report.grade_wording import Guided
from fovea.report.labels import (
    GUIDELINE_SETS,
    INTENDED_USE,
    LABEL,
    NO_ADVICE,
    RECALL_LEFT_OUT,
    URGENCY_WORDS,
    USUAL_RECALL,
)
from fovea.report.model import History, Row, Sentence
from fovea.report.wording import EYE_NAMES, quoted

SIGN_OFF = (
    Row(label="Status", value=LABEL),
    Row(label="Reviewed by", value="nobody yet"),
    Row(label="Date of review", value="none yet"),
)
_SOURCES = {"person": "named by a person", "dicom": "from the file", "inferred": "inferred"}


def header(
    images: Sequence[ImageRecord], inferred: Mapping[str, Collection[Eye]]
) -> tuple[Row, ...]:
    """Pseudonym, eye with its source, size and scale of each photograph.

    Args:
        images: Photographs of the session.
        inferred: Handle to the eyes that the quality gate inferred.
    """
    rows = []
    for record in images:
        scale = (
            f"{record.um_per_px:.3g} µm per px, from the file"
            if record.um_per_px
            else "unknown: the file gives none"
        )
        facts = {
            "id": record.sha256[:12],
            "eye": _eye(record, frozenset(inferred.get(record.handle, ()))),
            "image": f"{record.width} x {record.height} px, {record.format}",
            "pixel scale": scale,
        }
        rows += [Row(label=f"{record.handle}: {key}", value=value) for key, value in facts.items()]
        rows += [Row(label=f"{record.handle}: note", value=note) for note in record.notes]
    return tuple(rows)


def _eye(record: ImageRecord, inferred: frozenset[Eye]) -> str:
    if record.eye:
        text = f"{EYE_NAMES[record.eye]}, {_SOURCES[record.eye_source or 'inferred']}"
        others = sorted(inferred - {record.eye})
        return text + "".join(f"; CONFLICT: looks like the {EYE_NAMES[eye]}" for eye in others)
    if len(inferred) == 1:
        return f"{EYE_NAMES[next(iter(inferred))]}, inferred from the photograph"
    return "unknown: nobody named it and the photograph does not decide it"


def indication(history: History) -> tuple[Row, ...]:
    """What was told about the person, quoted as data."""
    answers: dict[bool | None, str | None] = {True: "yes", False: "no"}
    told = {
        "Indication, as supplied": f"\u201c{history.text}\u201d" if history.text.strip() else None,
        "Diabetes, as told": answers.get(history.diabetes),
        "Age, as told": None if history.age_years is None else f"{history.age_years:g} years",
        "Myopia, as told": answers.get(history.myopia),
    }
    return tuple(Row(label=label, value=value) for label, value in told.items() if value)


def advice(
    entries: Iterable[Entry], graded: Iterable[Guided], guideline_set: str | None
) -> tuple[tuple[Sentence, ...], tuple[Row, ...]]:
    """Guideline advice quoted from entries with its urgency, and for what there is none.

    The most urgent comes first; conditions without advice come last, with the reason.

    Args:
        entries: What was found.
        graded: What follows from a grade. Where a graver one is not excluded, the advice
            for the usual recall is left out: it could delay what the graver one needs.
        guideline_set: Whose advice is quoted; that of all when None.
    """
    ranks = list(URGENCY_WORDS)
    all_found = {entry.id: Guided(entry, "", bounded=False) for entry in entries}
    for guided in graded:
        all_found.setdefault(guided.entry.id, guided)
    found = []
    none = []
    for guided in all_found.values():
        entry = guided.entry
        for guidelines in (guideline_set,) if guideline_set else _sets_of(entry):
            part = entry.referral.get(guidelines)
            if part is None:
                none.append((entry, guidelines, entry.no_referral.get(guidelines, NO_ADVICE)))
            elif guided.bounded and part.urgency == USUAL_RECALL:
                none.append((entry, guidelines, RECALL_LEFT_OUT))
            else:
                rank = ranks.index(part.urgency)
                found.append((rank, guidelines, entry.id, entry.name.en, part.text))
    found.sort()
    sentences = tuple(quoted(text, knowledge=(i,)) for _, _, i, _, text in found)
    rows = []
    for rank, guidelines, i, name, _ in found:
        value = f"{ranks[rank]}, {URGENCY_WORDS[ranks[rank]]} (guideline set {guidelines})"
        only = f", if it is {whom}" if (whom := all_found[i].provided) else ""
        bound = "At least: " if all_found[i].bounded else ""
        rows.append(Row(label=bound + name, value=f"{value}{only} [K:{i}]"))
    rows += [
        Row(label=f"No advice: {entry.name.en}", value=f"{guidelines}: {why} [K:{entry.id}]")
        for entry, guidelines, why in none
        if entry.kind == "condition"  # a sign alone is advised on through its condition
    ]
    return sentences, tuple(rows)


def _sets_of(entry: Entry) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*GUIDELINE_SETS, *entry.referral)))


def limitations(refused: Mapping[str, str], withheld: Sequence[str]) -> tuple[Row, ...]:
    """Intended use, what did not run and why, and what the checker took out."""
    rows = [
        Row(label="Intended use", value=INTENDED_USE),
        Row(
            label="Knowledge base",
            value="Entries are drafts until a clinician has reviewed them; reference values are "
            "used only within the method that made them.",
        ),
    ]
    rows += [Row(label=f"Not available: {k}", value=why) for k, why in sorted(refused.items())]
    rows += [Row(label="Withheld sentence", value=reason) for reason in dict.fromkeys(withheld)]
    return tuple(rows)


def provenance(evidence: Sequence[Evidence], knowledge_version: str) -> tuple[Row, ...]:
    """What made each piece of evidence, with which weights, when."""
    rows = [Row(label="Knowledge base", value=knowledge_version)]
    for piece in sorted(evidence, key=lambda piece: int(piece.id[1:])):
        source = piece.provenance
        weights = ", ".join(f"{f} {d[:12]}" for f, d in sorted(source.weights_sha256.items()))
        rows.append(
            Row(
                label=piece.id,
                value=f"{piece.tool} {source.plugin_version} on {', '.join(piece.images)}; "
                f"weights {weights or 'none'}; {source.started}; {source.seconds:.2f} s; "
                f"seed {source.seed}",
            )
        )
    rows.append(Row(label="Wording", value="templates; no language model took part"))
    return tuple(rows)
