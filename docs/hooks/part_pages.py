"""MkDocs hook: a page a part and an overview, made from the parts themselves at every build; nothing is committed.

The pages lie in the virtual folder `parts/`; pages written by hand in `docs/parts/` are linked from the overview.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from detrofit.parts.options import option_rows
from detrofit.parts.registry import Part, all_parts
from detrofit.parts.slots import (
    BACKBONE_STEM,
    ENCODER_DOWNSAMPLE,
    FUSION_BLOCK,
    STAGE_BLOCK,
    STAGE_CONV,
    STAGE_DOWNSAMPLE,
    STRIDE_SLOTS,
    Slot,
)
from detrofit.parts.trials import Place, usual_retrofit

FOLDER = "parts"
EXAMPLE_MODEL = "rtdetr-n"
TABLE, FINDINGS = "docs/tables/catalogue.md", "docs/tables/catalogue_findings.md"
COSTS = (
    "Each part where it usually goes, with its default options, against the stock model; in `rtdetr-r50` the parts of "
    "the backbone. In parentheses is the change against stock, where there is one. **Operations and latency need not "
    "agree**; below the tables stands where they do not. Counts are those of training (80 classes), latencies those of "
    "the merged and the exported model. The machine's host is shared: of 22 parts that were timed twice, hours apart, "
    "half moved by 3% or more against stock and one in ten by 9% or more, so smaller differences say nothing.",
)
_WIDENING = (BACKBONE_STEM, STAGE_BLOCK, STAGE_CONV, STAGE_DOWNSAMPLE, FUSION_BLOCK, ENCODER_DOWNSAMPLE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of this distribution's own parts, and the overview."""
    parts = [part for part in all_parts() if part.origin.source == "detrofit"]
    by_hand = [file for file in files.documentation_pages() if file.src_uri.startswith(f"{FOLDER}/")]
    titles = {Path(file.src_uri).name: _title(file.content_string) for file in by_hand}
    for part in parts:
        files.append(File.generated(config, f"{FOLDER}/{part.name}.md", content=part_page(part)))
    files.append(File.generated(config, f"{FOLDER}/index.md", content=overview(parts, titles)))
    return files


def overview(parts: list[Part], more: Mapping[str, str]) -> str:
    """All parts in one table; `more` are further pages of the folder by file name, with their titles."""
    lines = [
        "# Parts",
        "",
        "What goes into the slots. Each page is made from the part's own file; "
        "`detrofit parts NAME` prints the same in a terminal.",
        "",
        *(f"- [{title}]({name})" for name, title in sorted(more.items())),
        "",
        "| part | slots | paper | what it is |",
        "| --- | --- | --- | --- |",
    ]
    for part in parts:
        lines.append(f"| [{part.name}]({part.name}.md) | {_slots(part.fits, '<br>')} | {_links(part.paper)} | "
                     f"{_prose(part.summary)} |")  # fmt: skip
    lines += ["", "## What they cost", "", *COSTS, "", f'--8<-- "{TABLE}"', "", f'--8<-- "{FINDINGS}"']
    return "\n".join(lines) + "\n"


def part_page(part: Part) -> str:
    """What a part is, where it fits, what it can, its options, and a line that swaps it in."""
    prose, arguments = _docstring(part)
    lines = [
        f"# {part.name}",
        "",
        *prose,
        "| | |",
        "| --- | --- |",
        *(f"| {key} | {value} |" for key, value in _facts(part)),
        "",
        "```",
        f"detrofit train {EXAMPLE_MODEL} --swap {example_swap(part)} --data data.yaml",
        "```",
        "",
        *_options(part, arguments),
        "[All parts](index.md)",
    ]
    return "\n".join(lines) + "\n"


def example_swap(part: Part) -> str:
    """A `--swap` value, quoted for a shell, that puts the part where it usually goes."""
    ((address, choice),) = usual_retrofit(part).items()
    if isinstance(choice, str):
        return f"{address}={choice}" if "[" not in address else f"'{address}={choice}'"
    return f"'{address}={{{', '.join(f'{name}: {value}' for name, value in choice.items())}}}'"


