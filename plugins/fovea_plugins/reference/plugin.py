"""Quotes statements of the knowledge base word for word, with their sources."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from fovea.contract import Caveat, Context, Passage, Plugin, Result
from fovea.errors import PluginUnavailable

LIMIT = 3
"""Entries quoted in one answer."""
NAMED = 0.8
"""Score from which on the knowledge base recognised a name rather than loose words."""
SUMMARY_CHARS = 400


class LookUpArgs(BaseModel):
    """What to look up."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    query: str = Field(
        min_length=1,
        max_length=200,
        description="Term or question, such as `cup-to-disc ratio` or `criteria of severe NPDR`.",
    )


class LookUp(Plugin[LookUpArgs]):
    """Finds entries of the knowledge base and quotes them; it writes no text of its own."""

    Args = LookUpArgs

    def run(self, context: Context, args: LookUpArgs) -> Result:
        """Passages of the entries that fit, best first; none when nothing fits.

        Entries that were named are quoted in full, others with their definition.

        Raises:
            PluginUnavailable: the host offers no knowledge base.
        """
        if context.knowledge is None:
            raise PluginUnavailable(
                self.manifest.name,
                "There is no knowledge base",
                fix="Run `fovea knowledge check`",
            )
        hits = context.knowledge.search(args.query, LIMIT)
        if not hits:
            return Result(
                summary="The knowledge base has no entry that fits this question. "
                "Nothing can be quoted."
            )
        named = [hit for hit in hits if hit.score >= NAMED] or hits[:1]
        others = [hit for hit in hits if hit not in named]
        passages = [passage for hit in named for passage in hit.passages]
        passages += [hit.passages[0] for hit in others]
        return Result(
            summary=_summary(named[0].entry_id, passages),
            passages=tuple(passages),
            caveats=_caveats(passages, guessed=named[0].score < NAMED, why=named[0].why),
        )


def _summary(entry_id: str, passages: list[Passage]) -> str:
    ids = ", ".join(dict.fromkeys(f"[K:{passage.entry_id}]" for passage in passages))
    tail = f" (entries: {ids})"
    quote = passages[0].text
    room = SUMMARY_CHARS - len(tail) - len(entry_id) - 6
    if len(quote) > room:
        quote = quote[: room - 2].rsplit(" ", 1)[0] + " …"
    return f"{quote} [K:{entry_id}]{tail}"


def _caveats(passages: list[Passage], *, guessed: bool, why: str) -> tuple[Caveat, ...]:
    caveats = []
    if any(passage.review == "draft" for passage in passages):
        caveats.append(Caveat(code="draft", text="No clinician has reviewed these entries yet."))
    if guessed:
        caveats.append(Caveat(code="loose_match", text=f"No entry of that name; matched by {why}."))
    return tuple(caveats)
