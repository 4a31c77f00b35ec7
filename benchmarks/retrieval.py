"""Recall, speed and memory of the archive's indexes, side by side.

    python benchmarks/retrieval.py [--counts 100000,1000000] [--dim 384] [--kinds flat,ivf,hnsw]

The vectors are drawn: unit vectors around `count / 50` centres, of an intrinsic dimension
of 32, which is how embeddings of photographs lie; independent directions would be far
harder, and no archive looks like that. They are no photographs: how well the encoder
tells eyes apart is measured by `fovea evaluate retrieval`. The questions are drawn from
the same centres and are not in the index. Each index is built as the archive builds it
(the same function, the same choice of width) and asked as the archive asks it, one
question at a time; candidates of rounded indexes are compared again with float16 vectors,
as the archive does. What else the machine did shows as the difference between clock and
processor time. A million vectors take most of an hour on one core.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from fovea.archive.index import build_index, kind_for
from fovea.archive.records import Vector

INTRINSIC, PER_CENTRE, SPREAD = 32, 50, 0.6
QUESTIONS = 1000
K = 10


def drawn_vectors(count: int, dim: int, questions: int, seed: int = 0) -> tuple[Vector, Vector]:
    """Unit vectors (count, dim) and questions (questions, dim), float32."""
    drawn = np.random.default_rng(seed)
    plane = drawn.normal(size=(INTRINSIC, dim)).astype(np.float32)
    centres = drawn.normal(size=(max(1, count // PER_CENTRE), INTRINSIC)).astype(np.float32)

    def around(number: int) -> Vector:
        vectors = np.empty((number, dim), np.float32)
        for start in range(0, number, 50_000):
            part = vectors[start : start + 50_000]
            near = centres[drawn.integers(len(centres), size=len(part))]
            inner = near + SPREAD * drawn.normal(size=near.shape).astype(np.float32)
            part[:] = inner @ plane + 0.3 * drawn.normal(size=part.shape).astype(np.float32)
            part /= np.linalg.norm(part, axis=1, keepdims=True)
        return vectors

    return around(count), around(questions)


def memory_mb(field: str) -> float:
    """Memory of this process in MB: `VmRSS` now, `VmHWM` at its height (Linux only).

    Not `getrusage`, whose height includes that of the process that started this one.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"/proc/self/status tells no {field}")


def measure(folder: Path, kind: str, sender: Connection) -> None:
    """Build one index in a process of its own and send its figures."""
    import faiss

    faiss.omp_set_num_threads(1)
    vectors = np.load(folder / "vectors.npy")
    questions, truth = np.load(folder / "questions.npy"), np.load(folder / "truth.npy")
    numbers = np.arange(1, len(vectors) + 1, dtype=np.int64)
    before = memory_mb("VmRSS")
    started = time.perf_counter()
    cpu = time.process_time()
    index = build_index(kind, numbers, vectors)  # type: ignore[arg-type]
    built, built_cpu = time.perf_counter() - started, time.process_time() - cpu
    grown, height = memory_mb("VmRSS") - before, memory_mb("VmHWM")
    stored = vectors.astype(np.float16)
    del vectors
    nobody = np.zeros(0, np.int64)
    hits, times, cpu_times = 0, [], []
    for question, near in zip(questions, truth, strict=True):
        started, cpu = time.perf_counter(), time.process_time()
        found = index.candidates(question[None], K, banned=nobody)[0]
        found = found[found > 0] - 1
        closeness = stored[found].astype(np.float32) @ question
        found = found[np.argsort(-closeness, kind="stable")[:K]]
        times.append(1000 * (time.perf_counter() - started))
        cpu_times.append(1000 * (time.process_time() - cpu))
        hits += len(np.intersect1d(found, near))
    path = folder / "index.faiss"
    faiss.write_index(index.faiss_index, str(path))
    sender.send(
        (
            index.kind, index.width, index.recall_at_10, hits / (K * len(questions)),
            *np.percentile(times, (50, 95)), *np.percentile(cpu_times, (50, 95)),
            built, built_cpu, grown, height, path.stat().st_size / 1e6,
        )
    )  # fmt: skip


def exact(vectors: Vector, questions: Vector) -> np.ndarray:
    """Positions of the ten nearest vectors of each question, (Q, 10)."""
    import faiss

    return np.asarray(faiss.knn(questions, vectors, K, metric=faiss.METRIC_INNER_PRODUCT)[1])


def main() -> None:
    """Measure and print one line per kind of index."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", default="100000")
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--kinds", default="flat,ivf,hnsw,ivf_sq8")
    given = parser.parse_args()
    for count in given.counts.split(","):
        with tempfile.TemporaryDirectory() as made:
            compare(Path(made), int(count), given.dim, given.kinds.split(","))


def compare(folder: Path, count: int, dim: int, kinds: list[str]) -> None:
    """Print one line per kind of index over the same vectors and questions."""
    vectors, questions = drawn_vectors(count, dim, QUESTIONS)
    np.save(folder / "vectors.npy", vectors)
    np.save(folder / "questions.npy", questions)
    np.save(folder / "truth.npy", exact(vectors, questions))
    del vectors
    print(
        f"{count} x {dim}, {QUESTIONS} questions, one thread of "
        f"{len(os.sched_getaffinity(0))} cores; `auto` is {kind_for(count)}"
    )
    print(
        "kind     width  recall@10 (at build)  p50 ms  p95 ms  CPU p50  CPU p95  "
        "build s (CPU)  index MB  peak MB  file MB  load",
        flush=True,
    )
    for kind in kinds:
        receiver, sender = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("spawn").Process(
            target=measure, args=(folder, kind, sender)
        )
        process.start()
        sender.close()
        used, width, told, recall, *times, built, cpu, grown, height, size = receiver.recv()
        process.join()
        known = "exact" if told is None else f"{told:.3f}"
        print(
            f"{used:8s} {width or '-':>5}  {recall:9.3f} ({known:>8})  "
            + "  ".join(f"{time_ms:6.2f}" for time_ms in times)
            + f"  {built:7.1f} ({cpu:.0f})  {grown:8.0f}  {height:7.0f}  {size:7.0f}  "
            f"{os.getloadavg()[0]:.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
