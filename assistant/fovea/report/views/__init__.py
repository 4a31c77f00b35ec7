"""Files that show a report: each is a view of the same data."""

from fovea.report.views.material import Material
from fovea.report.views.writers import ENDINGS, ending_of, report_files, write_report

__all__ = ["ENDINGS", "Material", "ending_of", "report_files", "write_report"]
