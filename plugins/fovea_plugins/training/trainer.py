"""The training loop that all tasks share."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.safetensors"
"""Everything that a run needs to go on. Not a pickle: reading it runs no code."""


class Task(Protocol):
    """What a task gives to the loop: data, network, loss and validation."""

    facts: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Of the task, and of the weight file."""

    def network(self) -> nn.Module:
        """A new network; its `config.as_dict()` is stored with the weights."""

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """One random training batch."""

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """A scalar to be made small."""

    def validate(self, network: Any) -> dict[str, float]:
        """Figures on held-out samples; `score` decides which weights are kept."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train.

    Attributes:
        steps: Optimiser steps at most.
        minutes: Training time at most, over all resumed parts; None: no limit.
        learning_rate: Highest rate: reached after `warm_up`, then a half cosine to 0
            over the steps or the minutes, whichever runs out first.
        warm_up: Share of the run.
        ema: Decay of the running mean of the weights, per step.
        validate_minutes, checkpoint_minutes: Intervals.
        first_validation: Share of the run before which nothing is validated.
        seed: Of weights, batches and augmentation.
    """

    steps: int = 20_000
    minutes: float | None = None
    learning_rate: float = 5e-3
    weight_decay: float = 1e-3
    warm_up: float = 0.03
    ema: float = 0.995
    validate_minutes: float = 5.0
    checkpoint_minutes: float = 2.0
    first_validation: float = 0.05
    seed: int = 0