def _facts(part: Part) -> list[tuple[str, str]]:
    facts = [("fits", _slots(part.fits, ", "))]
    if part.slots:
        facts.append(("offers inside itself", _slots(part.slots, ", ")))
    if part.paper:
        facts.append(("paper", _links(part.paper)))
    if part.licence:
        facts.append(("original and its licence", _links(_prose(part.licence))))
    return facts + _abilities(part)


def _abilities(part: Part) -> list[tuple[str, str]]:
    """What sizes, channels, strides and widths it takes; nothing for losses, which are not between maps."""
    slots = [slot for slot in part.fits if slot.numbers]
    if not slots:
        return []
    multiple = part.size_multiple
    abilities = [
        ("height and width", "any" if multiple == 1 else f"multiples of {multiple}; the frame pads others"),
    ]
    if any("in_channels" in slot.numbers for slot in slots):
        abilities.append(("channels", _channels(part, slots[0])))
    if any(slot in STRIDE_SLOTS for slot in slots):
        by_options = callable(part.can_stride)
        by_itself = "by itself, if its options give it a depthwise convolution" if by_options else "by itself"
        abilities.append(("stride 2", by_itself if part.can_stride else "a downsample is put before it"))
    if any(slot in _WIDENING for slot in slots):
        abilities.append(("other channels out than in", "by itself" if part.can_widen else "a 1x1 is put before it"))
    return abilities


def _channels(part: Part, slot: Slot) -> str:
    place = Place(part, slot)
    options = place.filler(place.options).choice(slot, part.name).options
    multiple = part.channel_multiple_with(options)
    if callable(part.channel_multiple):
        return f"multiples of a number that its options set (by default {multiple})"
    return "any number" if multiple == 1 else f"multiples of {multiple}"


def _options(part: Part, arguments: Mapping[str, str]) -> list[str]:
    rows = option_rows(part.options)
    if not rows:
        return ["It has no options.", ""]
    lines = ["## Options", "", "| option | default | allowed | meaning |", "| --- | --- | --- | --- |"]
    for row in rows:
        meaning = _prose(row.meaning or arguments.get(row.name, ""))
        lines.append(f"| `{row.name}` | {_prose(row.default)} | {_prose(row.allowed)} | {meaning} |")
    return [*lines, ""]


def _docstring(part: Part) -> tuple[list[str], dict[str, str]]:
    """The paragraphs of the docstring as Markdown, and what its `Args:` say about each option."""
    text, _, listed = (inspect.getdoc(part.build) or "").partition("\nArgs:\n")
    prose = [line for paragraph in text.strip().split("\n\n") for line in (_prose(" ".join(paragraph.split())), "")]
    entries = re.split(r"^ {4}(?=\w+:)", listed, flags=re.MULTILINE)[1:]
    pairs = (entry.partition(":") for entry in entries)
    return prose, {name: " ".join(meaning.split()) for name, _, meaning in pairs}


def _prose(text: str) -> str:
    """Plain text as Markdown: what stands in backticks stays, and nothing else is taken for markup."""
    pieces = re.split(r"(`[^`]*`)", text)
    pieces[::2] = [re.sub(r"([\\*_\[\]#|])", r"\\\1", piece).replace("<", "&lt;") for piece in pieces[::2]]
    return "".join(pieces)


def _links(text: str) -> str:
    """arXiv ids and GitHub addresses as links."""
    text = re.sub(r"arXiv:(\d+\.\d+)", r"[arXiv:\1](https://arxiv.org/abs/\1)", text)
    return re.sub(r"github\.com/[\w./-]+", lambda match: f"[{match[0]}](https://{match[0]})", text)


def _slots(slots: Sequence[Slot], between: str) -> str:
    return between.join(f"`{slot.pattern.replace('{stage}', 'N')}`" for slot in slots)


def _title(page: str) -> str:
    return next(line.removeprefix("# ") for line in page.splitlines() if line.startswith("# "))
