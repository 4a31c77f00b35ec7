"""Which words a cited sentence may use.

No list of forbidden words is complete: `extensive`, `unchanged since the last visit` and
`the fellow eye` all state something. So the check fails closed. A word must be neutral,
belong to the name of a result, or stand in what is cited beside the same neighbour.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from fovea.knowledge.search import tokens, word_spans
from fovea.report.sentences import split

NEUTRAL = frozenset(
    tokens(
        # grammar
        "a about an and are as at be been being both but by can cannot could did do does either "
        "for from had has have here how however i if in into is it its itself may might my neither "
        "no none nor not of on or our out s t that the their them then there these they this those "
        "through to up us was we were what when where whereas whether which while who whose with "
        "without would you your yet also too else respectively namely "
        # telling
        "amount answer assess assessable assessed assessment calculated call called came come "
        "compute computed concept contain corresponds decided describe described detected "
        "determined display displayed equal estimate estimated figure find finding following found "
        "gave get give given identified include including indicate indicated look make made mark "
        "marked mean measure measured measurement name named note noted observed outline outlined "
        "output picked please print printed read reading record recorded report reported result "
        "said say see seen show showing shown stand stated taken take tell told value word "
        # certainty, whose polarity is compared with the finding
        "absence absent cannot doubtful exclude excluded indeterminate likely negative "
        "perhaps positive possible possibly presence present probable probably sign suspected "
        "suspicion unable uncertain unclear undecided unlikely visible "
        # numbers
        "approximately around ca count counted counting interval ci level number per percent "
        "probability range roughly score threshold total uncalibrated calibrated unit confidence "
        "prediction one "
        # things of this software
        "algorithm analysis archive case classifier eye grade gradable graded heatmap "
        "height id image label labelled left map mask model neighbour network overlay photo "
        "photograph picture plugin quality random pair right segmentation "
        "segmented similar software tool view ungradable reliably fundus retina retinal od os "
        "ou"
    )
)
"""Words that state nothing about an eye by themselves; what they join is checked elsewhere."""


class Source:
    """The words of one text, with those that stand beside each other."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._pairs: set[tuple[str, str]] = set()
        self._single: set[str] = set()
        for text in texts:
            for piece in split(text):
                words = [word for word in tokens(piece.text) if word not in NEUTRAL]
                self._pairs.update(itertools.pairwise(words))
                if len(words) == 1:
                    self._single.add(words[0])

    def backs(self, before: str | None, word: str, after: str | None) -> bool:
        """Whether the word stands here beside one of its neighbours, or by itself."""
        return word in self._single or (before, word) in self._pairs or (word, after) in self._pairs


def stranger(
    text: str, spans: Iterable[tuple[int, int]], allowed: frozenset[str], sources: Sequence[Source]
) -> str | None:
    """The first word that nothing backs, as it is written; None when there is none.

    Args:
        text: What is said.
        spans: Stretches that were recognised: names, numbers with units, eyes.
        allowed: Further words that may be used.
        sources: What is cited.
    """
    known = list(spans)
    content = [item for item in word_spans(text) if item[0] not in NEUTRAL]
    for index, (word, start, end) in enumerate(content):
        if word in allowed or any(low <= start and end <= high for low, high in known):
            continue
        before = content[index - 1][0] if index else None
        after = content[index + 1][0] if index + 1 < len(content) else None
        if not any(source.backs(before, word, after) for source in sources):
            return text[start:end]
    return None
