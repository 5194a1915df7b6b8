"""The `predict` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from detrofit.cli.options import Device, Plugins


def predict(
    file: Annotated[Path, typer.Argument(help="A model file.")],
    sources: Annotated[list[str], typer.Argument(help="Pictures, folders or glob patterns.")],
    threshold: Annotated[float | None, typer.Option(help="Lowest score; default: the file's own.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for annotated pictures and predictions.json.")] = Path(
        "predictions"
    ),
    batch: Annotated[int, typer.Option(help="Pictures at a time.")] = 1,
    device: Device = "auto",
    plugin: Plugins = [],  # noqa: B006 - typer needs a list
) -> None:
    """Find objects in pictures: annotated pictures, COCO JSON and a table."""
    import json

    from rich.progress import track
    from rich.table import Table

    from detrofit.cli.console import table_console
    from detrofit.errors import DetrofitError
    from detrofit.files import atomic_write, write_file
    from detrofit.pictures import decode_picture
    from detrofit.runtime.detector import Detector
    from detrofit.runtime.sources import find_pictures

    detector = Detector(file, threshold=threshold, device=None if device == "auto" else device, plugins=plugin)
    pictures = find_pictures(list(sources))
    stems = [Path(picture.name).stem for picture in pictures]
    numbered = [f"{number:05d}_{stem}" for number, stem in enumerate(stems, start=1)] if len(stems) > 1 else stems
    targets = [out / f"{stem}.jpg" for stem in numbered]
    for source in {Path(picture.name).resolve() for picture in pictures} & {target.resolve() for target in targets}:
        raise DetrofitError(f"the annotated picture would take the place of {source}; name another folder with --out")
    images, annotations = [], []
    table = Table("picture", "objects", "best")
    results = detector.predict(list(sources), batch)
    shown = track(results, "predicting", len(pictures))
    for number, (picture, target, found) in enumerate(zip(pictures, targets, shown), start=1):
        with atomic_write(target) as temporary:
            found.plot(decode_picture(picture.content)).save(temporary, "JPEG")
        images.append({"id": number, "file_name": picture.name, "height": found.size[0], "width": found.size[1]})
        annotations += found.to_coco(number, detector.category_ids)
        best = f"{found.names[0]} {found.scores[0]:.2f}" if len(found) else "-"
        table.add_row(picture.name, str(len(found)), best)
    categories = [{"id": key, "name": name} for key, name in zip(detector.category_ids, detector.class_names)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_file(out / "predictions.json", json.dumps(content, ensure_ascii=False))
    table_console().print(table)
    print(f"annotated pictures and predictions.json in {out}")
