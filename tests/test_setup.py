from __future__ import annotations

import fnmatch
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import detrofit
from detrofit import extras

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib  # type: ignore[no-redef]

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
HEAVY = ["torch", "torchvision", "timm", "accelerate", "matplotlib", "scipy", "transformers", "onnxruntime", "numpy"]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def code_blocks(text: str) -> list[str]:
    return re.findall(r"^```\w*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("statement", ["import detrofit", "import detrofit.cli; detrofit.cli.main(['--help'])"])
def test_nothing_heavy_is_imported_before_it_is_needed(statement):
    code = f"import sys; {statement}; print('loaded:', *[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded:"


def test_the_public_names_are_importable_and_listed():
    for name in detrofit.__all__:
        assert getattr(detrofit, name) is not None
        assert name in dir(detrofit)


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'detrofit' has no attribute 'biuld'"):
        _ = detrofit.biuld


def test_without_an_extra_a_public_name_says_what_to_install(monkeypatch):
    monkeypatch.setitem(detrofit._LAZY_NAMES, "build", "tensorboard:build")
    monkeypatch.delitem(vars(detrofit), "build", raising=False)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(detrofit.DetrofitError, match=r'^this needs .tensorboard.*: pip install "detrofit\[train\]"$'):
        _ = detrofit.build


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        ("torch", "train"),
        ("faster_coco_eval", "train"),
        ("pytest", "dev"),
        ("numpy", None),
        ("torch.nn", None),
        ("nonsense", None),
    ],
)
def test_the_extra_that_brings_a_module(module, extra):
    assert extras.extra_that_brings(module) == extra


def test_the_version_has_one_place():
    newest = re.search(r"^## (\S+)", read("CHANGELOG.md"), flags=re.MULTILINE)
    assert newest is not None
    assert detrofit.__version__ == metadata.version("detrofit") == newest[1]


def test_files_of_the_package_that_are_not_python_are_packaged():
    package = ROOT / "src" / "detrofit"
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["detrofit"]
    others = [
        path.relative_to(package).as_posix()
        for path in package.rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"}
    ]
    assert "py.typed" in others
    missing = [name for name in others if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
    assert not missing, "add them to [tool.setuptools.package-data]"


def test_folders_with_python_files_are_packages():
    folders = {path.parent for path in (ROOT / "src" / "detrofit").rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_both_readmes_print_the_same_commands():
    assert code_blocks(read("README.md")) == code_blocks(read("README.zh-CN.md"))


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md", "CHANGELOG.md", "CONTRIBUTING.md"])
def test_links_lead_to_files(name):
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", read(name))
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_the_licence_is_the_one_that_is_declared():
    text = read("LICENSE")
    assert PROJECT["project"]["license"] == "Apache-2.0"
    for line in ("Version 2.0, January 2004", "9. Accepting Warranty or Additional Liability.", "END OF TERMS"):
        assert line in text


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no executable bit")
def test_the_check_of_a_change_runs_the_tests():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text(encoding="utf-8").rstrip().endswith("make test")
