"""Discovery, isolation of broken plugins, checks of results, time limit and stop."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from plugin_maker import make_plugin

from fovea import errors
from fovea.contract import Context
from fovea.image import open_photograph
from fovea.registry import CallRecord, Registry
from fovea.settings import Settings


@pytest.fixture
def context(tmp_path: Path, retina_path: Path) -> Context:
    work = tmp_path / "work"
    work.mkdir()
    return Context(images=(open_photograph(retina_path),), work_dir=work)


def discover(folder: Path, *only: str) -> Registry:
    return Registry.discover(Settings(plugins_dir=folder, plugins=only or None))


def call(registry: Registry, name: str, context: Context, **options: object) -> CallRecord:
    running = registry.call(name, context, {}, **options)  # type: ignore[arg-type]
    while True:
        try:
            next(running)
        except StopIteration as stopped:
            return stopped.value  # type: ignore[no-any-return]


def test_a_good_plugin_beside_broken_ones(plugins: Path, context: Context) -> None:
    make_plugin(plugins, "good")
    make_plugin(plugins, "no_import", "pass")
    (plugins / "no_import" / "plugin.py").write_text("import nowhere_to_be_found")
    bad_toml = make_plugin(plugins, "bad_toml") / "plugin.toml"
    bad_toml.write_text("name = [unfinished")
    unknown = make_plugin(plugins, "unknown_field") / "plugin.toml"
    unknown.write_text(unknown.read_text().replace("title =", "tittle ="))
    (plugins / "no_manifest").mkdir()
    registry = discover(plugins)
    healthy = registry.healthy_names()
    assert "good" in healthy
    assert not {"no_import", "bad_toml", "unknown_field"} & set(healthy)
    told = "\n".join(f"{p.where} {p.what} {p.fix}" for p in registry.problems)
    for name in ("bad_toml", "unknown_field", "no_manifest", "no_import"):
        assert name in told
    assert "tittle" in told
    assert "nowhere_to_be_found" in told
    assert call(registry, "good", context).result.measurements[0].value == 0.5


def test_two_plugins_of_one_name(plugins: Path) -> None:
    make_plugin(plugins, "first")
    second = make_plugin(plugins, "second") / "plugin.toml"
    second.write_text(second.read_text().replace('name = "second"', 'name = "first"', 1))
    registry = discover(plugins, "first")
    assert registry.names() == ("first",)
    assert any("already there" in problem.what for problem in registry.problems)


def test_allow_list(plugins: Path) -> None:
    make_plugin(plugins, "one")
    make_plugin(plugins, "two")
    assert discover(plugins, "two").names() == ("two",)
    none = Registry.discover(Settings(plugins_dir=plugins, plugins=()))
    assert none.names() == ()
    wrong = discover(plugins, "thre")
    assert any("thre" in problem.what for problem in wrong.problems)


def test_unknown_plugin_names_the_nearest(plugins: Path) -> None:
    make_plugin(plugins, "count_drusen")
    with pytest.raises(errors.PluginUnavailable, match="count_drusen"):
        discover(plugins).manifest("count_druse")


def test_discovery_executes_no_plugin_code(plugins: Path) -> None:
    marker = plugins / "ran"
    folder = make_plugin(plugins, "loud")
    for file in ("__init__.py", "plugin.py"):
        (folder / file).write_text(f"open({str(marker)!r}, 'w')")
    assert "loud" in discover(plugins).names()
    assert not marker.exists()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return result(value(float('nan')))", "plausible range"),
        ("return result(value(7.0))", "plausible range"),
        ("return result(value(0.5, unit='um'))", "declared in"),
        ("return result(value(0.5, name='surprise'))", "does not declare"),
        ("return result(value(0.5), value(0.6))", "twice"),
        ("return {'value': 1}", "not a Result"),
        (
            "return result(artifacts=(context.save_mask('{n}_mask', np.ones((5, 5), bool)),))",
            "not in the frame",
        ),
        (
            "p = context.work_dir.parent / 'x.png'\np.write_bytes(b'1')\n"
            "return result(artifacts=(Artifact(name='{n}_mask', kind='mask', path=p),))",
            "outside its work folder",
        ),
        (
            "return result(artifacts=(Artifact(name='{n}_mask', kind='mask', "
            "path=context.work_dir / 'none.png'),))",
            "not written",
        ),
    ],
)
def test_results_outside_the_manifest_are_refused(
    plugins: Path, context: Context, body: str, says: str
) -> None:
    make_plugin(plugins, "odd", body.replace("{n}", "odd"))
    with pytest.raises(errors.ContractViolation, match=says):
        call(discover(plugins), "odd", context)


def test_physical_units_need_a_scale(plugins: Path, context: Context) -> None:
    make_plugin(plugins, "wide", unit="um")
    with pytest.raises(errors.ContractViolation, match="scale"):
        call(discover(plugins), "wide", context)


def test_a_crash_is_one_message_without_traceback(plugins: Path, context: Context) -> None:
    make_plugin(plugins, "crash", "raise RuntimeError('secret /home/user/path')")
    with pytest.raises(errors.PluginFailed) as caught:
        call(discover(plugins), "crash", context)
    assert "secret" not in str(caught.value)
    assert "log under id" in str(caught.value)


def test_a_refusal_of_the_plugin_passes_through(plugins: Path, context: Context) -> None:
    make_plugin(plugins, "picky", "raise NotApplicable('picky', 'No disc in the field')")
    with pytest.raises(errors.NotApplicable, match="No disc"):
        call(discover(plugins), "picky", context)


def test_a_nan_that_the_contract_types_refuse_is_the_authors_bug(
    plugins: Path, context: Context
) -> None:
    body = "Measurement(name='n_value', value=float('nan'), unit='1', method='test')"
    make_plugin(plugins, "not_a_number", body)
    with pytest.raises(errors.ContractViolation, match=r"Measurement.*value.*finite.*NotMeasured"):
        call(discover(plugins, "not_a_number"), "not_a_number", context)


def test_a_plugin_that_exits_takes_only_itself_along(plugins: Path, context: Context) -> None:
    make_plugin(plugins, "quits_late", "raise SystemExit(3)")
    folder = make_plugin(plugins, "quits_early")
    (folder / "plugin.py").write_text("raise SystemExit(3)")
    registry = discover(plugins, "quits_late", "quits_early")
    assert registry.healthy_names() == ("quits_late",)
    with pytest.raises(errors.PluginFailed):
        call(registry, "quits_late", context)


def test_a_hanging_plugin_is_stopped_and_the_next_call_works(
    plugins: Path, context: Context
) -> None:
    make_plugin(
        plugins,
        "hang",
        "P.count = getattr(P, 'count', 0) + 1\n"
        "while P.count == 1:\n    time.sleep(0.01)\nreturn result(value(0.5))",
        timeout_s=0.5,
    )
    registry = discover(plugins)
    clock = time.perf_counter()
    with pytest.raises(errors.PluginFailed, match=r"0\.5 seconds"):
        call(registry, "hang", context)
    assert time.perf_counter() - clock < 1.6
    assert call(registry, "hang", context).result.measurements[0].value == 0.5


def test_stop_takes_effect_within_a_second(plugins: Path, context: Context) -> None:
    make_plugin(plugins, "slow", "while True:\n    pass")
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    clock = time.perf_counter()
    with pytest.raises(errors.Cancelled):
        call(discover(plugins), "slow", context, stop=stop)
    assert time.perf_counter() - clock < 1.3


def test_wrong_arguments_name_the_field(plugins: Path, context: Context) -> None:
    make_plugin(plugins, "good")
    with pytest.raises(errors.BadArguments, match="radius"):
        next(discover(plugins).call("good", context, {"radius": 3}))


def test_altered_weights_refuse_and_name_the_file(plugins: Path, context: Context) -> None:
    content = b"0" * 64
    extra = (
        '[[weights]]\nfile = "weights/net.safetensors"\n'
        f'sha256 = "{hashlib.sha256(content).hexdigest()}"\nlicence = "test"\nbytes = 64\n'
    )
    folder = make_plugin(plugins, "net")
    manifest = folder / "plugin.toml"
    manifest.write_text(manifest.read_text() + "\n" + extra)
    registry = discover(plugins)
    with pytest.raises(errors.PluginUnavailable, match=r"net\.safetensors.*missing"):
        call(registry, "net", context)
    (folder / "weights").mkdir()
    (folder / "weights" / "net.safetensors").write_bytes(b"1" + content[1:])
    with pytest.raises(errors.PluginUnavailable, match=r"sha256"):
        call(registry, "net", context)
    (folder / "weights" / "net.safetensors").write_bytes(content)
    assert call(registry, "net", context).weights_sha256


def test_listing_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom fovea.registry import Registry\nfrom fovea.settings import Settings\n"
        "r = Registry.discover(Settings())\n[r.schema(n) for n in r.healthy_names()]\n"
        "print([m for m in ('torch','gradio','transformers','faiss','peft') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": ""},
    )  # fmt: skip
    assert done.stdout.strip() == "[]"
