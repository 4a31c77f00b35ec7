"""How long a first and a second question take, as ratios within one run.

Run: python benchmarks/turn_speed.py [--rounds N]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

QUESTION = "What is the cup-to-disc ratio, and how dense are the vessels?"


def import_seconds() -> float:
    """Seconds that `import fovea` takes in a fresh interpreter, the interpreter's own start off."""
    timed = "import time; t = time.perf_counter(); import fovea; print(time.perf_counter() - t)"
    out = subprocess.run(
        [sys.executable, "-c", timed], capture_output=True, text=True, check=True
    ).stdout
    return float(out)


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds

    from fovea.assistant import Assistant
    from fovea.samples import sample_photograph
    from fovea.settings import Settings

    first, second, calls = [], [], {}
    with tempfile.TemporaryDirectory() as folder:
        photograph = sample_photograph(Path(folder))
        assistant = Assistant(Settings(data_dir=Path(folder) / "data"))
        for _ in range(rounds):
            session = assistant.store.create()
            clock = time.perf_counter()
            answer = assistant.ask([photograph], QUESTION, session=session)
            first.append(time.perf_counter() - clock)
            for call in answer.calls:
                calls.setdefault(call.tool, []).append(call.seconds)
            clock = time.perf_counter()
            assistant.ask([], QUESTION, session=session)
            second.append(time.perf_counter() - clock)
    whole = statistics.median(first)
    print(f"import fovea            {import_seconds() / whole:8.3f} of a first answer")
    print(f"first answer            {whole:8.2f} s (median of {rounds}, decoding included)")
    print(f"second answer           {statistics.median(second) / whole:8.3f} of the first")
    for tool, seconds in sorted(calls.items()):
        print(f"  {tool:22}{statistics.median(seconds) / whole:8.3f} of the first answer")


if __name__ == "__main__":
    main()
