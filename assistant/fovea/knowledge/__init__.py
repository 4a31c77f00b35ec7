"""The knowledge base: entries with sources, exact look-up, search and ranges.

The statements are YAML under `knowledge/fovea_knowledge`; no code there, no
clinical numbers here.
"""

from fovea.knowledge.base import Knowledge, RangeComparison
from fovea.knowledge.loading import load
from fovea.knowledge.models import Entry, Reference

__all__ = ["Entry", "Knowledge", "RangeComparison", "Reference", "load"]
