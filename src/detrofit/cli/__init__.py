"""The command line: one file a command, thin (parse, call, print)."""

from detrofit.cli.app import main

__all__ = ["main"]
