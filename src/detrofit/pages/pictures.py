"""Pictures inside a page: small JPEGs as data URIs, and boxes of the original picture on them."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from detrofit.pages.blocks import Box, BoxKind, Picture
from detrofit.pictures import decode_picture

_QUALITY = 82


class EmbeddedPicture:
    """A picture file, shrunk so that its longer side has no more than `side` pixels.

    Raises DetrofitError where the file cannot be read.
    """

    def __init__(self, file: Path, side: int) -> None:
        whole = decode_picture(file)
        self.size = np.array([whole.shape[1], whole.shape[0]])
        image = Image.fromarray(whole)
        image.thumbnail((side, side))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
        uri = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
        self.picture = Picture(uri, image.width, image.height)

    def box(self, xyxy: np.ndarray, kind: BoxKind, text: str) -> Box:
        """A box in pixels of the original picture, on the small one."""
        scale = np.array([self.picture.width, self.picture.height]) / self.size
        x0, y0, x1, y1 = (np.asarray(xyxy, np.float64) * np.tile(scale, 2)).tolist()
        return Box((x0, y0, x1, y1), kind, text)
