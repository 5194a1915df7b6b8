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
PLACEMENT_TRIALS = 8
SUPERSAMPLING = 4  # of the outlines, for smooth edges
SHADOW_OFFSET, SHADOW_DEPTH = 0.05, 0.45  # in sides of the object; share of the light


@dataclass(frozen=True)
class Scene:
    """A picture uint8 `[H, W, 3]`, its boxes float32 `[n, 4]` xyxy in pixels around what is visible, labels `[n]`."""

    picture: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Place:
    """Where an object lies: a window of the scene, and its cover 0..1 and its shadow's 0..1 of each pixel in it."""

    window: tuple[slice, slice]
    cover: np.ndarray
    shadow: np.ndarray

    @property
    def covered(self) -> np.ndarray:
        return self.cover > 0.5


def draw_scene(generator: np.random.Generator, height: int, width: int) -> Scene:
    """A scene of shapes, large and small, that partly hide each other, with shadows, uneven light and some noise."""
    canvas = _ground(generator, height, width)
    owners = np.full((height, width), -1)  # which object shows in each pixel
    areas: list[int] = []
    labels: list[int] = []
    for _ in range(generator.integers(OBJECTS[0], OBJECTS[1] + 1)):
        label = int(generator.integers(len(SHAPES)))
        place = _free_place(generator, label, owners, areas)
        if place is not None:
            _paint(generator, canvas[place.window], place, label)
            owners[place.window][place.covered] = len(labels)
            areas.append(int(place.covered.sum()))
            labels.append(label)
    grain = generator.normal(0, 0.012, (height, width, 1)).astype(np.float32)
    lit = canvas * _light(generator, height, width) + grain
    picture = (lit.clip(0, 1) * 255).round().astype(np.uint8)
    return Scene(picture, _visible_boxes(owners, len(labels)), np.array(labels, dtype=np.int64))


def _ground(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Two muted colours mixed by noise of several sizes, float32 `[H, W, 3]` in 0..1."""
    hue = generator.random()
    dark = _colour(hue, generator.uniform(0.08, 0.3), generator.uniform(0.25, 0.45))
    pale = _colour(hue + generator.uniform(-0.1, 0.1), generator.uniform(0.05, 0.25), generator.uniform(0.55, 0.8))
    share = np.full((height, width), 0.5, dtype=np.float32)
    for cells, strength in ((4, 0.55), (11, 0.28), (40, 0.14)):
        share += strength * _noise(generator, height, width, cells)
    return dark + (pale - dark) * share.clip(0, 1)[..., None]


def _noise(generator: np.random.Generator, height: int, width: int, cells: int) -> np.ndarray:
    """Smooth noise about 0 with that many cells on a side, float32 `[H, W]`."""
    coarse = Image.fromarray(generator.uniform(-1, 1, (cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


def _light(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    angle = generator.uniform(0, 2 * math.pi)
    down = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None, None]
    across = np.linspace(-0.5, 0.5, width, dtype=np.float32)[None, :, None]
    return 1 + 0.35 * (down * math.sin(angle) + across * math.cos(angle))


def _colour(hue: float, saturation: float, value: float) -> np.ndarray:
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value), dtype=np.float32)


def _free_place(generator: np.random.Generator, label: int, owners: np.ndarray, areas: list[int]) -> Place | None:
    """A place for a new object where enough of itself and of every other stays visible, if one is soon found."""
    side = min(owners.shape) * math.exp(generator.uniform(math.log(SIDES[0]), math.log(SIDES[1])))
    cover = _cover(label, side, turn=generator.uniform(0, 2 * math.pi), squash=generator.uniform(0.8, 1.0))
    shadow = _shadow(cover, max(1, round(SHADOW_OFFSET * side)))
    whole_area = (cover > 0.5).sum()
    before = np.bincount(owners[owners >= 0], minlength=len(areas))
    for _ in range(PLACEMENT_TRIALS):
        place = _placed(
            cover, shadow, [int(generator.uniform(-0.4, 0.9) * room) for room in owners.shape], owners.shape
        )
        hidden = owners[place.window][place.covered]
        remaining = before - np.bincount(hidden[hidden >= 0], minlength=len(areas))
        visible = place.covered.sum() >= max(LEAST_VISIBLE * whole_area, 1)
        if visible and (remaining >= LEAST_VISIBLE * np.array(areas, dtype=float)).all():
            return place
    return None


def _placed(cover: np.ndarray, shadow: np.ndarray, corner: list[int], room: tuple[int, ...]) -> Place:
    """The object with its patch's top left corner there, cut at the edges of the scene."""
    scene, patch = [], []
    for start, length, limit in zip(corner, cover.shape, room, strict=True):
        first, last = min(max(start, 0), limit), min(max(start + length, 0), limit)
        scene.append(slice(first, last))
        patch.append(slice(first - start, last - start))
    return Place((scene[0], scene[1]), cover[patch[0], patch[1]], shadow[patch[0], patch[1]])


def _cover(label: int, side: float, turn: float, squash: float) -> np.ndarray:
    """How much of each pixel a shape covers, 0..1, turned and narrowed to `squash`, with room for its shadow."""
    extent = math.ceil(side * (1 + 4 * SHADOW_OFFSET)) + 2
    large = Image.new("L", (extent * SUPERSAMPLING, extent * SUPERSAMPLING))
    pencil = ImageDraw.Draw(large)
    middle, radius = extent * SUPERSAMPLING / 2, side * SUPERSAMPLING / 2
    corners = _corners(SHAPES[label], turn, squash)
    pencil.polygon([(middle + radius * x, middle + radius * y) for x, y in corners], fill=255)
    if SHAPES[label] == "ring":
        pencil.polygon([(middle + radius * x / 2, middle + radius * y / 2) for x, y in corners], fill=0)
    return np.asarray(large.resize((extent, extent), Image.Resampling.BOX), dtype=np.float32) / 255


def _corners(shape: str, turn: float, squash: float) -> list[tuple[float, float]]:
    """The outline (x, y) of a shape about the origin, of radius 1."""
    number = {"triangle": 3, "square": 4, "star": 10}.get(shape, 48)
    corners = []
    for corner in range(number):
        reach = 0.45 if shape == "star" and corner % 2 else 1.0
        x = reach * squash * math.cos(2 * math.pi * corner / number)
        y = reach * math.sin(2 * math.pi * corner / number)
        corners.append((x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn)))
    return corners


