"""What each variant changes: as it was written, and every setting and option that came out differently."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from detrofit.comparison.report.content import NOTHING, Content
from detrofit.pages.blocks import Block, Cell, Code, Column, Fold, Row, Table, Text

_FEW = 12  # variants up to which all are open


def change_blocks(content: Content) -> list[Block]:
    """A fold for each variant that changes something, and the base in full."""
    changed = [line for line in content.lines if line["changes"]]
    folds: list[Block] = [_fold(content, line, is_open=len(changed) <= _FEW) for line in changed]
    if content.base.get("configuration"):
        text = _yaml(content.base["configuration"])
        folds.append(Fold("The base in full: every setting, and every slot with its part's options", [Code(text)]))
    return folds


def _fold(content: Content, line: dict[str, Any], is_open: bool) -> Fold:
    blocks: list[Block] = [Code(_yaml(line["changes"]))]
    rows = differing(content.base.get("configuration") or {}, line.get("configuration") or {})
    if rows:
        columns = [Column("setting"), Column("base", numeric=False), Column(line["name"], numeric=False)]
        caption = f"What comes out differently in {line['name']}"
        table = Table(
            caption, columns, [Row([Cell(key), _value(old), _value(new)]) for key, old, new in rows], compact=True
        )
        blocks.append(table)
    elif line.get("configuration"):
        blocks.append(Text("Nothing else comes out differently.", note=True))
    return Fold(line["name"], blocks, open=is_open)


def differing(base: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(setting, base's value, other's value) wherever two resolved configurations differ; None where one has none."""
    flat = dict(_flat(base)), dict(_flat(other))
    keys = dict.fromkeys([*flat[0], *flat[1]])
    return [(key, flat[0].get(key), flat[1].get(key)) for key in keys if flat[0].get(key) != flat[1].get(key)]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, "" if name == "slots" else f"{name}.")
        else:
            yield name, value


def _value(value: Any) -> Cell:
    if value is None:
        return Cell(NOTHING, tone="soft")
    return Cell(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _yaml(values: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True).strip()
