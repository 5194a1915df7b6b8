from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import filelock
import pytest

from detrofit import DetrofitError
from detrofit.files import alone, atomic_write, write_file


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_text_and_bytes_are_written_whole_with_their_folders(tmp_path):
    assert write_file(tmp_path / "a b" / "c.txt", "é 猫\n").read_bytes() == "é 猫\n".encode()
    assert write_file(tmp_path / "a b" / "c.txt", b"\x00").read_bytes() == b"\x00"
    assert names(tmp_path / "a b") == ["c.txt"]


def test_the_target_changes_only_at_the_end(tmp_path):
    target = write_file(tmp_path / "file", "old")
    with atomic_write(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old" and temporary.parent == target.parent
    assert target.read_text() == "new"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("a fault"), KeyboardInterrupt()])
def test_whatever_goes_wrong_the_old_file_stays_and_nothing_else(tmp_path, error):
    target = write_file(tmp_path / "file", "old")
    expected = DetrofitError if isinstance(error, OSError) else type(error)

    def write_half() -> None:
        with atomic_write(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(expected) as caught:
        write_half()
    if expected is DetrofitError:
        assert str(caught.value).startswith(f"cannot write {target}: No space left on device; free space")
    assert target.read_text() == "old" and names(tmp_path) == ["file"]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DetrofitError, match="cannot write"):
        write_file(tmp_path / "file" / "inside", "text")


LIMITED = """
import resource, sys
from pathlib import Path
import torch
from detrofit import DetrofitError
from detrofit.files import write_file
from detrofit.training.state import Progress, save_state
from detrofit.weights.tensor_file import write_tensors

resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # what a full disk does, at a place of our choosing
folder = Path(sys.argv[1])
tensors = {"weight": torch.zeros(100_000)}
for write in (
    lambda: write_file(folder / "text", "x" * 200_000),
    lambda: save_state(folder, Progress(), {"model": tensors}),
    lambda: write_tensors(folder / "model.safetensors", tensors, {}),
):
    try:
        write()
    except DetrofitError as error:
        print(error)
"""


@pytest.mark.skipif(os.name != "posix", reason="limits of file sizes are POSIX")
def test_a_disk_that_really_takes_no_more_is_one_line_and_spares_what_was_there(tmp_path):
    folder = tmp_path / "run"
    for name in ("text", "state.pt", "model.safetensors"):
        write_file(folder / name, "old")
    script = tmp_path / "script.py"
    script.write_text(LIMITED)
    done = subprocess.run([sys.executable, str(script), str(folder)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        f"cannot write {folder / name}" for name in ("text", "state.pt", "model.safetensors")
    ]
    assert names(folder) == ["model.safetensors", "state.pt", "text"]
    assert {path.read_text() for path in folder.iterdir()} == {"old"}


def test_a_folder_is_for_one_command_at_a_time(tmp_path):
    taken = pytest.raises(DetrofitError, match=r"the training in .*run is being run by another command")
    with alone(tmp_path / "run", "training"), taken, alone(tmp_path / "run", "training", patience=0.1):
        raise AssertionError("nobody may come in here")
    with pytest.raises(ValueError, match="a fault"), alone(tmp_path / "run", "training"):
        raise ValueError("a fault")
    with alone(tmp_path / "run", "training"):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(DetrofitError, match=r"cannot write to .*file"), alone(tmp_path / "file", "training"):
        pass


@pytest.mark.parametrize("refusal", [OSError(errno.ENOLCK, "No locks available"), NotImplementedError("no flock")])
def test_a_file_system_without_locks_keeps_nobody_out(tmp_path, monkeypatch, refusal):
    def acquire(lock):
        raise refusal

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
    with alone(tmp_path, "training"), alone(tmp_path, "training"):
        pass
