"""Which view belongs to which ending; a view and its library load only when asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

from fovea.errors import ConfigError, FoveaError
from fovea.report.views.material import Material

ENDINGS: Mapping[str, str] = {
    ".json": "text:json_bytes",
    ".md": "text:markdown_bytes",
    ".html": "html:html_bytes",
    ".pdf": "pdf:pdf_bytes",
    ".docx": "docx:docx_bytes",
    ".fhir.json": "fhir:fhir_bytes",
    ".dcm": "dicom:dicom_files",
}
"""File ending to the module of this package and the function that gives the file."""


def ending_of(name: str) -> str:
    """The ending of a file name that a report can be written to.

    Raises:
        FoveaError: there is no such format; names those that there are.
    """
    # FHIR is a format of its own, not a JSON file of any name.
    found = ".fhir.json" if name.endswith(".fhir.json") else Path(name).suffix
    if found not in ENDINGS:
        raise FoveaError(
            f"There is no report format `{found or name}`",
            fix=f"Use a file name that ends in {', '.join(ENDINGS)}",
        )
    return found


def write_report(material: Material, out: Path) -> Path:
    """Writes a report in the format that the ending of `out` names.

    DICOM is several files: beside `r.dcm`, each photograph (`r.img1.dcm`) and its masks
    (`r.img1.masks.dcm`).

    Raises:
        FoveaError: there is no such format.
        ConfigError: the library that writes it is not installed.
    """
    for before, content in report_files(material, ending_of(out.name)).items():
        out.with_suffix(before + out.suffix if before else out.suffix).write_bytes(content)
    return out


def report_files(material: Material, ending: str) -> dict[str, bytes]:
    """The files of one format, by what stands before the ending: nothing, or `.img1`.

    Args:
        material: The report and what it shows.
        ending: One of `ENDINGS`.

    Raises:
        ConfigError: the library that writes it is not installed.
    """
    module, _, function = ENDINGS[ending].partition(":")
    try:
        view = import_module(f"fovea.report.views.{module}")
    except ModuleNotFoundError as error:
        extra = "dicom" if module == "dicom" else "export"
        raise ConfigError(
            f"`{ending}` files need the library `{error.name}`",
            fix=f"Install Fovea with its exports: pip install 'fovea-assistant[{extra}]'",
        ) from error
    make: Callable[[Material], bytes | dict[str, bytes]] = getattr(view, function)
    made = make(material)
    return made if isinstance(made, dict) else {"": made}
