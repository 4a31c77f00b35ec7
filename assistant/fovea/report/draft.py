"""Draft a report in a session: run what is missing, compile, check, keep."""

from __future__ import annotations

import datetime
import itertools
import platform
import time
from collections.abc import Generator
from typing import TYPE_CHECKING

import fovea
from fovea.contract import Result
from fovea.errors import NotApplicable, PluginError
from fovea.events import Called, CallStarted, Event, Refused, ReportDrafted
from fovea.evidence import Evidence, Provenance
from fovea.report.compile import Report, compile_report
from fovea.report.model import History
from fovea.report.render import render_json, render_markdown
from fovea.session import StoredReport

if TYPE_CHECKING:
    from fovea.workbench import Workbench

TOOL = "draft_report"


def draft_report(
    workbench: Workbench, history: History | None = None
) -> Generator[Event, None, Evidence]:
    """Draft a report over all photographs; yields events and returns its evidence.

    A tool that refuses leaves a section that says why; it never stops the report.

    Args:
        workbench: The tools, applied to one session.
        history: What was told about the person; nothing when omitted.

    Raises:
        NotApplicable: there is no photograph.
    """
    session = workbench.session
    number = len(session.reports) + 1
    call_id = f"report{number}"
    yield CallStarted(
        call_id=call_id, tool=TOOL, title="Draft report", arguments={}, images=tuple(session.images)
    )
    clock = time.perf_counter()
    if not session.images:
        error = NotApplicable(
            TOOL, "There is no photograph in this session", fix="Add one and ask again"
        )
        yield Refused(call_id=call_id, tool=TOOL, error=error.code, reason=str(error), seconds=0.0)
        raise error
    healthy = workbench.registry.healthy_names()
    refused = {
        tool: "It is installed but cannot run. Run `fovea doctor` to see why"
        for tool in workbench.registry.names()
        if tool not in healthy
    }
    used: list[Evidence] = []
    for tool in workbench.registry.unasked_names():
        if workbench.registry.manifest(tool).inputs.images != 1:
            continue
        for handle in session.images:
            try:
                used.append((yield from workbench.run(tool, {}, (handle,), parent=call_id)))
            except PluginError as problem:
                refused[f"{tool} {handle}"] = str(problem)
    handles = tuple(session.images)
    for tool in workbench.registry.unasked_names():
        if workbench.registry.manifest(tool).inputs.images != 2:
            continue
        for pair in itertools.pairwise(handles):
            try:
                used.append((yield from workbench.run(tool, {}, pair, parent=call_id)))
            except PluginError as problem:
                refused[f"{tool} {' '.join(pair)}"] = str(problem)
    guidelines = session.settings.guideline_set
    report = compile_report(
        images=tuple(session.images.values()),
        evidence=tuple(used),
        knowledge=workbench.knowledge,
        refused=refused,
        history=history,
        guideline_set=None if guidelines == "all" else guidelines,
    )
    evidence = _keep(workbench, f"R{number}", report, used, clock)
    seconds = time.perf_counter() - clock
    yield Called(call_id=call_id, evidence=evidence, seconds=seconds, reused=False)
    yield ReportDrafted(report_id=f"R{number}")
    return evidence


def _keep(
    workbench: Workbench, report_id: str, report: Report, used: list[Evidence], clock: float
) -> Evidence:
    session = workbench.session
    (session.folder / f"{report_id}.json").write_text(render_json(report), encoding="utf-8")
    (session.folder / f"{report_id}.md").write_text(render_markdown(report), encoding="utf-8")
    filled = sum(1 for section in report.sections if section.state == "filled")
    evidence = Evidence(
        id=session.next_evidence_id(),
        tool=TOOL,
        images=tuple(session.images),
        result=Result(
            summary=f"Draft report {report_id} with {len(report.sections)} sections, "
            f"{filled} of them filled."
        ),
        provenance=Provenance(
            plugin=TOOL,
            plugin_version=fovea.__version__,
            weights_sha256={},
            image_sha256=tuple(record.sha256 for record in session.images.values()),
            arguments={"report": report_id},
            preprocessing=(),
            used=tuple(e.id for e in used),
            seed=0,
            started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            seconds=round(time.perf_counter() - clock, 4),
            libraries={"python": platform.python_version()},
        ),
    )
    session.evidence[evidence.id] = evidence
    session.reports.append(StoredReport(id=report_id, evidence_id=evidence.id))
    return evidence
