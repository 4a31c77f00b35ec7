"""Work on many photographs, one after another here or at once on a Ray cluster.

What is done with a photograph is the same in both cases: a recipe makes the worker,
in this process or in each process of the cluster, and the worker takes one item after
the other. Which items are left to do is for the caller to say, and so is keeping what
comes back.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any, Literal, Protocol, TypeVar, get_args

from fovea.errors import ConfigError

Runner = Literal["local", "ray"]
RUNNERS: tuple[Runner, ...] = get_args(Runner)

Item = TypeVar("Item")
Done = TypeVar("Done")
ItemIn = TypeVar("ItemIn", contravariant=True)
DoneOut = TypeVar("DoneOut", covariant=True)

TRIES_AFTER_A_LOSS = 2
"""How often an item is given out again whose worker died; a photograph may be what kills it."""

log = logging.getLogger(__name__)


class Recipe(Protocol[ItemIn, DoneOut]):
    """Makes a worker. It travels to other processes, so it holds plain values only."""

    def __call__(self) -> Callable[[ItemIn], DoneOut]:
        """The worker, ready. It raises nothing that only one item is to blame for."""

    def lost(self, item: ItemIn) -> DoneOut:
        """What to say of an item whose worker died each time it was tried."""


def work_through(
    items: Iterable[Item], recipe: Recipe[Item, Done], *, runner: Runner, workers: int | None = None
) -> Iterator[tuple[Item, Done]]:
    """Each item with what its worker made of it, as soon as it is made.

    Items are taken one at a time when a worker is free, so the caller may decide late
    whether there is a next one. On a cluster they come back in any order.

    Args:
        items: What to work on.
        recipe: Makes the worker.
        runner: `local`: in this process. `ray`: on the cluster that the environment
            variable `RAY_ADDRESS` names, else on one that is started on this machine.
        workers: Processes of `ray`, at most one for each processor of the cluster; None: so many.

    Raises:
        ConfigError: Ray is not installed, or its workers do not start.
    """
    if runner == "ray":
        return _on_ray(items, recipe, workers)
    return _here(items, recipe)


def _here(items: Iterable[Item], recipe: Recipe[Item, Done]) -> Iterator[tuple[Item, Done]]:
    work = recipe()
    for item in items:
        yield item, work(item)


class _Worker:
    """A process of the cluster with a worker in it."""

    def __init__(self, recipe: Recipe[Any, Any]) -> None:
        self._work = recipe()

    def ready(self) -> None:
        """Answer once the worker is made."""

    def do(self, item: Any) -> Any:
        """The worker's answer."""
        return self._work(item)


def _on_ray(
    items: Iterable[Item], recipe: Recipe[Item, Done], workers: int | None
) -> Iterator[tuple[Item, Done]]:
    ray, waiting = _ray(), iter(items)
    first = list(islice(waiting, 1))
    if not first:
        return  # no cluster is started for nothing
    own = not ray.is_initialized()
    if own:
        _start(ray, workers)
    # Ray starts a process that died again and gives it its item again. Items go to processes
    # one by one, not in blocks as Ray Data has them: each row is kept the moment it is made.
    kind = ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=TRIES_AFTER_A_LOSS)(_Worker)
    processors = max(1, int(ray.cluster_resources().get("CPU", 1)))
    processes = [kind.remote(recipe) for _ in range(min(workers or processors, processors))]
    try:
        _await_ready(ray, processes)
        yield from _shared_out(ray, chain(first, waiting), recipe, processes)
    finally:
        for process in processes:
            ray.kill(process)
        if own:
            ray.shutdown()


def _shared_out(
    ray: Any, items: Iterator[Item], recipe: Recipe[Item, Done], processes: list[Any]
) -> Iterator[tuple[Item, Done]]:
    free, under_way = list(processes), {}
    more = True
    while True:
        while more and free:
            for item in items:
                process = free.pop()
                under_way[process.do.remote(item)] = (process, item)
                break
            else:
                more = False
        if not more:
            while free:  # leaves room to processes that must be started again
                ray.kill(free.pop())
        if not under_way:
            return
        [answered], _ = ray.wait(list(under_way), num_returns=1)
        process, item = under_way.pop(answered)
        try:
            done: Done = ray.get(answered)
        except (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError) as error:
            log.warning("a worker died %d times on one item: %s", TRIES_AFTER_A_LOSS + 1, error)
            done = recipe.lost(item)
        free.append(process)
        yield item, done


def _ray() -> Any:
    # Read by Ray when it is imported or started: without it, it reports usage to its makers.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            "Ray is not installed",
            where="--runner ray",
            fix="Run `pip install 'fovea-assistant[ray]'`, or use `--runner local`",
        ) from error
    return ray


def _start(ray: Any, workers: int | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if os.environ.get("RAY_ADDRESS"):
            ray.init(**quiet)
        else:
            # On the loopback address: Ray asks nobody for a password.
            ray.init(
                address="local", num_cpus=workers, include_dashboard=False,
                _node_ip_address="127.0.0.1", **quiet,
            )  # fmt: skip
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise ConfigError(
            "The Ray cluster cannot be reached or started",
            where="RAY_ADDRESS" if os.environ.get("RAY_ADDRESS") else "--runner ray",
            why=str(error).splitlines()[0] if str(error) else type(error).__name__,
            fix="Start it with `ray start`, or use `--runner local`",
        ) from error


def _await_ready(ray: Any, processes: list[Any]) -> None:
    try:
        ray.get([process.ready.remote() for process in processes])
    except (ray.exceptions.RayActorError, ray.exceptions.RayTaskError) as error:
        raise ConfigError(
            "A Ray worker could not be started",
            where="--runner ray",
            why=str(error).strip().splitlines()[-1][:300],
            fix="Install the same Fovea on every machine of the cluster",
        ) from error
