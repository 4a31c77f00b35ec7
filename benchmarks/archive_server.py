"""The archive on a PostgreSQL server: time to add, to build the graph, and to search.

    PGPASSWORD=... python benchmarks/archive_server.py postgresql://fovea@127.0.0.1/empty

The vectors are those of `benchmarks/retrieval.py`. The database must hold no archive, and
keeps the one that is made. Times are by the clock, since the server is another process.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
from retrieval import K, drawn_vectors

from fovea.archive import NewCase
from fovea.archive.served import ServedArchive

ENCODER, AT_ONCE, QUESTIONS = "benchmark", 1000, 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="address of an empty database with pgvector")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=384)
    asked = parser.parse_args()
    vectors, questions = drawn_vectors(asked.count, asked.dim, QUESTIONS)
    with (
        tempfile.TemporaryDirectory() as key_folder,
        closing(ServedArchive.open(asked.url, Path(key_folder))) as archive,
    ):
        if archive.encoders():
            parser.error("the database holds an archive")
        started = time.perf_counter()
        for start in range(0, asked.count, AT_ONCE):
            archive.add_many(
                [
                    NewCase(f"{start + n:064x}", ENCODER, vector, thumbnail=None)
                    for n, vector in enumerate(vectors[start : start + AT_ONCE])
                ]
            )
        took = time.perf_counter() - started
        print(f"added {asked.count} cases, {1000 * took / asked.count:.1f} ms each")
        truth: list[set[str]] = []
        for kind in ("flat", "hnsw"):
            started = time.perf_counter()
            [built] = archive.rebuild(kind).values()
            took = time.perf_counter() - started
            times, hits = [], 0
            for number, question in enumerate(questions):
                started = time.perf_counter()
                found = {case.case_id for case in archive.search(ENCODER, question, K)}
                times.append(1000 * (time.perf_counter() - started))
                if kind == "flat":
                    truth.append(found)
                hits += len(found & truth[number])
            p50, p95 = np.percentile(times, (50, 95))
            print(
                f"{built.kind}: built in {took:.0f} s, recall@{K} {hits / (K * QUESTIONS):.3f}, "
                f"p50 {p50:.1f} ms, p95 {p95:.1f} ms"
            )


if __name__ == "__main__":
    main()
