"""Weights of a published network: checked against its architecture, then read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from fovea.errors import WeightsError
from fovea_plugins.segmenter.published.catalogue import BIG_WNET, RRWNET, WNET, Network, Variant
from fovea_plugins.segmenter.published.rrwnet import RRWNet
from fovea_plugins.segmenter.published.wnet import WNet

Shapes = dict[str, tuple[int, ...]]

_COUNTERS = ".num_batches_tracked"
"""Batch counters matter in training only; old files lack them."""


def build(network: Network) -> nn.Module:
    """The architecture, without trained weights: for its names, shapes and parameter count."""
    if network is RRWNET:
        return RRWNet()
    if network is BIG_WNET:
        return WNet(4, (8, 16, 32, 64))
    return WNet(1, (8, 16, 32))


def check_weights(variant: Variant, path: Path) -> None:
    """Read names and shapes only.

    Raises:
        WeightsError: they are not those of the network; says which network they fit.
    """
    with _opened(path) as file:
        names = list(file.keys())
        found = {name: tuple(file.get_slice(name).get_shape()) for name in names}
    _compare(variant, path, found)


def read_network(variant: Variant, path: Path) -> nn.Module:
    """The network with the weights of a safetensors file, ready to be run.

    Raises:
        WeightsError: other names or shapes, or numbers that are none.
    """
    with _opened(path) as file:
        tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in list(file.keys())}
    _compare(variant, path, {name: tuple(value.shape) for name, value in tensors.items()})
    given = {own: value.float() for own, value in _first_names(tensors).items()}
    if not all(bool(torch.isfinite(value).all()) for value in given.values()):
        raise WeightsError(
            "The weights hold values that are not numbers", where=path.name,
            why="NaN or infinity", fix="Download and convert the file again",
        )  # fmt: skip
    network = build(variant.network)
    network.load_state_dict(given, strict=False)  # names were compared; only counters lack
    # A fifth to a third faster on processors; torch's own stub lacks the argument.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval().requires_grad_(requires_grad=False)


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            "It is not a safetensors file", where=path.name,
            why="It is damaged, incomplete or of another format",
            fix="Make it with `fovea models convert FILE.pth --out FILE.safetensors`",
        ) from error  # fmt: skip


def expected_shapes(network: Network) -> Shapes:
    """Names and shapes of the weights of a network, batch counters left out."""
    with torch.device("meta"):
        state = build(network).state_dict()
    return {n: tuple(v.shape) for n, v in state.items() if not n.endswith(_COUNTERS)}


def _first_names(given: dict[str, Any]) -> dict[str, Any]:
    """The same by the names that `expected_shapes` uses, batch counters left out.

    The authors' RRWNet holds every layer under two names: a file has both, or one.
    """
    found = {}
    for name, value in given.items():
        first, second = (".conv.", "") if ".upconv" in name else (".conv1.", ".conv2.")
        own = name.replace(".conv_block.0.", first).replace(".conv_block.2.", second)
        if not own.endswith(_COUNTERS) and (own == name or own not in found):
            found[own] = value
    return found


def _compare(variant: Variant, path: Path, shapes: Shapes) -> None:
    found = _first_names(shapes)
    expected = expected_shapes(variant.network)
    if found == expected:
        return
    title = variant.network.title
    other = next((n for n in (WNET, BIG_WNET, RRWNET) if found == expected_shapes(n)), None)
    if other is not None:
        raise WeightsError(
            f"These are weights of {other.title}, not of {title}", where=path.name,
            why="Their names and shapes say so",
            fix="`fovea models list` shows what to add them as",
        )  # fmt: skip
    missing = [name for name in expected if name not in found]
    unknown = [name for name in found if name not in expected]
    shaped = [name for name in expected if name in found and found[name] != expected[name]]
    told = [
        f"{len(names)} {what}, such as `{names[0][:80]}`"
        for what, names in (("missing", missing), ("unknown", unknown), ("of another size", shaped))
        if names
    ]
    raise WeightsError(
        f"These are not weights of {title}", where=path.name,
        why=f"Of {len(expected)} tensors: {'; '.join(told)}",
        fix=f"Take `{variant.file}` from {variant.network.source} and convert it",
    )  # fmt: skip
