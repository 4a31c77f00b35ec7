"""Turn a PyTorch checkpoint of somebody else into safetensors, without trusting it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fovea.errors import ConfigError, WeightsError

TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Converted:
    """A converted weight file and where it came from.

    Attributes:
        path: The safetensors file; `sha256` and `bytes` are its own.
        source_sha256: Digest of the checkpoint.
        below: Key of the table of tensors inside the checkpoint; empty: the top level.
        left_out: Other keys beside it, such as the state of the optimiser.
        tensors, numbers: How many tensors, and how many numbers in them.
        further_names: Second names of a tensor, and the name that was kept.
    """

    path: Path
    sha256: str
    bytes: int
    source_sha256: str
    below: str
    left_out: tuple[str, ...]
    tensors: int
    numbers: int
    further_names: dict[str, str]


def convert_checkpoint(source: Path, out: Path, *, sha256: str | None = None) -> Converted:
    """Write the tensors of a checkpoint (`.pth`, `.pt`) as a safetensors file.

    The checkpoint is read in a separate process (`fovea.unpickle`) without network,
    with limits on memory, time and file size, in a temporary folder. One file always
    gives the same bytes.

    Args:
        source: The checkpoint.
        out: File to write, ending in `.safetensors`; must not exist.
        sha256: Digest that the checkpoint must have; it is compared before reading.

    Raises:
        ConfigError: `out` exists or has another ending, or `sha256` is none.
        WeightsError: the file is damaged, too large, not what it should be, or asks
            for anything but tensors. Nothing is written then.
    """
    sha256 = sha256.strip().lower() if sha256 else None
    _check_request(source, out, sha256)
    with tempfile.TemporaryDirectory(prefix=".fovea-convert-", dir=out.parent) as folder:
        made = Path(folder) / "weights.safetensors"
        reply = _in_own_process(source, made, sha256)
        with made.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        made.replace(out)
    return Converted(
        path=out,
        sha256=digest,
        bytes=out.stat().st_size,
        source_sha256=reply["source_sha256"],
        below=reply["below"],
        left_out=tuple(reply["left_out"]),
        tensors=reply["tensors"],
        numbers=reply["numbers"],
        further_names=reply["further_names"],
    )


def _check_request(source: Path, out: Path, sha256: str | None) -> None:
    if not source.is_file():
        raise WeightsError(f"There is no file `{source.name}`", fix="Check the spelling")
    if out.suffix != ".safetensors":
        raise ConfigError(
            f"`{out.name}` does not end in `.safetensors`", where="--out", fix="Correct the name"
        )
    if out.exists():
        raise ConfigError(
            f"`{out.name}` exists already", where="--out", fix="Choose another name, or remove it"
        )
    if sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise ConfigError(
            "It is not a sha256", where="--sha256", why="One has 64 digits 0-9 and a-f",
            fix="Copy the whole of it, or leave the option out",
        )  # fmt: skip


def _in_own_process(source: Path, made: Path, sha256: str | None) -> dict[str, Any]:
    worker = Path(__file__).with_name("unpickle.py")
    # -P: the worker's own folder must not shadow other packages' modules. -B: it writes no cache.
    command = [
        sys.executable,
        "-P",
        "-B",
        str(worker),
        str(source.absolute()),
        str(made.absolute()),
    ]
    command.append(sha256 or "-")
    environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TMPDIR": str(made.parent)}
    if "SYSTEMROOT" in os.environ:  # Windows starts no program without it
        environment["SYSTEMROOT"] = os.environ["SYSTEMROOT"]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=TIMEOUT_S, check=False,
            cwd=made.parent, env=environment, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        reply: dict[str, Any] = json.loads(done.stdout)
    except subprocess.TimeoutExpired as error:
        raise WeightsError(
            f"Reading it took longer than {TIMEOUT_S:.0f} seconds", where=source.name,
            why="The file is damaged or built to be slow", fix="Download it again",
        ) from error  # fmt: skip
    except ValueError as error:
        raise WeightsError(
            "The process that reads it stopped without an answer", where=source.name,
            why="The file is damaged, or needs more time or memory than is allowed",
            fix="Download it again",
        ) from error  # fmt: skip
    if not reply["ok"]:
        raise WeightsError(reply["what"], where=source.name, why=reply["why"], fix=reply["fix"])
    return reply
