"""How long a report takes to compile and check on the sample photograph's own evidence.

Run: python benchmarks/report_speed.py [--rounds N]

Process CPU time, so that other programs of the machine do not count as work; each round
makes a new checker, as each report does.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path


def main() -> None:
    """Print sentences, median and 95th percentile."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds

    from fovea.assistant import Assistant
    from fovea.report import draft
    from fovea.report.compile import Report, compile_report
    from fovea.samples import sample_photograph
    from fovea.settings import Settings

    given: list[dict[str, object]] = []

    def recorded(**arguments: object) -> Report:
        given.append(arguments)
        return compile_report(**arguments)  # type: ignore[arg-type]

    draft.compile_report = recorded  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as folder:
        assistant = Assistant(Settings(data_dir=Path(folder) / "data", plugin_timeout_s=600))
        assistant.report([sample_photograph(Path(folder))], Path(folder) / "report.json")
    (arguments,) = given
    seconds = []
    for _ in range(rounds):
        clock = time.process_time()
        report = compile_report(**arguments)  # type: ignore[arg-type]
        seconds.append(time.process_time() - clock)
    told = sum(len(section.sentences) for section in report.sections)
    withheld = [row.value for row in report.section("limitations").rows if "Withheld" in row.label]
    slow = statistics.quantiles(seconds, n=20)[-1]
    print(f"{told} sentences, {len(withheld)} withheld")
    print(
        f"compile and check {1000 * statistics.median(seconds):.0f} ms median, "
        f"{1000 * slow:.0f} ms 95th percentile of {rounds} rounds (CPU)"
    )


if __name__ == "__main__":
    main()
