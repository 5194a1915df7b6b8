"""Boxes with captions on a picture, by Pillow alone; sizes follow the picture's, colours suit colour-blind eyes."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# The Okabe-Ito colours without black, then Paul Tol's muted ones, in an order that keeps neighbours apart.
PALETTE = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442",
    "#332288", "#44AA99", "#882255", "#999933", "#AA4499", "#117733", "#DDCC77",
)  # fmt: skip

# Pillow's own font has Latin letters only. These cover more, and Pillow finds them where the system keeps its fonts.
_WIDE_FONTS = (
    "NotoSansCJK-Regular.ttc", "NotoSansSC-Regular.otf", "msyh.ttc", "PingFang.ttc", "Hiragino Sans GB.ttc",
    "wqy-microhei.ttc", "simhei.ttf", "DejaVuSans.ttf", "Arial Unicode.ttf",
)  # fmt: skip

# The same fonts by the names of their families, for those who draw text with matplotlib.
WIDE_FAMILIES = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Microsoft YaHei", "PingFang SC", "Hiragino Sans GB",
    "WenQuanYi Micro Hei", "SimHei", "Arial Unicode MS",
)  # fmt: skip

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def colour_of(label: int) -> str:
    """The colour of class `label` as `#RRGGBB`; classes past the palette's end start it again."""
    return PALETTE[label % len(PALETTE)]


def draw_boxes(
    image: np.ndarray | Image.Image,
    boxes_xyxy: np.ndarray,
    captions: Sequence[str],
    colours: Sequence[str],
) -> Image.Image:
    """A copy of `image` with each box outlined in its colour and captioned above it (inside where there is no room).

    Args:
        image: uint8 `[H, W, 3]`, or a Pillow image.
        boxes_xyxy: `[n, 4]` in pixels of `image`, drawn in order, so the last one is on top.
        captions: n texts; an empty one draws the outline alone.
        colours: n colours as `#RRGGBB`.
    """
    canvas = (Image.fromarray(image) if isinstance(image, np.ndarray) else image).convert("RGB")
    draw = ImageDraw.Draw(canvas)
    thickness, font_size = _sizes(canvas.width, canvas.height)
    for box, colour in zip(boxes_xyxy, colours, strict=True):
        draw.rectangle(_inside(box, canvas), outline=colour, width=thickness)
    for box, caption, colour in zip(boxes_xyxy, captions, colours, strict=True):
        if caption:
            _draw_caption(draw, caption, _inside(box, canvas), colour, font_size, canvas)
    return canvas


def font_for(text: str, size: int) -> Font:
    """A font of `size` pixels that has the letters of `text`, as far as this machine has one."""
    return _default_font(size) if text.isascii() else _wide_font(size)


def _sizes(width: int, height: int) -> tuple[int, int]:
    """Thickness of a line and height of a caption, in pixels, that stay readable when the picture is shown whole."""
    side = max(width, height)
    return max(2, round(side / 300)), max(12, round(side / 42))


def _inside(box: np.ndarray, canvas: Image.Image) -> tuple[int, int, int, int]:
    """The box in whole pixels of the canvas, corners in order, at least one pixel large."""
    x1, x2 = sorted(round(min(max(float(x), 0), canvas.width - 1)) for x in (box[0], box[2]))
    y1, y2 = sorted(round(min(max(float(y), 0), canvas.height - 1)) for y in (box[1], box[3]))
    return x1, y1, x2, y2


def _draw_caption(
    draw: ImageDraw.ImageDraw, text: str, box: tuple[int, int, int, int], colour: str, size: int, canvas: Image.Image
) -> None:
    font = font_for(text, size)
    left, top, right, bottom = _text_box(draw, text, font)
    margin = max(1, size // 6)
    width, height = right - left + 2 * margin, bottom - top + 2 * margin
    x = max(0, min(box[0], canvas.width - width))
    y = box[1] - height if box[1] >= height else min(box[1], max(0, canvas.height - height))
    draw.rectangle((x, y, x + width, y + height), fill=colour)
    draw.text((x + margin - left, y + margin - top), text, fill=_readable_on(colour), font=font)


def _text_box(draw: ImageDraw.ImageDraw, text: str, font: Font) -> tuple[int, int, int, int]:
    """The box around `text`; its height is that of any text, so that all captions are equally high."""
    left, _, right, _ = draw.textbbox((0, 0), text, font=font)
    _, top, _, bottom = draw.textbbox((0, 0), "Ág", font=font)
    return int(left), int(top), int(right), int(bottom)


def _readable_on(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#FFFFFF"


@functools.lru_cache(maxsize=64)
def _default_font(size: int) -> Font:
    return ImageFont.load_default(size)


@functools.lru_cache(maxsize=64)
def _wide_font(size: int) -> Font:
    for name in _WIDE_FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return _default_font(size)
