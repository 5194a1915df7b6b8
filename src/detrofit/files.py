"""Writing files so that a reader never sees half of one, and telling whether two hold the same."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from detrofit.errors import DetrofitError

LOCK = ".lock"  # in a folder that one command at a time works in
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)  # of file systems that have none


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """A temporary path beside `target` to write to; on success it replaces `target`, on failure nothing stays.

    Raises DetrofitError where the disk is full or the folder cannot be written.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise DetrofitError(
            f"cannot write {target}: {error.strerror or error}; free space or choose another folder"
        ) from error
    finally:
        with suppress(OSError):  # already gone, or the folder is of no use
            temporary.unlink()


@contextmanager
def alone(folder: Path, what: str, patience: float = 0.0) -> Iterator[None]:
    """DetrofitError while another command works on `what` in this folder; one that was killed holds nothing.

    `patience` is how many seconds to wait for the other one to end. On a file system without locks nobody is refused.
    """
    from filelock import FileLock, Timeout  # no part of the base install, which writes no such folders

    lock = FileLock(folder / LOCK, timeout=patience)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:  # which is an OSError, too
        raise DetrofitError(f"the {what} in {folder} is being run by another command; let that one end first") from None
    except NotImplementedError:  # filelock before its version 4 where there are no locks
        pass
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise DetrofitError(
                f"cannot write to {folder}: {error.strerror or error}; choose another folder"
            ) from error
    try:
        yield
    finally:
        lock.release()


def write_file(target: str | Path, content: str | bytes) -> Path:
    """Write a whole file, or nothing; text is UTF-8. Returns the path."""
    target = Path(target)
    with atomic_write(target) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    return target


def file_digest(file: str | Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with Path(file).open("rb") as opened:
        while block := opened.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def cache_folder(kind: str) -> Path:
    """Where things of a kind are kept to be found again: in `DETROFIT_CACHE`, else the user's cache folder."""
    chosen = os.environ.get("DETROFIT_CACHE")
    if chosen:
        return Path(chosen).expanduser() / kind
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "detrofit" / kind
