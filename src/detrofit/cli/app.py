"""The `detrofit` command: it finds the commands, runs one, and turns what went wrong into a line and an exit code."""

from __future__ import annotations

import io
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any

import typer
import typer.main

from detrofit.cli.discovery import CommandFolder
from detrofit.errors import DetrofitError, DetrofitWarning
from detrofit.extras import explain_missing_module
from detrofit.version import __version__

SUCCESS, BROKEN_PIPE, MISTAKE, INTERRUPTED = 0, 1, 2, 130

LOST_WORKER = re.compile(r"DataLoader worker \(pid.*(killed by signal|exited unexpectedly)|shared memory")

# Typer's base class of all mistakes on the command line; its place differs between versions.
CommandLineError: type[Exception] = typer.BadParameter.__mro__[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` (default: those of the process) name, and return the exit code.

    0 is success, 2 a mistake of the user's (told in one line on stderr), 130 an interruption, 1 is for commands that
    check something and found it wanting. Anything else that is raised is a fault of the program and passes through.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Unicode shows '?' instead of failing
    application = typer.Typer(cls=CommandFolder, add_completion=True, rich_markup_mode=None)
    application.callback()(_options)
    return run(typer.main.get_command(application), arguments)


def run(command: Any, arguments: Sequence[str] | None) -> int:
    """Run `command` on `arguments`, print what the user did wrong in one line, and return the exit code."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", DetrofitWarning)
            warnings.showwarning = partial(_show_warning, warnings.showwarning)
            result = command.main(args=arguments, prog_name="detrofit", standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        result = INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        return BROKEN_PIPE
    except (DetrofitError, CommandLineError, ModuleNotFoundError, OSError, MemoryError, RuntimeError) as error:
        line = _line_about(error)
        if line is None:
            raise
        print("error:", line, file=sys.stderr)
        return MISTAKE
    if result == INTERRUPTED:
        print("interrupted", file=sys.stderr)
    return result if isinstance(result, int) else SUCCESS


def _line_about(error: Exception) -> str | None:
    """One line that says what the user did wrong; None for what is no mistake of the user's."""
    message: str | None = str(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported
        message = "there is not enough memory; try a smaller --batch or --imgsz, or another --device"
    elif isinstance(error, RuntimeError):
        message = _about_lost_workers(str(error))
    elif isinstance(error, CommandLineError):
        message = _usage_message(error)
    elif isinstance(error, ModuleNotFoundError):
        explained = explain_missing_module(error)
        message = str(explained) if explained else None
    elif isinstance(error, OSError) and error.strerror:
        message = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return message if message is None else " ".join(message.split())


def _about_lost_workers(message: str) -> str | None:
    """What to do where torch says that a process that loads pictures is no more; None where it says something else."""
    if not LOST_WORKER.search(message):
        return None
    return (
        f"a process that loads pictures was lost ({message.splitlines()[0].rstrip('. ')}): memory, or a container's "
        "shared memory (docker run --shm-size=8g), does not suffice; give fewer --workers, or 0"
    )


def _show_warning(usual: Callable[..., None], message: Warning | str, category: type[Warning], *place: Any) -> None:
    """What concerns the user in one line; warnings of libraries as Python shows them."""
    if issubclass(category, DetrofitWarning):
        print("warning:", " ".join(str(message).split()), file=sys.stderr)
    else:
        usual(message, category, *place)


def _usage_message(error: Any) -> str:
    context = getattr(error, "ctx", None)
    hint = f" (see '{context.command_path} --help')" if context else ""
    return f"{error.format_message().rstrip('.')}{hint}"


def _discard_output() -> None:
    """Send what is still buffered to nowhere, or Python would complain about the closed pipe on exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"detrofit {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Retrofit RT-DETR with better parts, learn whether it helped, and ship the winner."""
