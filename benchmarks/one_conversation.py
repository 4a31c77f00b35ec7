"""The same conversation on every backend, and whether each gives the same events and evidence.

Run: python benchmarks/one_conversation.py [--model FOLDER] [--adapter FOLDER]

* `rules`: the deterministic planner; what the others are compared with;
* `embedded`: the small planner of the package;
* `local`: a model folder (the same one unless named), plain, in int8, in nf4, with an adapter;
* `served`: the same folder behind `transformers serve`, a process of its own on 127.0.0.1.

The language model is asked at every question, also where the word model is sure and it would
not be. What is shown is that each backend finds the same tools by itself (`both`): the rules
then choose photographs and word the calls, so equal events follow from equal tools. Without
`--adapter` one is made on the spot that changes nothing yet: it shows the path, not what
adapting brings (`fovea llm adapt`).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from fovea.assistant import Assistant
from fovea.events import Answered, Called, CallStarted, Notice
from fovea.llm.assisted import AssistedModel
from fovea.llm.backends import EMBEDDED
from fovea.samples import sample_photograph
from fovea.settings import Settings

QUESTIONS = (
    "Is this photograph good enough to grade?",
    "What is the cup-to-disc ratio?",
    "What does that ratio mean?",
    "Please outline the vessels.",
    "Tell me a joke.",
)
START_S, ANSWER_S = 120.0, 30.0


@dataclass(frozen=True)
class Talk:
    """What a backend made of the conversation.

    Attributes:
        events: Per question, in order: the tools called with their arguments, and the answer.
        evidence: What was measured: tool, photographs and findings by evidence id.
        planners: Who chose the tools, per question: `rules`, `model`, or `both` alike.
        notices: What the person was told about it.
        seconds: Longest planning of a question after the first.
    """

    events: tuple[Any, ...]
    evidence: Mapping[str, Any]
    planners: tuple[str, ...]
    notices: tuple[str, ...]
    seconds: float


def talk(settings: Settings, photograph: Path) -> Talk:
    """Hold the conversation on one backend."""
    assistant = Assistant(settings)
    session = assistant.store.create()
    session.add_image(photograph)
    planners: list[str] = []
    seconds: list[float] = []
    if isinstance(assistant.model, AssistedModel):
        assistant.__dict__["model"] = Watched.of(assistant.model, planners, seconds)
    events, notices = [], []
    for question in QUESTIONS:
        made: list[Any] = []
        for event in assistant.turn(session, question):
            if isinstance(event, CallStarted):
                made.append((event.tool, dict(event.arguments), event.images))
            elif isinstance(event, Called):
                made.append((event.evidence.id, event.reused))
            elif isinstance(event, Answered):
                made.append((event.text, event.evidence_ids, event.struck))
            elif isinstance(event, Notice):
                notices.append(event.text)
        events.append(tuple(made))
    evidence = {
        key: (one.tool, one.images, one.result.model_dump(mode="json", exclude={"artifacts"}))
        for key, one in session.evidence.items()
    }
    return Talk(
        tuple(events), evidence, tuple(planners), tuple(notices), max(seconds[1:], default=0)
    )


class Watched(AssistedModel):
    """The same model; notes who chose the tools and how long that took."""

    @classmethod
    def of(cls, model: AssistedModel, planners: list[str], seconds: list[float]) -> Watched:
        watched = cls.around(
            lambda: model.wrapped, label=model.label, plans_only=model.plans_only,
            threshold=model.threshold,
        )  # fmt: skip
        watched._notes = (planners, seconds)
        return watched

    _notes: tuple[list[str], list[float]]

    def _planned(self, messages: list[Any]) -> Any:
        clock = time.perf_counter()
        chunk = super()._planned(messages)
        planners, seconds = self._notes
        seconds.append(time.perf_counter() - clock)
        planners.append(str(chunk.message.response_metadata["planner"]))
        return chunk


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Settings]:
    """`transformers serve` with this model, as a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder),
        "--device", "cpu", "--dtype", "float32", "--host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    try:
        _wait(port, process)
        yield Settings(
            backend="remote",
            base_url=f"http://127.0.0.1:{port}/v1",
            served_model=str(folder),
            served_compact=True,
            remote_timeout_s=ANSWER_S,
        )
    finally:
        process.terminate()
        process.wait(20)


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise SystemExit(f"the server ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 2):
            return
        time.sleep(0.5)
    raise SystemExit(f"the server did not start within {START_S:g} s")


def new_adapter(folder: Path, out: Path) -> Path:
    """A LoRA adapter of the model that leaves it as it is."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from fovea.llm.training.lora import save_adapter

    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    save_adapter(get_peft_model(model, config), out, folder.name)
    return out


def backends(model: Path, adapter: Path, remote: Settings) -> dict[str, Settings]:
    """The settings of every backend, by what is printed."""

    def local(**more: Any) -> Settings:
        return Settings(backend="local", model_dir=model, **more)

    adapted = {"adapters": (f"one={adapter}",), "adapter": "one"}
    return {
        "rules": Settings(backend="rules"),
        "embedded": Settings(backend="embedded"),
        "local": local(),
        "local int8": local(quantisation="int8"),
        "local nf4": local(quantisation="nf4"),
        "local + adapter": local(**adapted),
        "served": remote,
    }


def talks(folder: Path, model: Path, adapter: Path | None = None) -> Iterator[tuple[str, Talk]]:
    """The conversation on every backend.

    Args:
        folder: An empty folder for sessions and adapter.
        model: Folder of a small planner.
        adapter: A LoRA adapter of it.
    """
    photograph = sample_photograph(folder)
    adapter = adapter or new_adapter(model, folder / "adapter")
    with served(model) as remote, patch("fovea.llm.assisted.is_sure", return_value=False):
        for place, (name, settings) in enumerate(backends(model, adapter, remote).items()):
            own = {"data_dir": folder / f"data{place}"}
            yield name, talk(settings.model_copy(update=own), photograph)


def main() -> None:
    """Hold the conversations, print what differs; exit code 1 if anything does."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=EMBEDDED, help="folder of a small planner")
    parser.add_argument("--adapter", type=Path, help="LoRA adapter of that model")
    given = parser.parse_args()
    first: Talk | None = None
    differing = False
    print(f"{len(QUESTIONS)} questions; {'backend':18}events  evidence  notices  tools chosen by")
    with tempfile.TemporaryDirectory() as made:
        for name, held in talks(Path(made), given.model, given.adapter):
            first = first or held
            same = (held.events == first.events, held.evidence == first.evidence)
            differing |= not all(same)
            shown = ["same" if one else "DIFFERENT" for one in same]
            print(f"{'':14}{name:18}{shown[0]:9}{shown[1]:9}{len(held.notices):8}  "
                  f"{', '.join(held.planners) or 'rules'}; {1e3 * held.seconds:.0f} ms at most",
                  flush=True)  # fmt: skip
    raise SystemExit(1 if differing else 0)


if __name__ == "__main__":
    main()
