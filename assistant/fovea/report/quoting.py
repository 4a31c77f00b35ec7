"""Whether a sentence says what one sentence of a cited text says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fovea.knowledge.search import STOP_WORDS, tokens
from fovea.report.sentences import clean, numbers, split
from fovea.report.vocabulary import NEUTRAL

# A search may pass over "normal" and "range"; a quotation may not add them.
_FILLER = STOP_WORDS - frozenset(
    tokens("normal range value values many much should simple plain criteria criterium guideline")
)
_WEIGHTY = frozenset(
    tokens(
        "above below over under more less fewer higher lower high low wider narrower wide narrow "
        "large larger small smaller right left before after increase decrease rise fall rises "
        "falls always all only every first second last immediate immediately urgent routine early "
        "late mild moderate severe many several some most few both upper superior inferior nasal "
        "temporal superotemporal inferotemporal superonasal inferonasal up down "
        "hour day week month year daily weekly monthly yearly annual annually "
        "no not none never neither nor without cannot absent absence exclude excluded excludes"
    )
)
"""Words of direction, degree, time and denial: each keeps a neighbour that it has in the source."""
_NEGATIVE = (
    frozenset(tokens("no not none never neither nor without cannot absent absence")),
    frozenset(tokens("exclude excluded excludes")),
)
_Figures = list[tuple[float, str | None]]


@dataclass(frozen=True)
class _Said:
    """One sentence: its words, those with a meaning of their own, and its figures."""

    words: frozenset[str]
    content: tuple[str, ...]
    figures: _Figures


class Quotations:
    """Compares sentences with texts, each of which is taken apart once."""

    def __init__(self) -> None:
        self._parsed: dict[str, tuple[str, list[_Said]]] = {}

    def hold(
        self, sentence: str, texts: Iterable[str], *, least: float, names: Sequence[str] = ()
    ) -> bool:
        """Whether one sentence of `texts` says it.

        Word for word counts always. Otherwise the share of its content words that the source
        sentence has must reach `least`, and what is left must be neutral words or `names`.
        Its numbers must come in the same order, it may neither add nor drop a denial, and a
        word of direction, degree or time must stand beside the word it belongs to.
        """
        said = _apart(sentence)
        if not said.content:
            return False
        plain = f" {' '.join(tokens(sentence))} "
        free = NEUTRAL.union(*(tokens(name) for name in names)) - _WEIGHTY
        for text in texts:
            whole, parts = self._take_apart(text)
            if plain in whole or any(_says(said, source, least, free) for source in parts):
                return True
        return False

    def hold_advice(self, sentence: str, texts: Iterable[str]) -> bool:
        """Whether a text gives this advice: the same content words in a row, none left out."""
        said = _apart(sentence)
        run = f" {' '.join(said.content)} "
        for text in texts:
            content = [word for part in self._take_apart(text)[1] for word in part.content]
            if said.content and run in f" {' '.join(content)} ":
                return self.hold(sentence, [text], least=1.0)
        return False

    def _take_apart(self, text: str) -> tuple[str, list[_Said]]:
        if text not in self._parsed:
            parts = [_apart(piece.text) for piece in split(text) if piece.text]
            self._parsed[text] = (f" {' '.join(tokens(text))} ", parts)
        return self._parsed[text]


def _apart(sentence: str) -> _Said:
    words = tokens(sentence)
    content = tuple(word for word in words if word not in _FILLER)
    figures = [(number.value, number.unit) for number in numbers(clean(sentence))[0]]
    return _Said(frozenset(words), content, figures)


def _says(said: _Said, source: _Said, least: float, free: frozenset[str]) -> bool:
    shared = sum(map(source.words.__contains__, said.content))
    return (
        shared >= least * len(said.content)
        and all(word in source.words or word in free for word in said.content)
        and all(bool(n & said.words) == bool(n & source.words) for n in _NEGATIVE)
        and _keep_neighbours(said.content, source.content)
        and _same_order(said.figures, source.figures)
    )


def _keep_neighbours(said: Sequence[str], source: Sequence[str]) -> bool:
    """Whether each weighty word stands beside a word that it stands beside in the source."""
    start = 0
    for index, word in enumerate(said):
        if word not in _WEIGHTY:
            continue
        before, after = said[index - 1 : index], said[index + 1 : index + 2]
        for place in range(start, len(source)):
            if source[place] != word:
                continue
            if before and source[place - 1 : place] == before:
                break
            if after and source[place + 1 : place + 2] == after:
                break
        else:
            return False
        start = place + 1
    return True


def _same_order(few: _Figures, many: _Figures) -> bool:
    rest = iter(many)
    return all(any(item == other for other in rest) for item in few)
