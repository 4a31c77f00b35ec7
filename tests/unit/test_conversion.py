"""Checkpoints of others become safetensors without being trusted."""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import nn
from typer.testing import CliRunner

from fovea import unpickle
from fovea.cli import app
from fovea.conversion import Converted, convert_checkpoint
from fovea.errors import ConfigError, WeightsError

WORKER = Path(unpickle.__file__)


class Bomb:
    """Would create a file if it were unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


@pytest.fixture(scope="module")
def checkpoint(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As training programs write it: tensors beside the state of the optimiser."""
    path = tmp_path_factory.mktemp("checkpoint") / "model_checkpoint.pth"
    optimiser = torch.optim.Adam(network.parameters())
    network(torch.rand(2, 3, 8, 8)).mean().backward()
    optimiser.step()
    state = {"model_state_dict": network.state_dict(), "stats": None}
    torch.save({**state, "optimizer_state_dict": optimiser.state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def converted(checkpoint: Path) -> Converted:
    return convert_checkpoint(checkpoint, checkpoint.with_suffix(".safetensors"))


def refusal(path: Path, **options: Any) -> str:
    """What the refusal of a file says; nothing may be left behind."""
    out = path.parent / "out.safetensors"
    before = sorted(path.parent.iterdir())
    with pytest.raises(WeightsError) as raised:
        convert_checkpoint(path, out, **options)
    assert sorted(path.parent.iterdir()) == before
    assert raised.value.fix
    return str(raised.value)


def test_tensors_come_through_unchanged(converted: Converted, network: nn.Module) -> None:
    with safe_open(converted.path, framework="pt") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        facts = json.loads(file.metadata()["fovea"])
    expected = network.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert converted.below == "model_state_dict"
    assert converted.left_out == ("optimizer_state_dict", "stats")
    assert converted.numbers == sum(value.numel() for value in expected.values())
    assert facts["source_sha256"] == converted.source_sha256
    assert converted.bytes == converted.path.stat().st_size


def test_the_command_prints_the_digest_and_gives_the_same_bytes_again(
    converted: Converted, checkpoint: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again.safetensors"
    asked = ["models", "convert", str(checkpoint), "--out", str(again)]
    done = CliRunner().invoke(app, [*asked, "--sha256", converted.source_sha256.upper()])
    assert done.exit_code == 0, done.output
    assert done.stdout.split() == [converted.sha256, str(again)]
    assert again.read_bytes() == converted.path.read_bytes()


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_a_bomb_neither_runs_nor_converts(form: str, tmp_path: Path, network: nn.Module) -> None:
    folder, marker = tmp_path / "files", tmp_path / "ran"
    folder.mkdir()
    path = folder / "bomb.pth"
    content = {"state_dict": network.state_dict(), "extra": Bomb(marker)}
    torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    assert "system" in refusal(path)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Bomb(marker)))  # noqa: S301 - elsewhere it works
    assert marker.exists()


def test_a_tensor_larger_than_the_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.pth"
    small, huge = 1_000_003, 2_000_000_000
    torch.save({"a": torch.zeros(small)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    assert struct.pack("<i", small) in content
    path.write_bytes(content.replace(struct.pack("<i", small), struct.pack("<i", huge)))
    assert "more memory than its size can account for" in refusal(path)


def test_a_truncated_file_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "half.pth"
    path.write_bytes(checkpoint.read_bytes()[:-2000])
    assert "half.pth: It is damaged, incomplete" in refusal(path)


def test_another_file_is_not_even_read(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    path.write_bytes(b"not a checkpoint at all")
    said = refusal(path, sha256="0" * 64)
    assert "not the file whose sha256 was given" in said
    assert "0" * 64 in said


def test_requests_that_cannot_be_met_are_refused_at_once(checkpoint: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken.safetensors"
    taken.write_bytes(b"mine")
    for out, sha256, said in (
        (tmp_path / "a.bin", None, "does not end"),
        (taken, None, "exists already"),
        (tmp_path / "a.safetensors", "abc", "not a sha256"),
    ):
        with pytest.raises(ConfigError, match=said):
            convert_checkpoint(checkpoint, out, sha256=sha256)
    assert taken.read_bytes() == b"mine"
    assert "no file" in refusal(tmp_path / "nowhere.pth")


@pytest.mark.parametrize(
    ("loaded", "said"),
    [
        ([1, 2], "holds a list"),
        ({}, "holds a dict"),
        ({"epoch": 3, "best": "x\ny"}, "keys epoch, best"),
        ({"state_dict": {"a": 1}}, "no table of tensors"),
    ],
)
def test_what_holds_no_tensors_is_refused(loaded: Any, said: str) -> None:
    with pytest.raises(unpickle.Refused) as raised:
        unpickle._table(loaded)
    assert said in " ".join(str(part) for part in raised.value.reply.values())


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([1.0], "is a list"),
        (torch.eye(3).to_sparse(), "no ordinary tensor"),
        (torch.zeros(2, dtype=torch.complex64), "no ordinary tensor"),
        (torch.zeros(2, device="meta"), "no ordinary tensor"),
        (torch.zeros(1).expand(1000, 1000), "more memory"),
    ],
)
def test_what_is_no_plain_tensor_is_refused(value: Any, said: str) -> None:
    with pytest.raises(unpickle.Refused) as raised:
        unpickle._checked({"good": torch.zeros(1), "bad": value})
    assert said in " ".join(str(part) for part in raised.value.reply.values())


@pytest.mark.parametrize("name", ["../up", "a b", "a\nb", 7])
def test_odd_names_are_refused_or_harmless(name: Any) -> None:
    if name == "../up":  # a name is a name: it is never used as a path
        assert unpickle._checked({name: torch.zeros(1)})[0].keys() == {name}
        return
    with pytest.raises(unpickle.Refused):
        unpickle._checked({name: torch.zeros(1)})


def test_a_second_name_of_a_tensor_is_told_and_not_stored_twice() -> None:
    one = torch.arange(6.0)
    kept, further = unpickle._checked({"a": one, "b": one, "half": one[:3], "t": one.view(2, 3)})
    assert list(kept) == ["a", "half", "t"]
    assert further == {"b": "a"}
    assert torch.equal(kept["half"], one[:3])


FORBIDDEN = {
    "network": "import socket; socket.create_connection(('127.0.0.1', 9))",
    "program": "import subprocess; subprocess.run(['true'])",
    "shell": "import os; os.system('true')",
    "fork": "import os; os.fork()",
    "write": "open('made', 'w')",
    "remove": "import os; os.remove('kept')",
    "native": "import ctypes; ctypes.CDLL(None)",
    "memory": "bytearray(2 << 30)",
}


@pytest.mark.skipif(sys.platform != "linux", reason="the limits are those of Linux")
def test_the_process_that_reads_can_do_no_harm(tmp_path: Path) -> None:
    """Even code that ran in it could not reach the network, a program or a file."""
    (tmp_path / "kept").write_text("here")
    code = "\n".join(
        [
            "import importlib.util, json, socket, subprocess, ctypes",
            f"spec = importlib.util.spec_from_file_location('worker', {str(WORKER)!r})",
            "worker = importlib.util.module_from_spec(spec); spec.loader.exec_module(worker)",
            "worker.lock_down(1000)",
            "said = {}",
            f"for name, tried in {FORBIDDEN!r}.items():",
            "    try: exec(tried)",
            "    except (PermissionError, MemoryError) as error: said[name] = str(error)",
            "print(json.dumps(said))",
        ]
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert json.loads(done.stdout).keys() == FORBIDDEN.keys()
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_only_the_other_process_unpickles() -> None:
    source = (WORKER.parent / "conversion.py").read_text(encoding="utf-8")
    assert "torch" not in source.replace("PyTorch", "")
    assert "import fovea" not in WORKER.read_text(encoding="utf-8")
    assert "from fovea" not in WORKER.read_text(encoding="utf-8")
