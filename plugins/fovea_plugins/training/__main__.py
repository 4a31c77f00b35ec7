"""`python -m fovea_plugins.training NAME --data DIR --out DIR`: train, or measure weights."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

import cv2
import torch

from fovea_plugins.training.tasks import TASKS, evaluate, train


def main() -> None:
    """Reads the arguments; progress goes to stderr, figures as JSON to stdout."""
    parser = argparse.ArgumentParser(prog="python -m fovea_plugins.training")
    parser.add_argument("name", choices=sorted(TASKS))
    parser.add_argument("--data", type=Path, required=True, help="a data set, or a folder of them")
    parser.add_argument("--out", type=Path, help="train, and write weights here")
    parser.add_argument("--weights", type=Path, help="measure these weights")
    parser.add_argument("--minutes", type=float, help="longest training time")
    parser.add_argument("--steps", type=int, help="most optimiser steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="processor threads; default: all")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    parser.add_argument("--start", type=Path, help="begin with these weights, not at random")
    given = parser.parse_args()
    if (given.out is None) == (given.weights is None):
        parser.error("give either --out (to train) or --weights (to measure)")
    if given.threads:
        torch.set_num_threads(given.threads)
        cv2.setNumThreads(given.threads)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr
    )
    if given.out is not None:
        path = train(
            given.name,
            given.data,
            out=given.out,
            minutes=given.minutes,
            steps=given.steps,
            seed=given.seed,
            resume=given.resume,
            start=given.start,
        )
        report = {"weights": path.name}
    else:
        report = evaluate(given.name, given.data, weights=given.weights)
    sys.stdout.write(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
