"""Keeps only sentences that cited evidence or cited knowledge supports.

The check is deterministic and uses no language model. It serves the report and
the chat alike. A sentence is a claim when it holds a number, an eye, a name of
the knowledge base, a clinical word, a judgement such as `normal`, or advice.
Claims must end in citations; each stretch of a sentence answers to the
citations that end it. Everything else passes: greetings, questions, requests,
what Fovea can do, and that something could not be measured.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fovea.evidence import Evidence, ImageRecord
from fovea.knowledge import Knowledge
from fovea.report import sentences
from fovea.report.claims import Claims, Unsupported
from fovea.report.facts import Facts
from fovea.report.grade_wording import GradeStatements
from fovea.report.model import History
from fovea.report.sentences import Piece, Segment
from fovea.report.support import Support

_LINK = re.compile(r"https?://|www\.|!\[|\]\(|<\s*/?\s*[a-z!]", re.I)
_TRAILING = re.compile(r"[ \t]+$", re.M)


@dataclass(frozen=True)
class Struck:
    """A sentence that was taken out, and why."""

    sentence: str
    reason: str


@dataclass(frozen=True)
class Checked:
    """The text that is left, and what was struck."""

    kept: str
    struck: tuple[Struck, ...]


def check_text(
    text: str,
    evidence: Sequence[Evidence],
    knowledge: Knowledge,
    *,
    images: Sequence[ImageRecord] = (),
    refused: Mapping[str, str] | None = None,
    history: History | None = None,
) -> Checked:
    """The text without the sentences that nothing supports.

    Args:
        text: Prose or markdown with citations `[E2]` and `[K:b_vcdr]`.
        evidence: All evidence of the session.
        knowledge: The knowledge base that `[K:id]` points into.
        images: What is known about the photographs, for eyes named by a person.
        refused: Tool to the reason why it gave no answer; such a reason may be repeated.
        history: What was told about the person, on which grades may depend.
    """
    checker = Checker(evidence, knowledge, images=images, refused=refused, history=history)
    return checker.check(text)


def _closing(pieces: list[Piece], position: int) -> tuple[str, ...]:
    """The citations that end the run of sentences in which this one stands."""
    line = pieces[position].line
    for piece in pieces[position:]:
        if piece.line != line:
            break
        stretches, _ = sentences.segments(piece.text)
        if stretches:
            return stretches[-1].cites
    return ()


class Checker:
    """Checks any number of texts against the same evidence; arguments as for `check_text`."""

    def __init__(
        self,
        evidence: Sequence[Evidence],
        knowledge: Knowledge,
        *,
        images: Sequence[ImageRecord] = (),
        refused: Mapping[str, str] | None = None,
        history: History | None = None,
    ) -> None:
        self._facts = Facts(evidence, knowledge, images)
        self.grades = GradeStatements(self._facts, history or History())
        gaps = [gap.reason for piece in evidence for gap in piece.result.not_measured]
        self._claims = Claims(self._facts, [*(refused or {}).values(), *gaps])
        self._support = Support(self._facts)

    def check(self, text: str) -> Checked:
        """The text without the sentences that nothing supports."""
        pieces = sentences.split(text)
        kept: list[Piece] = []
        struck = []
        emptied = set()
        for position, piece in enumerate(pieces):
            try:
                self._judge(piece.text, _closing(pieces, position))
            except Unsupported as reason:
                struck.append(Struck(piece.text, str(reason)))
                emptied.add(piece.line)
                if not piece.before.strip():
                    kept.append(Piece(piece.before, "", piece.line))
                continue
            kept.append(piece)
        filled = {piece.line for piece in kept if piece.text}
        parts = [p.before + p.text for p in kept if p.line not in emptied or p.line in filled]
        left = "".join(parts)
        return Checked(_TRAILING.sub("", left).strip() if struck else left.strip(), tuple(struck))

    def _judge(self, sentence: str, closing: tuple[str, ...]) -> None:
        """Returns when the sentence may stand; raises `Unsupported` otherwise."""
        if not sentence:
            return
        body = sentences.without_citations(sentence).strip(" *_#>\t")
        if _LINK.search(body):
            raise Unsupported("links and markup are not allowed")
        if not body.isascii() and any(c.isalpha() and not _is_latin(c) for c in body):
            raise Unsupported("only English text can be checked")
        stretches, tail = sentences.segments(sentence)
        for identifier in (cite for stretch in stretches for cite in stretch.cites):
            self._must_exist(identifier)
        if self.grades.is_about(body):
            if not self.grades.holds(sentence):
                raise Unsupported("the rules of the knowledge base give no such grade")
            return
        quotes = any(cite.startswith("K:") for stretch in stretches for cite in stretch.cites)
        if not quotes and not self._claims.is_claim(body):
            return
        if not stretches:
            if self._claims.is_exempt(body):
                return
            # One citation may end a quotation of several sentences.
            known = bool(closing) and all(self._exists(cite) for cite in closing)
            sources = self._support.texts(closing) if known else []
            if not self._facts.quotes.hold(body, sources, least=1.0):
                raise Unsupported("no citation")
            self._support.check(Segment(body, closing), carried=None)
            return
        if self._claims.is_claim(tail):
            raise Unsupported("the sentence does not end in its citation")
        carried: str | None = None
        for stretch in stretches:
            carried = self._support.check(stretch, carried=carried)

    def _exists(self, identifier: str) -> bool:
        if identifier.startswith("K:"):
            return identifier[2:] in self._facts.knowledge.entries
        return identifier in self._facts.evidence

    def _must_exist(self, identifier: str) -> None:
        if not self._exists(identifier):
            raise Unsupported(f"cites [{identifier}], which does not exist")


def _is_latin(letter: str) -> bool:
    return letter in "μαβ" or unicodedata.name(letter, "").startswith("LATIN")
