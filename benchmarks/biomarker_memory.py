"""The highest resident size of a process, read the same way for every toolbox."""

from __future__ import annotations

import sys
from pathlib import Path


def peak_mb() -> float:
    """Highest resident size of this process so far in MiB, the interpreter included."""
    status = Path("/proc/self/status")
    if status.exists():  # where it does, `ru_maxrss` starts from that of the parent process
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
