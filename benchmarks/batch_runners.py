"""`fovea batch` in one process and on a Ray cluster: equal tables, nothing twice, and the time.

    python benchmarks/batch_runners.py PHOTOGRAPHS [--count 200] [--only assess_quality]

The first photographs of the folder (of several sizes and no photographs are welcome) are
measured three times: by the local runner, by a local Ray cluster of two workers, and by
such a cluster that is interrupted (SIGINT) after a quarter of the rows and started again.
The clock tells little on a loaded machine: processor seconds of all processes are printed
beside it. Without PHOTOGRAPHS, synthetic fundi are drawn.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import cv2
import psutil

from fovea.synthetic import synthetic_fundus

TABLES = ("results.csv", "errors.csv", "not_measured.csv")


def fill(folder: Path, source: Path | None, count: int) -> None:
    """Put `count` photographs into an empty folder."""
    folder.mkdir()
    if source is None:
        for number in range(count):
            fundus = synthetic_fundus(320, 340, seed=number)
            picture = cv2.cvtColor(fundus.pixels, cv2.COLOR_RGB2BGR)
            cv2.imwrite(str(folder / f"{number:03d}.png"), picture)
        return
    found = sorted(p for p in source.rglob("*") if p.suffix.lower() in {".jpg", ".png", ".tif"})
    if len(found) < count:
        raise SystemExit(f"{source.name} holds {len(found)} photographs, {count} are needed")
    for number, path in enumerate(found[:count]):
        shutil.copyfile(path, folder / f"{number:03d}{path.suffix.lower()}")


def rows_in(out: Path) -> int:
    """Rows on disk so far."""
    journal = out / "rows.jsonl"
    return max(0, journal.read_bytes().count(b"\n") - 1) if journal.is_file() else 0


def processor_s(process: psutil.Popen, used: dict[int, float]) -> None:
    """Note the processor seconds of a process and of all that it started."""
    try:
        for each in (process, *process.children(recursive=True)):
            times = each.cpu_times()
            used[each.pid] = times.user + times.system
    except psutil.Error:
        pass  # it ended meanwhile


def run(command: list[str], out: Path, *, stop_at: int | None = None) -> tuple[float, float]:
    """Clock and processor seconds of one run; SIGINT once there are `stop_at` rows."""
    started, used = time.perf_counter(), dict[int, float]()
    with (out.parent / f"{out.name}.log").open("ab") as log:
        process = psutil.Popen(command, stdout=log, stderr=log)
        while process.poll() is None:
            processor_s(process, used)
            if stop_at is not None and rows_in(out) >= stop_at:
                process.send_signal(signal.SIGINT)
                stop_at = None
            time.sleep(0.2)
    return time.perf_counter() - started, sum(used.values())


def main() -> None:
    """Measure, compare and print; exit code 1 when tables differ or work was done twice."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photographs", type=Path, nargs="?")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--only", default="assess_quality")
    given = parser.parse_args()
    # A shell starts what it puts into the background with SIGINT ignored, and so would we.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as made:
        base = Path(made)
        fill(base / "photographs", given.photographs, given.count)
        os.environ["FOVEA_DATA_DIR"] = str(base / "data")
        os.environ.setdefault("OMP_NUM_THREADS", "1")

        def command(out: str, *more: str) -> list[str]:
            start = [sys.executable, "-c", "from fovea.cli import main; main()", "batch"]
            return [*start, str(base / "photographs"), "--out", str(base / out),
                    "--only", given.only, *more]  # fmt: skip

        ray = ("--runner", "ray", "--workers", "2")
        local = run(command("local"), base / "local")
        spread = run(command("ray", *ray), base / "ray")
        run(command("stopped", *ray), base / "stopped", stop_at=given.count // 4)
        kept = rows_in(base / "stopped")
        run(command("stopped", *ray), base / "stopped")

        print(f"{given.count} photographs, {given.only}, load {os.getloadavg()[0]:.1f} of "
              f"{len(os.sched_getaffinity(0))} cores")  # fmt: skip
        print(f"local: {local[0]:.0f} s ({local[1]:.0f} s of processor time)")
        print(f"ray, two workers: {spread[0]:.0f} s ({spread[1]:.0f} s of processor time)")
        same = {name: len({(base / out / name).read_bytes() for out in ("local", "ray", "stopped")})
                == 1 for name in TABLES}  # fmt: skip
        print("equal tables: " + ", ".join(f"{n} {'yes' if s else 'NO'}" for n, s in same.items()))
        lines = (base / "stopped" / "rows.jsonl").read_text().splitlines()[1:]
        twice = len(lines) - len({json.loads(line)["file"] for line in lines})
        print(f"interrupted after {kept} rows, continued: {len(lines)} rows, {twice} made twice")
    raise SystemExit(0 if all(same.values()) and not twice and len(lines) == given.count else 1)


if __name__ == "__main__":
    main()
