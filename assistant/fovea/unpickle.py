"""Read one PyTorch checkpoint in a process of its own and write its tensors as safetensors.

Run as a script by `fovea.conversion`, never imported by it: a pickle is a small
program. `weights_only` interprets a harmless subset of it; should that fail, this
process has no network, may start no other program and open no file for writing, and
is limited in memory, time and file size. Imports nothing of Fovea. Writes one JSON
object to standard output: {"ok": true, ...} or {"ok": false, "what", "why", "fix"}.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pickle
import re
import sys
from pathlib import Path
from typing import Any, NoReturn

MAX_BYTES = 2 << 30
CPU_SECONDS = 120
SPARE_BYTES = 256 << 20
USUAL_KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "params", "weights")
"""Where training programs put the table of tensors inside a checkpoint."""

FORBIDDEN = (
    "socket.", "subprocess.", "ctypes.", "shutil.", "os.system", "os.exec", "os.posix_spawn",
    "os.spawn", "os.fork", "os.remove", "os.rename", "os.link", "os.symlink", "os.truncate",
    "os.mkdir", "os.rmdir", "os.chmod", "os.chown", "os.putenv", "os.kill", "signal.",
)  # fmt: skip
"""Beginnings of the audit events of which a conversion needs none."""

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000


class Refused(Exception):
    """The file cannot be converted; carries the parts of the message."""

    def __init__(self, what: str, why: str = "", fix: str = "") -> None:
        self.reply = {"ok": False, "what": what, "why": why, "fix": fix}


def leave_the_network() -> None:
    """Move into a network namespace with nothing in it, where the system lets us."""
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    system = ctypes.CDLL(None)
    for flags in (_CLONE_NEWNET, _CLONE_NEWUSER | _CLONE_NEWNET):
        if system.unshare(flags) == 0:
            return


def lock_down(file_bytes: int) -> None:
    """Give up, for good, all that the conversion of a file of this size does not need."""
    with contextlib.suppress(ImportError):  # Windows has no such limits; the rest holds there
        import resource

        def limit(which: int, value: int) -> None:
            hard = resource.getrlimit(which)[1]
            resource.setrlimit(which, (value, value) if hard < 0 else (min(value, hard),) * 2)

        limit(resource.RLIMIT_CPU, CPU_SECONDS)
        limit(resource.RLIMIT_FSIZE, file_bytes + SPARE_BYTES)
        limit(resource.RLIMIT_CORE, 0)
        with contextlib.suppress(OSError):  # only Linux tells, and only there the limit works
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
            used = pages * resource.getpagesize()
            limit(resource.RLIMIT_AS, used + 4 * file_bytes + SPARE_BYTES)
    sys.addaudithook(_audit)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT
    if event.startswith(FORBIDDEN) or (event == "open" and int(arguments[2] or 0) & writing):
        raise PermissionError(f"{event} is not allowed here")


def _read(source: Path, sha256: str) -> tuple[bytes, str]:
    """The bytes of the file and their digest, compared before anything is unpickled."""
    size = source.stat().st_size
    if size > MAX_BYTES:
        raise Refused(
            f"The file has {size / 1e9:.1f} GB",
            f"At most {MAX_BYTES / 1e9:.1f} GB are converted",
            "Save the state dictionary alone",
        )
    content = source.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if sha256 not in ("-", found):
        raise Refused(
            "It is not the file whose sha256 was given",
            f"Expected {sha256}, found {found}",
            "Download it again, or give the sha256 that its authors publish",
        )
    return content, found


def _unpickled(content: bytes) -> Any:
    import torch

    try:
        # The rule against torch.load stands everywhere else: this is where pickles end.
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)  # noqa: TID251
    except MemoryError as error:
        raise _too_large() from error
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL ([\w.]{1,80})", str(error))
        if wanted is None:
            raise _damaged() from error
        raise Refused(
            "The file asks for more than tensors, and was not run",
            f"It wants to call `{wanted[1]}`",
            "Do not use it; ask its authors for the state dictionary alone",
        ) from error
    except RuntimeError as error:
        raise (_too_large() if "allocate" in str(error) else _damaged()) from error
    except Exception as error:
        raise _damaged() from error


def _too_large() -> Refused:
    return Refused(
        "It asks for more memory than its size can account for",
        "A tensor is far larger than the file, or there are very many",
        "Do not use it; download it again from its authors",
    )


def _damaged() -> Refused:
    return Refused(
        "It is damaged, incomplete or not a PyTorch checkpoint",
        "It cannot be read to its end",
        "Download it again, and give its sha256 with `--sha256`",
    )


def _table(loaded: Any) -> tuple[dict[str, Any], str, list[str]]:
    """The table of tensors, the key it was found under, and what lies beside it."""
    import torch

    def is_tensor(value: Any) -> bool:
        return isinstance(value, torch.Tensor)

    if isinstance(loaded, dict) and loaded:
        if any(is_tensor(value) for value in loaded.values()):
            return loaded, "", []
        for key in USUAL_KEYS:
            inner = loaded.get(key)
            if isinstance(inner, dict) and any(is_tensor(value) for value in inner.values()):
                beside = [_plain(name) for name in loaded if name != key]
                return inner, key, beside
    kind = type(loaded).__name__
    keys = ", ".join(_plain(key) for key in list(loaded)[:6]) if isinstance(loaded, dict) else ""
    raise Refused(
        "There is no table of tensors in it",
        f"It holds a {kind}" + (f" with the keys {keys}" if keys else ""),
        f"Save `model.state_dict()`, by itself or under one of: {', '.join(USUAL_KEYS)}",
    )


def _plain(name: object) -> str:
    """A name from the file as harmless text."""
    return re.sub(r"[^\w.\-/]", "?", str(name))[:80]


def _checked(table: dict[Any, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Own copies of the tensors, and which names are further names of one of them."""
    import torch

    numbers = {torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64,
               torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool}  # fmt: skip
    kept: dict[str, Any] = {}
    further: dict[str, str] = {}
    seen: dict[Any, str] = {}
    for name, value in table.items():
        shown = _plain(name)
        if not isinstance(name, str) or shown != name:
            raise Refused(f"`{shown}` is not a name of a tensor", fix="Do not use this file")
        if type(value) not in (torch.Tensor, torch.nn.Parameter):
            raise Refused(
                f"`{shown}` is not a tensor",
                f"It is a {type(value).__name__}",
                "Save `model.state_dict()`, which holds tensors only",
            )
        if (
            value.layout != torch.strided
            or value.dtype not in numbers
            or value.device.type != "cpu"
        ):
            raise Refused(
                f"`{shown}` is no ordinary tensor",
                f"It is {value.dtype}, {value.layout}, on {value.device.type}",
                "Save it as a dense tensor of ordinary numbers",
            )
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise _too_large()
        place = (value.untyped_storage().data_ptr(), value.storage_offset(), value.dtype,
                 tuple(value.shape), value.stride())  # fmt: skip
        if value.numel() and place in seen:
            further[name] = seen[place]
            continue
        seen[place] = name
        kept[name] = value.detach().clone(memory_format=torch.contiguous_format)
    return kept, further


