"""Serve the page on this machine."""

from __future__ import annotations

import atexit
import ipaddress
import os
import shutil
import socket
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fovea.errors import ConfigError

if TYPE_CHECKING:
    from fovea.assistant import Assistant

FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
MONO_FONTS = ("ui-monospace", "Consolas", "DejaVu Sans Mono", "monospace")


@dataclass
class RunningPage:
    """A page that is being served; close it when done."""

    url: str
    _page: Any
    uploads: Path

    def wait(self) -> None:
        """Return when the person presses Ctrl+C."""
        self._page.block_thread()

    def close(self) -> None:
        """Stop serving and remove what was uploaded but never asked about."""
        self._page.close(verbose=False)
        shutil.rmtree(self.uploads, ignore_errors=True)


def serve(assistant: Assistant, *, open_browser: bool = False) -> None:
    """Serve the page until Ctrl+C is pressed.

    Raises:
        ConfigError: the address is not of this machine, or the port is taken.
    """
    running = start(assistant, open_browser=open_browser)
    sys.stderr.write(f"Fovea is at {running.url} (Ctrl+C ends it)\n")
    try:
        running.wait()
    finally:
        running.close()


def start(assistant: Assistant, *, open_browser: bool = False) -> RunningPage:
    """Serve the page in the background.

    Raises:
        ConfigError: the address is not of this machine, or the port is taken.
    """
    settings = assistant.settings
    refuse_other_machines(settings.host)
    port = free_port(settings.host, settings.port)
    uploads = Path(tempfile.mkdtemp(prefix="fovea-uploads-"))  # mode 0700
    atexit.register(shutil.rmtree, uploads, ignore_errors=True)
    # Read by gradio when it is imported or when a component is made.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import gradio as gr

    from fovea.ui.page import TURNS_AT_ONCE, build_page
    from fovea.ui.viewer import ASSETS

    assistant.store.sweep()
    page = build_page(assistant)
    page.queue(default_concurrency_limit=TURNS_AT_ONCE)
    page.launch(
        server_name=settings.host,
        server_port=port,
        share=False,
        inbrowser=open_browser,
        prevent_thread_lock=True,
        quiet=True,
        max_file_size=int(settings.max_file_mb * 1e6),
        allowed_paths=[],
        blocked_paths=[str(settings.data_dir.absolute()), str(Path(__file__).parents[1])],
        strict_cors=True,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        enable_monitoring=False,
        run_history=False,
        footer_links=[],
        app_kwargs={"middleware": [only_local_names(settings.host)]},
        theme=gr.themes.Default(
            primary_hue="teal", neutral_hue="slate", font=FONTS, font_mono=MONO_FONTS
        ),
        css_paths=[ASSETS / "page.css"],
        js=(ASSETS / "page.js").read_text(encoding="utf-8"),
    )
    assistant.warm_up()
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return RunningPage(f"http://{host}:{port}/", page, uploads)


def refuse_other_machines(host: str) -> None:
    """Refuse an address that others can reach: the page has no login.

    Raises:
        ConfigError: `host` is not a loopback address.
    """
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local:
        raise ConfigError(
            f"The page is not served on `{host}`",
            where="host",
            why="Others could reach it there, it has no login, and it shows patient images",
            fix="Keep `127.0.0.1` and come in through `ssh -L 7860:127.0.0.1:7860`, or put a "
            "reverse proxy with login in front",
        )


def only_local_names(host: str) -> Any:
    """Middleware that refuses requests under another host name.

    A foreign page whose name was made to point here (DNS rebinding) would
    otherwise be let in as if it were ours.
    """
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    # The middleware cuts the port at the first colon: "[" is what is left of an IPv6 address.
    names = ["localhost", "127.0.0.1", "[" if ":" in host else host]
    return Middleware(TrustedHostMiddleware, allowed_hosts=names, www_redirect=False)


def free_port(host: str, port: int) -> int:
    """The port to serve on: `port` if it is free, any free one for 0.

    Raises:
        ConfigError: the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"The port {port} cannot be used",
                where="port",
                why=error.strerror or "It is taken",
                fix="End the other program, or set `FOVEA_PORT` to another; 0 picks a free one",
            ) from error
        return int(probe.getsockname()[1])
