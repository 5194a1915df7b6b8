"""Scenes of textured shapes on textured ground, drawn from a random generator: pictures for the demonstration."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SHAPES = ("disc", "ring", "triangle", "square", "star")
HUES = (0.02, 0.13, 0.33, 0.58, 0.80)  # where each shape's colours lie on the colour circle, 0..1
HUE_SPREAD = 0.05
OBJECTS = (3, 12)  # tried in a scene, both included
SIDES = (0.055, 0.45)  # of an object, in sides of the scene; even in the logarithm, so that most are small
LEAST_VISIBLE = 0.45  # of an object's area, whatever lies over it or beyond the edge
SUPERSAMPLING = 4  # of the outlines, for smooth edges
PLACEMENT_TRIALS = 8


@dataclass(frozen=True)
class Scene:
    """A picture uint8 `[H, W, 3]`, its boxes float32 `[n, 4]` xyxy in pixels around what is visible, labels `[n]`."""

    picture: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray


def draw_scene(generator: np.random.Generator, height: int, width: int) -> Scene:
    """A scene with shapes of all sizes that partly hide each other, with shadows, light from one side and some noise."""
    canvas = _ground(generator, height, width)
    owners = np.full((height, width), -1)  # which object shows in each pixel
    areas: list[int] = []
    labels: list[int] = []
    for _ in range(generator.integers(OBJECTS[0], OBJECTS[1] + 1)):
        label = int(generator.integers(len(SHAPES)))
        mask = _free_place(generator, label, owners, areas)
        if mask is not None:
            _paint(generator, canvas, mask, label)
            owners[mask > 0.5] = len(labels)
            areas.append(int((mask > 0.5).sum()))
            labels.append(label)
    lit = canvas * _light(generator, height, width) + generator.normal(0, 0.012, (height, width, 1))
    picture = (lit.clip(0, 1) * 255).round().astype(np.uint8)
    return Scene(picture, _visible_boxes(owners, len(labels)), np.array(labels, dtype=np.int64))


def _ground(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Two muted colours mixed by noise of several sizes, float `[H, W, 3]` in 0..1."""
    hue = generator.random()
    dark = _colour(hue, generator.uniform(0.08, 0.3), generator.uniform(0.25, 0.45))
    pale = _colour(hue + generator.uniform(-0.1, 0.1), generator.uniform(0.05, 0.25), generator.uniform(0.55, 0.8))
    grain = sum(_noise(generator, height, width, cells) / weight for cells, weight in ((4, 1), (11, 2), (40, 4)))
    share = np.clip(0.5 + 0.55 * grain, 0, 1)[..., None]
    return dark + (pale - dark) * share


