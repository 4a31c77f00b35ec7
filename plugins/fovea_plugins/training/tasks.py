"""The tasks by name, and what can be done with them: train and evaluate.

A task is one module with `make(root) -> trainer.Task`, `SCHEDULE`,
`evaluate(root, weights) -> dict` and `finish(root, weights)`, which settles what is
chosen after training; it is imported when it is first asked for. A task that takes no
training steps has `fit(root, out, *, seed) -> Path` in place of the others but `evaluate`.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from fovea.errors import ConfigError

TASKS = {
    "vessels": "fovea_plugins.training.vessels",
    "artery_vein": "fovea_plugins.training.artery_vein",
    "lesions": "fovea_plugins.training.lesions",
    "optic_disc": "fovea_plugins.training.optic_disc",
    "classifier": "fovea_plugins.training.classifier",
    "probe": "fovea_plugins.training.probe",
    "landmarks": "fovea_plugins.training.landmarks",
    "quality": "fovea_plugins.training.quality",
    "retrieval": "fovea_plugins.retrieval.task",
}
"""Module of each task. One more task is one more line and one more module."""

log = logging.getLogger(__name__)


def _module(name: str) -> Any:
    if name not in TASKS:
        raise ConfigError(
            f"There is no training task `{name}`",
            where="NAME",
            fix=f"Choose one of: {', '.join(sorted(TASKS))}",
        )
    return import_module(TASKS[name])


def train(
    name: str,
    root: Path,
    *,
    out: Path,
    minutes: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    resume: bool = False,
    start: Path | None = None,
) -> Path:
    """Trains a task and gives the file of the best weights.

    Args:
        name: A key of `TASKS`.
        root: A data set, or a folder of data sets.
        out: Folder for checkpoint and weights.
        minutes: Longest training time, over all resumed parts; None: the task's own.
        steps: Most optimiser steps; None: the task's own.
        seed: Of weights, batches and augmentation.
        resume: Go on from the checkpoint in `out`, if there is one.
        start: Begin with these weights instead of random ones.

    Raises:
        ConfigError: no such task, or a limit for a task that takes no steps.
        UnreadableImage: no usable data below `root`.
    """
    from fovea_plugins.training.trainer import Trainer

    module = _module(name)
    if hasattr(module, "fit"):
        if minutes is not None or steps is not None or start is not None or resume:
            raise ConfigError(
                f"The task `{name}` is fitted in one go",
                where="NAME",
                fix="Leave out minutes, steps, start and resume",
            )
        fitted: Path = module.fit(root, out, seed=seed)
        return fitted
    schedule = replace(module.SCHEDULE, seed=seed)
    if minutes is not None:
        schedule = replace(schedule, minutes=minutes)
    if steps is not None:
        schedule = replace(schedule, steps=steps)
    trainer = Trainer(module.make(root), out, schedule)
    if start is not None:
        trainer.start_from(start)
    if resume:
        log.info("going on from step %d", trainer.done if trainer.resume() else 0)
    path = trainer.run()
    module.finish(root, path)
    return path


def evaluate(name: str, root: Path, *, weights: Path | None = None) -> dict[str, Any]:
    """Figures of a task's weights on the photographs below `root` that it did not see.

    Args:
        name: A key of `TASKS`.
        root: A data set, or a folder of data sets.
        weights: Weight file; None: the shipped one.

    Raises:
        ConfigError: no such task.
        UnreadableImage: no usable data below `root`.
    """
    figures: dict[str, Any] = _module(name).evaluate(root, weights)
    return figures
