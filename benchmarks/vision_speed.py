"""Seconds and memory of the vision tools on a 2-megapixel photograph, warm.

Run: python benchmarks/vision_speed.py [--rounds N] [--photograph FILE]

Each tool is timed in a process of its own, with its prerequisites done beforehand.
Memory is the highest resident size of that process, the interpreter included.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOOLS = ("assess_quality", "segment_vessels", "segment_optic_disc", "segment_lesions")


def measure(tool: str, photograph: Path | None, rounds: int) -> dict[str, float]:
    """Median seconds of one tool, and the peak memory of this process in MB."""
    from fovea.contract import Context
    from fovea.image import open_photograph
    from fovea.registry import Registry
    from fovea.samples import sample_photograph
    from fovea.settings import Settings

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        picture = open_photograph(photograph or sample_photograph(work))
        registry = Registry.discover(Settings(data_dir=work / "data"))
        gate = registry.load("assess_quality")
        found = gate.run(Context((picture,), work), gate.Args())
        names = {m.name for m in found.measurements} | {f.concept for f in found.findings}
        context = Context((picture,), work, dict.fromkeys(names, found))
        plugin = registry.load(tool)
        plugin.run(context, plugin.Args())
        seconds = []
        for _ in range(rounds):
            started = time.perf_counter()
            plugin.run(context, plugin.Args())
            seconds.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    megapixels = picture.width * picture.height / 1e6
    return {"seconds": statistics.median(seconds), "peak_mb": peak, "megapixels": megapixels}


def main() -> None:
    """Print one line per tool."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--photograph", type=Path)
    parser.add_argument("--tool", choices=TOOLS, help="measure this one here, print JSON")
    given = parser.parse_args()
    if given.tool:
        print(json.dumps(measure(given.tool, given.photograph, given.rounds)))
        return
    for tool in TOOLS:
        command = [sys.executable, __file__, "--tool", tool, "--rounds", str(given.rounds)]
        if given.photograph:
            command += ["--photograph", str(given.photograph)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        figures = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{tool:20}{figures['seconds']:7.2f} s  {figures['peak_mb']:6.0f} MB"
            f"  ({figures['megapixels']:.1f} megapixels)"
        )


if __name__ == "__main__":
    main()
