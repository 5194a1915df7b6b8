"""Opening what PyAV reads, and saying in one line why it cannot be opened."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import av

from detrofit.errors import DetrofitError
from detrofit.runtime.sources import Video

TIMEOUT = 10.0  # seconds, for opening and for each read of a stream
_CAMERA_FORMATS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}


def open_container(source: Video, content: Any = None) -> Any:
    """The open container of a video with at least one video stream; `content` is read where it is not opened by name.

    Raises DetrofitError that says what to do.
    """
    try:
        container = _open(source, content)
    except av.FFmpegError as error:
        raise _explained(source, error) from None
    if not container.streams.video:
        container.close()
        raise DetrofitError(f"{source.name} has no pictures in it; give a video")
    return container


def reason_of(error: Exception) -> str:
    """The system's or FFmpeg's words for an error, without names and numbers."""
    return str(getattr(error, "strerror", None) or error)


def _open(source: Video, content: Any) -> Any:
    options: Any = {"metadata_errors": "replace"}  # titles and the like may be in any encoding, and nobody reads them
    if content is not None:
        return av.open(content, **options)
    if source.kind == "camera":
        device, kind = _camera(source)
        return av.open(device, format=kind, timeout=TIMEOUT, **options)
    if source.kind == "address":
        transport = {"rtsp_flags": "prefer_tcp"} if source.target.lower().startswith("rtsp") else {}
        return av.open(source.target, options=transport, timeout=TIMEOUT, **options)
    return av.open(os.path.abspath(source.target), **options)  # what is before a colon would be taken for a protocol


def _camera(source: Video) -> tuple[str, str]:
    """What to open, and FFmpeg's name of the system's cameras."""
    kind = _CAMERA_FORMATS.get(sys.platform)
    if kind is None:
        raise DetrofitError(f"cameras of '{sys.platform}' are not known here; give an address or a file")
    if kind == "v4l2":
        return f"/dev/video{source.target}", kind
    if kind == "avfoundation":
        return source.target, kind
    cameras = _windows_cameras(kind)
    if int(source.target) >= len(cameras):
        raise DetrofitError(f"there is no {source.name}; there are {len(cameras)}: {', '.join(cameras) or 'none'}")
    return f"video={cameras[int(source.target)]}", kind


def _windows_cameras(kind: str) -> list[str]:
    try:
        from av.device import enumerate_input_devices
    except ImportError:
        raise DetrofitError("cameras are found with a newer PyAV only: pip install --upgrade av") from None
    return [each.name for each in enumerate_input_devices(kind) if "video" in each.media_types]


def _explained(source: Video, error: av.FFmpegError) -> DetrofitError:
    reason = reason_of(error)
    if source.kind == "camera":
        return DetrofitError(_about_camera(source, error, reason))
    if source.kind == "address":
        return DetrofitError(_about_address(source, error, reason))
    if source.kind == "input":
        return DetrofitError(
            f"standard input is no picture and no video that can be read ({reason}); an .mp4 must be made for it "
            "(ffmpeg -movflags +faststart)"
        )
    if isinstance(error, PermissionError):
        return DetrofitError(f"{source.name} may not be read; give yourself permission to read it")
    return DetrofitError(f"{source.name} is not a video that can be read ({reason}); check or convert it")


def _about_camera(source: Video, error: av.FFmpegError, reason: str) -> str:
    if isinstance(error, FileNotFoundError):
        found = sorted(path.name.removeprefix("video") for path in Path("/dev").glob("video*"))
        return f"there is no {source.name}; cameras here: {', '.join(found) or 'none'}"
    if isinstance(error, PermissionError):
        return f"{source.name} may not be used; let your user use it (on Linux: the group video)"
    return f"{source.name} cannot be opened ({reason}); check that no other program uses it"


def _about_address(source: Video, error: av.FFmpegError, reason: str) -> str:
    if isinstance(error, av.HTTPUnauthorizedError):
        return f"{source.name} asks for a user and a password; give them in the address: rtsp://USER:PASSWORD@host/..."
    if isinstance(error, av.ExitError):
        return f"{source.name} gave no answer within {TIMEOUT:.0f} s; check the address"
    if isinstance(error, OSError) and not _host_is_known(source.target):
        return f"{source.name}: no host of that name is found; check the address and the network"
    return f"{source.name} cannot be opened ({reason}); check the address"


def _host_is_known(address: str) -> bool:
    try:
        return bool(socket.getaddrinfo(urlsplit(address).hostname, None))
    except OSError:
        return False
