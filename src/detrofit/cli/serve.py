"""The `serve` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from detrofit.cli.options import Device, Plugins


def serve(
    file: Annotated[Path, typer.Argument(help="A model file: .safetensors, .onnx or .xml.")],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for other machines too.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any free one.")] = 8000,
    token: Annotated[
        str | None, typer.Option(envvar="DETROFIT_TOKEN", help="Answer only requests that bring this token.")
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="Lowest score; default: the file's own.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Pictures that run at once, at most.")] = 8,
    queue: Annotated[int, typer.Option(min=1, help="Requests in work or waiting, at most; then 503.")] = 64,
    max_megabytes: Annotated[int, typer.Option(min=1, help="Size of a request, at most; then 413.")] = 20,
    max_megapixels: Annotated[int, typer.Option(min=1, help="Size of a picture, at most; then 422.")] = 50,
    half: Annotated[bool | None, typer.Option(help="Compute in half precision; default: as the file says.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of one inference; default: the backend's.")] = None,
    device: Device = "auto",
    plugin: Plugins = [],  # noqa: B006 - typer needs a list
) -> None:
    """Serve a model over HTTP: JSON or annotated pictures, a page to try it, metrics."""
    import os
    import sys

    from detrofit.errors import DetrofitError
    from detrofit.runtime.detector import Detector
    from detrofit.server.app import create_app
    from detrofit.server.limits import Limits
    from detrofit.server.listen import is_local, listen, open_socket

    if token is not None and not (token.isascii() and token.isprintable() and token and token == token.strip()):
        raise DetrofitError("the token must be of ASCII letters, digits and signs, to travel in a header")
    if token is None and "DETROFIT_TOKEN" in os.environ:  # typer takes an empty one for none
        raise DetrofitError("DETROFIT_TOKEN is empty, which would ask nobody for a token; set it, or unset it")
    limits = Limits(body_bytes=max_megabytes << 20, pixels=max_megapixels * 1_000_000, requests=queue, batch=batch)
    with open_socket(host, port) as opened:  # first, since a model takes long to load
        chosen = None if device == "auto" else device
        detector = Detector(file, threshold=threshold, device=chosen, plugins=plugin, half=half, threads=threads)
        if token is None and not is_local(opened):
            print("warning: other machines can use this server; --token TOKEN asks them for one", file=sys.stderr)
        listen(
            create_app(detector, limits, token),
            opened,
            lambda address: print(f"{file} is served on {address} (Ctrl-C stops it)", flush=True),
        )
