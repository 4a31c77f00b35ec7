"""The knowledge base: entries with sources, exact look-up, search, ranges and grades.

The statements are YAML under `knowledge/fovea_knowledge`; no code there, no
clinical numbers here.
"""

from fovea.knowledge.base import Knowledge, RangeComparison
from fovea.knowledge.clauses import Bounds, Facts
from fovea.knowledge.loading import load
from fovea.knowledge.models import Entry, Reference
from fovea.knowledge.rules import Grading, NotGraded, ScaleRules

__all__ = [
    "Bounds", "Entry", "Facts", "Grading", "Knowledge", "NotGraded", "RangeComparison", "Reference",
    "ScaleRules", "load",
]  # fmt: skip
