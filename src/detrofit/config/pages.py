"""The page of all settings, made from the schema."""

from __future__ import annotations

from pydantic import BaseModel

from detrofit.config.schema import AugmentSettings, Experiment, TrainSettings
from detrofit.model.frame import Frame
from detrofit.parts.options import option_rows

_INTRODUCTION = """# Settings

Every setting with its default, what it allows, and why one would change it. They are the keys of a `--config` file and
of `--set KEY=VALUE`; the run folder's `config.yaml` has all of them as they were used. In a file `train.lr: 1e-3`,
`train: {lr: 1e-3}` and `lr: 1e-3`, as `detrofit train` calls its option, are the same. This page is made from the
schema: `python -m detrofit.config.pages > docs/settings.md`.
"""


def settings_page() -> str:
    """The page as Markdown."""
    sections: list[tuple[str, str, type[BaseModel]]] = [
        ("The experiment", "", Experiment),
        ("The frame", "model.", Frame),
        ("Training", "train.", TrainSettings),
        ("Augmentation", "augment.", AugmentSettings),
    ]
    return "\n".join([_INTRODUCTION, *(_section(*section) for section in sections)])


def _section(title: str, prefix: str, model: type[BaseModel]) -> str:
    lines = [f"## {title}", "", "| setting | default | allowed | what for |", "| --- | --- | --- | --- |"]
    for row in option_rows(model):
        if row.name not in ("train", "augment"):
            lines.append(f"| `{prefix}{row.name}` | {row.default} | {row.allowed} | {row.meaning} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(settings_page(), end="")
