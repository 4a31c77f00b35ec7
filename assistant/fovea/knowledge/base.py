"""The loaded knowledge base."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from fovea import contract
from fovea.errors import KnowledgeError
from fovea.knowledge.clauses import Facts, Step
from fovea.knowledge.derived import Z_95, upper_limit, with_derived
from fovea.knowledge.glossary import FactMeaning, in_words
from fovea.knowledge.models import Entry, Range, Reference
from fovea.knowledge.norms import Norms
from fovea.knowledge.rule_check import check_rules
from fovea.knowledge.rules import Grading, NotGraded, ScaleRules, grade
from fovea.knowledge.search import Index
from fovea.services import Hit

FACTS = "rules/facts.yaml"


@dataclass(frozen=True)
class RangeComparison:
    """Where a value lies against the reference values of its own method.

    Attributes:
        position: None when it cannot be said; `reason` then says why.
        low, high: Bounds used; None where the source gives none.
    """

    position: Literal["within", "above", "below"] | None
    reason: str
    low: float | None = None
    high: float | None = None


class Knowledge:
    """Entries and their sources; immutable, safe to share between sessions.

    Example:
        >>> knowledge = load()
        >>> knowledge.search("haemorrhages", 1)[0].entry_id
        'haem_deep'
    """

    def __init__(
        self,
        entries: Mapping[str, Entry],
        references: Mapping[str, Reference],
        *,
        rules: Mapping[str, ScaleRules],
        facts: Mapping[str, FactMeaning],
        files: Mapping[str, str],
        version: str,
        norms: Norms | None = None,
    ) -> None:
        self.entries = MappingProxyType(dict(entries))
        self.references = MappingProxyType(dict(references))
        self.rules = MappingProxyType(dict(rules))
        """Grading rules by id; a scale of several parts has one for each (`s_desp.r`)."""
        self.facts = MappingProxyType(dict(facts))
        """What each fact of the rules means, and how a photograph can know it."""
        self.version = version
        self.norms = norms
        """Percentiles of one's own cohort, where they were built."""
        self._files = dict(files)
        self._index = Index(self.entries)
        self._by_output = {name: e for e in entries.values() for name in e.outputs}

    def get(self, identifier: str) -> Entry:
        """The entry of that id.

        Raises:
            KnowledgeError: no such entry; names the nearest id.
        """
        entry = self.entries.get(identifier)
        if entry is None:
            near = self.search(identifier.replace("_", " "), 1)
            hint = f"Did you mean `{near[0].entry_id}`?" if near else "Search for it first"
            raise KnowledgeError(f"There is no entry `{identifier[:60]}`", fix=hint)
        return entry

    def names(self) -> list[str]:
        """Names and synonyms of all entries, in English."""
        return [name for e in self.entries.values() for name in (e.name.en, *e.synonyms.en)]

    def about_output(self, name: str) -> Entry | None:
        """The entry about a plugin output: by `outputs`, else the entry of that id."""
        return self._by_output.get(name) or self.entries.get(name)

    def search(self, query: str, limit: int = 5) -> list[Hit]:
        """Entries for a free query, best first; empty when nothing fits.

        Exact ids come first, then names and synonyms (case, hyphens, plurals,
        British or American spelling, simple typing errors), then BM25 over the text.
        """
        return [
            Hit(entry_id, self.entries[entry_id].name.en, self.passages(entry_id), score, why)
            for entry_id, score, why in self._index.search(query, limit)
        ]

    def passages(self, identifier: str) -> tuple[contract.Passage, ...]:
        """Every statement of an entry, word for word, with its sources."""
        entry = self.get(identifier)
        return tuple(
            contract.Passage(
                entry_id=entry.id,
                title=f"{entry.name.en}: {topic}",
                text=text,
                sources=tuple(
                    contract.Source(key=key, citation=self.citation(key)) for key in keys
                ),
                review=entry.review.status,
            )
            for topic, text, keys in entry.statements()
        )

    def citation(self, key: str) -> str:
        """The full citation of a source, with its DOI or address."""
        reference = self.references[key]
        address = f"https://doi.org/{reference.doi}" if reference.doi else reference.url
        return f"{reference.citation} {address}" if address else reference.citation

    def grade(self, scale: str, facts: Facts) -> Grading | NotGraded:
        """What the facts, and what follows from them, say on one scale.

        Args:
            scale: Id of grading rules, such as `s_icdr` or `s_desp.r`.
            facts: Facts of the glossary; what is not given is unknown, never absent.

        Raises:
            KnowledgeError: no such rules, or a fact that the glossary does not hold.
        """
        if scale not in self.rules:
            raise KnowledgeError(
                f"There are no rules for `{scale[:60]}`", fix=f"Use one of {', '.join(self.rules)}"
            )
        strange = sorted({*facts.whole, *facts.quadrants} - set(self.facts))
        if strange:
            raise KnowledgeError(f"The glossary of the rules holds no fact `{strange[0][:60]}`")
        ratio = self.entries.get("b_vcdr")
        limits = [part.by_disc_diameter for part in ratio.ranges] if ratio else []
        return grade(self.rules[scale], with_derived(facts, next(filter(None, limits), ())))

    def told(self, step: Step) -> Step:
        """A step of a grading with the names of its facts: `no microaneurysms`."""
        return in_words(step, self.facts)

    def check(self, output_names: Collection[str]) -> list[str]:
        """What does not fit between the knowledge base and the plugins' outputs.

        Args:
            output_names: Every measurement and finding that an installed plugin declares.

        Returns:
            One line per gap, none when all is well.
        """
        gaps = []
        claimed: dict[str, str] = {}
        for entry in self.entries.values():
            where = self._files[entry.id]
            for name in entry.outputs:
                if name in claimed:
                    gaps.append(f"{where}: output `{name}` also belongs to `{claimed[name]}`")
                claimed[name] = entry.id
            gaps += [
                f"{where}: the range for `{part.output}` is not about one of its outputs"
                for part in entry.ranges
                if part.output not in entry.outputs
            ]
        gaps += [
            f"output `{name}`: no entry of the knowledge base is about it"
            for name in sorted(output_names)
            if self.about_output(name) is None
        ]
        gaps += [
            f"rules/{identifier}.yaml: {problem}" if identifier else f"{FACTS}: {problem}"
            for identifier, problem in check_rules(self.rules, self.facts, self.entries)
        ]
        used = {source.key for entry in self.entries.values() for source in entry.sources}
        used |= {key for rules in self.rules.values() for key in rules.cite}
        gaps += [f"references.yaml: `{k}` is never cited" for k in self.references if k not in used]
        return gaps

    def without_plugin(self, output_names: Collection[str]) -> list[str]:
        """Outputs that an entry explains but no installed plugin gives, in order of their names."""
        return sorted(name for name in self._by_output if name not in output_names)

    def with_cohort(self, result: contract.Result, made_by: str) -> contract.Result:
        """The result whose measurements say where they lie in one's own cohort.

        Only the host knows this: what a plugin claims about a cohort is taken off.

        Args:
            result: As the plugin returned it.
            made_by: Tools and versions that made it; a cohort of others is not compared with.
        """
        measurements = tuple(
            m.model_copy(update={"cohort": self.norms.place(m, made_by) if self.norms else None})
            for m in result.measurements
        )
        return result.model_copy(update={"measurements": measurements})

    def compare_to_range(
        self,
        biomarker_id: str,
        value: float,
        *,
        output: str,
        method: str,
        disc_diameter_mm: float | None = None,
    ) -> RangeComparison:
        """Where `value` lies in the reference range of the same measuring method.

        Reference values of one method are never applied to another: published
        methods differ by more than two standard deviations.

        Args:
            biomarker_id: Entry of kind `biomarker`.
            value: In the unit of the range.
            output: Measurement name.
            method: The measurement's method, compared word for word.
            disc_diameter_mm: Vertical disc diameter in mm, for ranges that depend on it.
        """
        ranges = [part for part in self.get(biomarker_id).ranges if part.output == output]
        if not ranges:
            return RangeComparison(None, "The knowledge base holds no reference values for it")
        same = [part for part in ranges if _plain(part.method) == _plain(method)]
        if not same:
            return RangeComparison(
                None, "The reference values were made by another method, and methods do not agree"
            )
        bounds = _bounds(same[0], disc_diameter_mm)
        if isinstance(bounds, str):
            return RangeComparison(None, bounds)
        low, high = bounds
        position: Literal["within", "above", "below"] = "within"
        if value > high:
            position = "above"
        elif low is not None and value < low:
            position = "below"
        return RangeComparison(position, same[0].population, low, high)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".")


def _bounds(part: Range, disc_diameter_mm: float | None) -> tuple[float | None, float] | str:
    if part.mean is not None and part.sd is not None:
        return part.mean - Z_95 * part.sd, part.mean + Z_95 * part.sd
    if disc_diameter_mm is None:
        return "The limit depends on the disc diameter in millimetres, which is not known"
    high = upper_limit(part.by_disc_diameter, disc_diameter_mm)
    if high is None:
        return "The disc diameter lies outside the sizes that the source covers"
    return None, high