def _shadow(cover: np.ndarray, offset: int) -> np.ndarray:
    fallen = np.zeros_like(cover)
    fallen[offset:, offset:] = cover[:-offset, :-offset]
    soft = Image.fromarray((fallen * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.6 * offset))
    return np.asarray(soft, dtype=np.float32) / 255


def _paint(generator: np.random.Generator, canvas: np.ndarray, place: Place, label: int) -> None:
    """Lay a textured object and its shadow on the canvas's window."""
    hue = HUES[label] + generator.normal(0, HUE_SPREAD)
    first = _colour(hue, generator.uniform(0.55, 0.9), generator.uniform(0.65, 0.95))
    second = _colour(hue + generator.normal(0, 0.03), generator.uniform(0.35, 0.8), generator.uniform(0.3, 0.6))
    texture = TEXTURES[generator.integers(len(TEXTURES))]
    pattern = texture(generator, *place.cover.shape)[..., None]
    canvas *= 1 - SHADOW_DEPTH * place.shadow[..., None]
    canvas += place.cover[..., None] * (second + (first - second) * pattern - canvas)


def _stripes(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    along, _ = _waves(generator, height, width, bands=generator.uniform(3, 7))
    return _sharpened(along)


def _checks(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    along, across = _waves(generator, height, width, bands=generator.uniform(2.5, 5))
    return _sharpened(2 * along * across)


def _dots(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    along, across = _waves(generator, height, width, bands=generator.uniform(3, 5))
    return _sharpened(3 * (along * across - 0.35))


def _clouds(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    return (0.6 + 0.8 * _noise(generator, height, width, cells=4)).clip(0, 1)


def _waves(generator: np.random.Generator, height: int, width: int, bands: float) -> tuple[np.ndarray, np.ndarray]:
    """Two waves -1..1 at right angles, in a random direction, with that many bands in a side."""
    turn = generator.uniform(0, math.pi)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32) * (2 * math.pi * bands / max(height, width))
    along = np.sin(rows * math.sin(turn) + columns * math.cos(turn))
    return along, np.sin(rows * math.cos(turn) - columns * math.sin(turn))


def _sharpened(wave: np.ndarray) -> np.ndarray:
    """A wave about 0 as bands of 0 and 1 with soft edges."""
    return (0.5 + 2.5 * wave).clip(0, 1)


TEXTURES: tuple[Callable[[np.random.Generator, int, int], np.ndarray], ...] = (_stripes, _checks, _dots, _clouds)


def _visible_boxes(owners: np.ndarray, number: int) -> np.ndarray:
    boxes = np.zeros((number, 4), dtype=np.float32)
    for each in range(number):
        rows, columns = np.nonzero(owners == each)
        boxes[each] = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    return boxes
