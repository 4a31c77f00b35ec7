"""Edit, compare and sign a report. The draft stays; edits and signatures are kept beside it.

An edit makes an earlier signature void: `Report.label`, which every export shows, then says
that the report has to be signed again. A signature holds the digest of what was signed, so a
file that was changed by other means no longer reads as reviewed.
"""

from __future__ import annotations

import datetime
import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from fovea.errors import FoveaError
from fovea.report import sentences
from fovea.report.model import Edit, Report, Row, Section, Sentence, Signature

LONGEST = 2000
FIXED = ("provenance", "sign_off")
"""Sections that record how the report came about: not for editing."""


@dataclass(frozen=True)
class Change:
    """One sentence of the draft, or none, and what it has become."""

    place: str
    title: str
    draft: str
    now: str
    by: str


def place(text: str) -> tuple[int, int]:
    """Section and sentence of a place such as `4.2`.

    Raises:
        FoveaError: it is not written so.
    """
    match = re.fullmatch(r"(\d{1,2})\.(\d{1,3})", text.strip())
    if match is None:
        raise FoveaError(
            f"`{text}` is not a sentence of a report",
            fix="Name section and sentence, such as `4.2`; `fovea review show` lists them",
        )
    return int(match[1]), int(match[2])


def texts(report: Report, section: Section) -> list[str]:
    """The sentences of a section as they stand now; one that was taken out is empty."""
    now = [sentence.text for sentence in section.sentences]
    for edit in report.edits:
        if edit.section == section.number:
            if edit.sentence > len(now):
                now.append(edit.after)
            else:
                now[edit.sentence - 1] = edit.after
    return now


def edit(
    report: Report, section: int, sentence: int, text: str, *, by: str, at: str | None = None
) -> Report:
    """The report with one sentence changed, added or taken out; no signature holds any more.

    Args:
        report: Draft, or an edited or signed report.
        section: Number of the section.
        sentence: Place in the section, from 1; the place after the last one adds a sentence.
        text: The new words; empty takes the sentence out.
        by: Who edits.
        at: UTC time, ISO 8601; now when omitted.

    Raises:
        FoveaError: there is no such place, nothing changes, or a name is missing.
    """
    part = next((part for part in report.sections if part.number == section), None)
    if part is None or part.key in FIXED:
        raise FoveaError(
            f"Section {section} cannot be edited", fix="Edit a sentence of section 1 to 15"
        )
    now = texts(report, part)
    if not 1 <= sentence <= len(now) + 1:
        raise FoveaError(
            f"Section {section} has no sentence {sentence}",
            fix=f"It has {len(now)}; `{section}.{len(now) + 1}` adds one",
        )
    before = now[sentence - 1] if sentence <= len(now) else ""
    after = " ".join(sentences.clean(text).split())
    if len(after) > LONGEST:
        raise FoveaError(f"The sentence has {len(after)} characters", fix=f"Use up to {LONGEST}")
    if after == before:
        raise FoveaError("The sentence says that already", fix="Change it, or leave it")
    made = Edit(
        section=section, sentence=sentence, before=before, after=after, by=_name(by),
        at=at or _now(),
    )  # fmt: skip
    return _relabelled(report, edits=(*report.edits, made))


def sign(report: Report, *, by: str, at: str | None = None) -> Report:
    """The report signed as it stands now. The name is what the signer says; it proves nobody.

    Raises:
        FoveaError: the name is missing, or it is signed by that person already.
    """
    name = _name(by)
    valid = report.signature()
    if valid and valid.by == name:
        raise FoveaError(f"{name} has signed it already", fix="Nothing was changed since")
    made = Signature(by=name, at=at or _now(), digest=report.digest())
    return _relabelled(report, signatures=(*report.signatures, made))


def changes(report: Report) -> list[Change]:
    """What differs from the draft, in the order of the report."""
    found = []
    for section in report.sections:
        draft = [sentence.text for sentence in section.sentences]
        for index, now in enumerate(texts(report, section)):
            was = draft[index] if index < len(draft) else ""
            where = (section.number, index + 1)
            by = [e.by for e in report.edits if (e.section, e.sentence) == where]
            if was != now:
                label = f"{section.number}.{index + 1}"
                found.append(Change(label, section.title, was, now, by[-1]))
    return found


def difference(change: Change) -> str:
    """The changed words in one line: `[-gone-]` and `{+new+}`."""
    old, new = change.draft.split(), change.now.split()
    said = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            said.append(" ".join(old[a:b]))
            continue
        said += [f"[-{' '.join(old[a:b])}-]"] if b > a else []
        said += [f"{{+{' '.join(new[c:d])}+}}"] if d > c else []
    return " ".join(said)


def shown(report: Report) -> tuple[Section, ...]:
    """The 17 sections as a reader sees them: with the edits, and with who signed."""
    return tuple(_shown(report, section) for section in report.sections)


def _shown(report: Report, section: Section) -> Section:
    if section.key == "sign_off":
        return section.model_copy(update={"rows": tuple(_sign_off(report))})
    if not any(made.section == section.number for made in report.edits):
        return section
    draft = dict(enumerate(section.sentences))
    now = []
    for index, text in enumerate(texts(report, section)):
        kept = draft.get(index)
        if text:
            now.append(kept if kept and kept.text == text else _written(text))
    filled = {"state": "filled", "reason": ""} if now and not section.sentences else {}
    return section.model_copy(update={"sentences": tuple(now), **filled})


def _written(text: str) -> Sentence:
    """A reviewer's words with what they cite. No machine-readable fact stands behind them."""
    stretches, _ = sentences.segments(text)
    cites = dict.fromkeys(cite for stretch in stretches for cite in stretch.cites)
    return Sentence(
        text=text,
        evidence=tuple(cite for cite in cites if not cite.startswith("K:")),
        knowledge=tuple(cite[2:] for cite in cites if cite.startswith("K:")),
    )


def _sign_off(report: Report) -> Iterable[Row]:
    valid = report.signature()
    yield Row(label="Status", value=report.label)
    yield Row(label="Reviewed by", value=valid.by if valid else "nobody yet")
    yield Row(label="Date of review", value=valid.at if valid else "none yet")
    for old in report.signatures:
        if old != valid:
            yield Row(label="Earlier signature, void", value=f"{old.by}, {old.at}")
    for change in changes(report):
        kind = "Edited" if change.draft and change.now else "Added" if change.now else "Taken out"
        yield Row(
            label=f"{kind} by {change.by}: {change.place} {change.title}", value=difference(change)
        )


def _relabelled(report: Report, **update: object) -> Report:
    bare = report.model_copy(update=update)
    return Report.model_validate({**bare.model_dump(mode="json"), "label": bare.state()})


def _name(by: str) -> str:
    name = " ".join(sentences.clean(by).split())
    if not 2 <= len(name) <= 120:
        raise FoveaError("A review needs the name of the reviewer", fix="Give 2 to 120 characters")
    return name


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
