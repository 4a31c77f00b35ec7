"""Run one plugin call in a thread that can be given up: progress, time limit, stop."""

from __future__ import annotations

import contextlib
import ctypes
import queue
import threading
import time
from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

from fovea.errors import Cancelled

T = TypeVar("T")

POLL_S = 0.05
GRACE_S = 0.4
"""How long a plugin may take to notice a stop by itself before it is interrupted."""


class OutOfTime(Exception):
    """The work exceeded its time limit and was abandoned."""


class _Box(Generic[T]):
    """Where the thread leaves its answer."""

    def __init__(self) -> None:
        self.value: T | None = None
        self.error: BaseException | None = None
        self.done = threading.Event()


def finished(running: Generator[Any, None, T]) -> T:
    """Run a generator to its end and give what it returns; what it yields is dropped."""
    while True:
        try:
            next(running)
        except StopIteration as ended:
            value: T = ended.value
            return value


def run_in_thread(
    work: Callable[[Callable[[str], None], Callable[[], bool]], T],
    *,
    timeout_s: float,
    stop: threading.Event,
) -> Generator[str, None, T]:
    """Yield progress texts while `work(report, is_cancelled)` runs; return its answer.

    A thread cannot be killed. When stop is pressed or time is up, the work is
    asked to end, then interrupted at its next Python instruction, and in any
    case no longer waited for: its late answer is dropped.

    Raises:
        Cancelled: `stop` was set.
        OutOfTime: `timeout_s` passed.
    """
    box: _Box[T] = _Box()
    texts: queue.SimpleQueue[str] = queue.SimpleQueue()
    ended = threading.Event()

    def target() -> None:
        try:
            box.value = work(texts.put, ended.is_set)
        except BaseException as error:  # noqa: BLE001 - handed to the waiting side, not swallowed
            box.error = error
        finally:
            box.done.set()

    thread = threading.Thread(target=target, name="fovea-plugin", daemon=True)
    deadline = time.monotonic() + timeout_s
    thread.start()
    try:
        while not box.done.is_set():
            with contextlib.suppress(queue.Empty):
                yield texts.get(timeout=POLL_S)
            if stop.is_set():
                raise Cancelled
            if time.monotonic() > deadline:
                raise OutOfTime
        while not texts.empty():
            yield texts.get()
    finally:  # also when the caller closes this generator early
        if not box.done.is_set():
            ended.set()
            box.done.wait(GRACE_S)
            _interrupt(thread, box.done)
    if box.error is not None:
        raise box.error
    return box.value  # type: ignore[return-value]  # set whenever there is no error


def _interrupt(thread: threading.Thread, done: threading.Event) -> None:
    """Raise `Cancelled` inside the thread; takes effect when it next runs Python code."""
    if thread.ident is not None and not done.is_set():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident), ctypes.py_object(Cancelled)
        )
