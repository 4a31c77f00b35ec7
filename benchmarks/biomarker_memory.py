"""The highest resident size of a process, read the same way for every toolbox."""

from __future__ import annotations

from pathlib import Path


def peak_mb() -> float:
    """Highest resident size of this process so far, the interpreter included."""
    status = Path("/proc/self/status")
    if status.exists():  # where it does, `ru_maxrss` starts from that of the parent process
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
