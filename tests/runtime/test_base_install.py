"""What `pip install detrofit` alone gives, in a fresh environment: a file runs, the rest says what it lacks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from PIL import Image

from tests.runtime.onnx_by_hand import describe, write_onnx_by_hand

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def run(*command: object, folder: Path) -> subprocess.CompletedProcess[str]:
    """A command without anything of this environment."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return subprocess.run(
        [str(each) for each in command], capture_output=True, text=True, check=False, cwd=folder, env=environment
    )


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs of an environment with the base package alone."""
    folder = tmp_path_factory.mktemp("fresh environment")
    venv.create(folder / "env", with_pip=True)
    programs = folder / "env" / ("Scripts" if sys.platform == "win32" else "bin")
    pip = (programs / "python", "-m", "pip")
    if run(*pip, "download", "--no-deps", "--dest", folder / "probe", "setuptools", folder=folder).returncode:
        pytest.skip("pip reaches no index here")
    tree = folder / "tree"  # building leaves files beside the source
    shutil.copytree(ROOT / "src", tree / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    installed = run(*pip, "install", "--quiet", tree, folder=folder)
    assert installed.returncode == 0, installed.stderr
    return programs


def test_it_runs_a_file_without_the_training_stack(programs: Path, tmp_path: Path) -> None:
    write_onnx_by_hand(tmp_path / "model.onnx", describe().model_dump_json())
    Image.new("RGB", (80, 40), "white").save(tmp_path / "a picture.png")
    result = run(programs / "detrofit", "predict", "model.onnx", "a picture.png", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "1 picture, 1 object" in result.stdout
    assert (tmp_path / "predictions" / "a picture.jpg").exists()
    listed = run(programs / "python", "-m", "pip", "list", folder=tmp_path).stdout.lower().split()
    assert "detrofit" in listed and not {"torch", "torchvision", "matplotlib", "scipy", "av", "fastapi"} & set(listed)


def test_what_needs_an_extra_says_which(programs: Path, tmp_path: Path) -> None:
    write_onnx_by_hand(tmp_path / "model.onnx", describe().model_dump_json())
    for name in ("film.mp4", "model.xml", "model.bin", "model.safetensors"):
        (tmp_path / name).touch()
    for arguments, extra in {
        ("predict", "model.onnx", "film.mp4"): "video",
        ("predict", "model.xml", "film.mp4"): "openvino",
        ("predict", "model.safetensors", "film.mp4"): "train",
        ("serve", "model.onnx", "--port", "0"): "serve",
    }.items():
        result = run(programs / "detrofit", *arguments, folder=tmp_path)
        assert result.returncode == 2 and result.stderr.count("\n") == 1, result.stderr
        assert f'pip install "detrofit[{extra}]"' in result.stderr