class Trainer:
    """One run: `step` and `save` as often as needed, or `run` to the end.

    Args:
        task: What to train.
        out: Folder of checkpoint and weights; made if missing.
        schedule: How long and how fast.
    """

    def __init__(self, task: Task, out: Path, schedule: Schedule) -> None:
        self.task, self.out, self.schedule = task, out, schedule
        out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(schedule.seed)
        self.rng = np.random.default_rng(schedule.seed)
        self.network, self.mean = task.network(), task.network()
        for one in (self.network, self.mean):
            one.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.mean.load_state_dict(self.network.state_dict())
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(),
            lr=schedule.learning_rate,
            weight_decay=schedule.weight_decay,
        )
        self.done = 0
        self.seconds = 0.0
        self.best: dict[str, float] = {}

    @property
    def weights(self) -> Path:
        """The file of the best weights so far."""
        return self.out / f"{self.task.name}.safetensors"

    @property
    def progress(self) -> float:
        """Share of the run that is over, 0 to 1."""
        by_steps = self.done / self.schedule.steps
        minutes = self.schedule.minutes
        by_time = self.seconds / (60.0 * minutes) if minutes else 0.0
        return min(1.0, max(by_steps, by_time))

    def run(self) -> Path:
        """Trains until steps or minutes are used up; gives the file of the best weights."""
        validated = saved = self.seconds
        recent: list[float] = []
        while self.progress < 1.0:
            started = time.monotonic()
            recent.append(self.step())
            self.seconds += time.monotonic() - started
            if self.done % 50 == 0:
                log.info(
                    "step %d, %.1f min, %.0f %%, loss %.4f",
                    *(self.done, self.seconds / 60, 100 * self.progress, np.mean(recent)),
                )
                recent.clear()
            due = self.seconds - validated > 60 * self.schedule.validate_minutes
            if due and self.progress > self.schedule.first_validation:
                self.validate()
                validated = self.seconds
            if self.seconds - saved > 60 * self.schedule.checkpoint_minutes:
                self.save()
                saved = self.seconds
        self.validate()
        self.save()
        return self.weights

    def step(self) -> float:
        """One optimiser step on one batch; gives its loss."""
        self.network.train()
        for group in self.optimiser.param_groups:
            group["lr"] = self.schedule.learning_rate * _rate(self.progress, self.schedule.warm_up)
        batch = self.task.batch(self.rng)
        loss = self.task.loss(self.network, batch)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self.done += 1
        # Early weights are forgotten faster: the mean must not remember the random start.
        keep = min(self.schedule.ema, (1 + self.done) / (10 + self.done))
        with torch.no_grad():
            new = self.network.state_dict()
            for name, mean in self.mean.state_dict().items():
                if mean.is_floating_point():
                    mean.lerp_(new[name], 1.0 - keep)
                else:
                    mean.copy_(new[name])
        return float(loss.detach())

    def validate(self) -> dict[str, float]:
        """Judges the averaged weights, and keeps them when they are the best so far."""
        figures = self.task.validate(self.mean.eval())
        text = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
        log.info("step %d: %s", self.done, text)
        if figures["score"] > self.best.get("score", -math.inf):
            self.best = {**figures, "step": float(self.done)}
            self.export(self.weights)
        return figures

    def export(self, path: Path) -> None:
        """Writes the averaged weights, with how they came about, as safetensors."""
        config = getattr(self.mean, "config", None)
        facts = {
            **self.task.facts,
            "network": config.as_dict() if config else None,
            "schedule": asdict(self.schedule),
            "step": self.done,
            "minutes": round(self.seconds / 60, 1),
            "validation": self.best,
        }
        tensors = {name: value.contiguous() for name, value in self.mean.state_dict().items()}
        write_weights(tensors, path, facts)

    def save(self) -> None:
        """Writes everything that the run needs to go on from here."""
        tensors = {f"network/{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"mean/{k}": v for k, v in self.mean.state_dict().items()}
        for index, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser/{index}/{k}": v for k, v in state.items()}
        tensors["torch_rng"] = torch.get_rng_state()
        facts = {
            "step": self.done,
            "seconds": self.seconds,
            "best": self.best,
            "rng": self.rng.bit_generator.state,
        }
        write_weights({k: v.contiguous() for k, v in tensors.items()}, self.out / CHECKPOINT, facts)

    def start_from(self, weights: Path) -> None:
        """Begins with the weights of another run of the same network, not with random ones."""
        with safe_open(weights, framework="pt") as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        self.network.load_state_dict(tensors)
        self.mean.load_state_dict(tensors)

    def resume(self) -> bool:
        """Goes back to the last checkpoint; False when there is none."""
        path = self.out / CHECKPOINT
        if not path.exists():
            return False
        with safe_open(path, framework="pt") as stored:
            facts = json.loads(stored.metadata()["fovea"])
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        self.network.load_state_dict(_below(tensors, "network/"))
        self.mean.load_state_dict(_below(tensors, "mean/"))
        states: dict[int, dict[str, Tensor]] = {}
        for name, value in _below(tensors, "optimiser/").items():
            index, key = name.split("/")
            states.setdefault(int(index), {})[key] = value
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": states})
        torch.set_rng_state(tensors["torch_rng"])
        self.done, self.seconds, self.best = facts["step"], facts["seconds"], facts["best"]
        self.rng.bit_generator.state = facts["rng"]
        return True


def read_facts(path: Path) -> dict[str, Any]:
    """What a weight file says about itself."""
    with safe_open(path, framework="pt") as stored:
        facts: dict[str, Any] = json.loads(stored.metadata()["fovea"])
    return facts


def add_facts(path: Path, more: Mapping[str, Any]) -> None:
    """Writes more facts into a weight file, or changes them."""
    with safe_open(path, framework="pt") as stored:
        facts = json.loads(stored.metadata()["fovea"])
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    write_weights(tensors, path, {**facts, **more})


def _rate(progress: float, warm_up: float) -> float:
    """Share of the highest learning rate: a line up, then a half cosine down to 1 %."""
    if progress < warm_up:
        return 0.05 + 0.95 * progress / warm_up
    rest = (progress - warm_up) / (1.0 - warm_up)
    return 0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * rest))


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def write_weights(tensors: dict[str, Tensor], path: Path, facts: Mapping[str, Any]) -> None:
    """Replaces the file in one go: a run that is stopped while writing keeps the old one."""
    unfinished = path.with_suffix(".part")
    try:
        save_file(tensors, unfinished, metadata={"fovea": json.dumps(facts)})
        unfinished.replace(path)
    finally:
        with suppress(FileNotFoundError):
            unfinished.unlink()