def _noise(generator: np.random.Generator, height: int, width: int, cells: int) -> np.ndarray:
    """Smooth noise about 0 with that many cells on a side, float `[H, W]`."""
    coarse = Image.fromarray(generator.uniform(-1, 1, (cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


def _light(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    angle = generator.uniform(0, 2 * math.pi)
    rows, columns = np.mgrid[-0.5 : 0.5 : height * 1j, -0.5 : 0.5 : width * 1j]
    return (1 + 0.35 * (rows * math.sin(angle) + columns * math.cos(angle)))[..., None]


def _colour(hue: float, saturation: float, value: float) -> np.ndarray:
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value), dtype=np.float32)


def _free_place(
    generator: np.random.Generator, label: int, owners: np.ndarray, areas: list[int]
) -> np.ndarray | None:
    """The cover 0..1 `[H, W]` of a new object that leaves enough of itself and of every other visible."""
    height, width = owners.shape
    side = min(height, width) * math.exp(generator.uniform(math.log(SIDES[0]), math.log(SIDES[1])))
    outline = _outline(label, side, generator.uniform(0, 2 * math.pi), generator.uniform(0.8, 1.0))
    for _ in range(PLACEMENT_TRIALS):
        mask = np.zeros((height, width), dtype=np.float32)
        top, left = (int(generator.uniform(-0.3 * side, room - 0.7 * side)) for room in (height, width))
        _place(mask, outline, top, left)
        covered = mask > 0.5
        remaining = np.bincount(owners[(owners >= 0) & ~covered], minlength=len(areas))
        if covered.sum() >= LEAST_VISIBLE * (outline > 0.5).sum() and (
            remaining >= LEAST_VISIBLE * np.array(areas, dtype=float)
        ).all():
            return mask
    return None


def _place(canvas: np.ndarray, patch: np.ndarray, top: int, left: int) -> None:
    rows = slice(max(top, 0), min(top + patch.shape[0], canvas.shape[0]))
    columns = slice(max(left, 0), min(left + patch.shape[1], canvas.shape[1]))
    canvas[rows, columns] = patch[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]


def _outline(label: int, side: float, angle: float, squash: float) -> np.ndarray:
    """The cover 0..1 `[side, side]` of a shape, turned by `angle` and narrowed to `squash` of its width."""
    extent = math.ceil(side)
    large = Image.new("L", (extent * SUPERSAMPLING, extent * SUPERSAMPLING))
    radius = extent * SUPERSAMPLING / 2
    turned = ImageDraw.Draw(large)
    turned.polygon(_corners(SHAPES[label], radius, angle, squash), fill=255)
    if SHAPES[label] == "ring":
        hole = [(radius + 0.5 * (x - radius), radius + 0.5 * (y - radius)) for x, y in _corners("ring", radius, angle, squash)]
        turned.polygon(hole, fill=0)
    return np.asarray(large.resize((extent, extent), Image.Resampling.BOX), dtype=np.float32) / 255


def _corners(shape: str, radius: float, angle: float, squash: float) -> list[tuple[float, float]]:
    number = {"triangle": 3, "square": 4, "star": 10}.get(shape, 48)
    corners = []
    for corner in range(number):
        reach = radius * (0.45 if shape == "star" and corner % 2 else 1.0)
        x = reach * squash * math.cos(2 * math.pi * corner / number)
        y = reach * math.sin(2 * math.pi * corner / number)
        turned_x = x * math.cos(angle) - y * math.sin(angle)
        turned_y = x * math.sin(angle) + y * math.cos(angle)
        corners.append((radius + turned_x, radius + turned_y))
    return corners


def _paint(generator: np.random.Generator, canvas: np.ndarray, mask: np.ndarray, label: int) -> None:
    """Lay a textured object on the canvas, with its shadow and a lighter rim towards the light."""
    height, width = mask.shape
    rows, columns = np.nonzero(mask)
    side = max(np.ptp(rows), np.ptp(columns), 1)
    shadow_offset = max(1, round(0.05 * side))
    soft = Image.fromarray((mask * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.6 * shadow_offset))
    shadow = np.zeros_like(mask)
    _place(shadow, np.asarray(soft, dtype=np.float32) / 255, shadow_offset, shadow_offset)
    canvas *= 1 - 0.45 * shadow[..., None]
    hue = HUES[label] + generator.normal(0, HUE_SPREAD)
    first = _colour(hue, generator.uniform(0.55, 0.9), generator.uniform(0.65, 0.95))
    second = _colour(hue + generator.normal(0, 0.03), generator.uniform(0.35, 0.8), generator.uniform(0.3, 0.6))
    pattern = TEXTURES[generator.integers(len(TEXTURES))](generator, height, width, side)[..., None]
    canvas += mask[..., None] * (second + (first - second) * pattern - canvas)


def _stripes(generator: np.random.Generator, height: int, width: int, side: int) -> np.ndarray:
    angle, period = generator.uniform(0, math.pi), side / generator.uniform(2.5, 6)
    rows, columns = np.mgrid[0:height, 0:width]
    wave = np.sin(2 * math.pi * (rows * math.sin(angle) + columns * math.cos(angle)) / period)
    return _sharpened(wave)


def _checks(generator: np.random.Generator, height: int, width: int, side: int) -> np.ndarray:
    return _sharpened(2 * _lattice(generator, height, width, side / generator.uniform(2, 4)))


def _dots(generator: np.random.Generator, height: int, width: int, side: int) -> np.ndarray:
    return _sharpened(3 * (_lattice(generator, height, width, side / generator.uniform(2.5, 4)) - 0.35))


def _lattice(generator: np.random.Generator, height: int, width: int, period: float) -> np.ndarray:
    angle = generator.uniform(0, math.pi)
    rows, columns = np.mgrid[0:height, 0:width]
    along = rows * math.sin(angle) + columns * math.cos(angle)
    across = rows * math.cos(angle) - columns * math.sin(angle)
    return np.sin(2 * math.pi * along / period) * np.sin(2 * math.pi * across / period)


def _clouds(generator: np.random.Generator, height: int, width: int, side: int) -> np.ndarray:
    cells = max(4, round(4 * max(height, width) / side))
    return np.clip(0.6 + 0.8 * _noise(generator, height, width, cells), 0, 1)


def _sharpened(wave: np.ndarray) -> np.ndarray:
    """A wave about 0 as bands of 0 and 1 with soft edges."""
    return np.clip(0.5 + 2.5 * wave, 0, 1)


TEXTURES: tuple[Callable[[np.random.Generator, int, int, int], np.ndarray], ...] = (_stripes, _checks, _dots, _clouds)


def _visible_boxes(owners: np.ndarray, number: int) -> np.ndarray:
    boxes = np.zeros((number, 4), dtype=np.float32)
    for each in range(number):
        rows, columns = np.nonzero(owners == each)
        boxes[each] = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    return boxes