def main(source: str, out: str, sha256: str) -> dict[str, Any]:
    """Convert `source` into `out`; the reply says what was found or refused."""
    leave_the_network()  # before torch starts threads, which would keep the old network
    content, found = _read(Path(source), sha256)
    if content[8:10] == b'{"':
        raise Refused("It is a safetensors file already", fix="Use it as it is")
    import torch
    from safetensors.torch import save_file

    torch.set_num_threads(1)
    lock_down(len(content))
    table, below, beside = _table(_unpickled(content))
    try:
        tensors, further = _checked(table)
        facts = {
            "source_sha256": found,
            "below": below,
            "left_out": sorted(beside),
            "further_names": further,
            "tensors": len(tensors),
            "numbers": sum(tensor.numel() for tensor in tensors.values()),
        }
        # One key only: safetensors writes several in no fixed order, and the digest would vary.
        save_file(tensors, out, metadata={"fovea": json.dumps(facts, sort_keys=True)})
    except (MemoryError, RuntimeError) as error:
        raise _too_large() from error
    return {"ok": True, **facts}


def _run() -> NoReturn:
    try:
        reply = main(*sys.argv[1:4])
    except Refused as refused:
        reply = refused.reply
    except MemoryError:
        reply = _too_large().reply
    sys.stdout.write(json.dumps(reply))
    sys.stdout.flush()
    os._exit(0)  # no destructor of anything that came out of the file runs


if __name__ == "__main__":
    _run()
