"""Small pictures inside a page: images with a caption each, as data in the page itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

from windvane.pages.html_builder import Html, tag
from windvane.runtime.images import Pixels

SIDE = 120  # pixels of the longer side at most; twice what is shown, for high-resolution screens
SMALL = 48  # up to this size an image stays as it is, and is shown with its pixels


def gallery(shots: Sequence[tuple[Pixels, str, str]], *, label: str, side: int = SIDE) -> Html:
    """Return images side by side, from RGB bytes (h, w, 3), caption and name of each."""
    items = [tag("li", thumbnail(pixels, name, side), tag("span", caption)) for pixels, caption, name in shots]
    kind = "shots" if side <= SIDE else "shots large"
    return tag("ul", *items, attributes={"class": kind, "aria-label": label})


def thumbnail(pixels: Pixels, name: str, side: int = SIDE) -> Html:
    """Return one image, whose name a pointer shows."""
    kind = {"class": "pixels"} if max(pixels.shape) <= SMALL else {}
    picture = {"src": encode(pixels, side), "alt": name, "title": name, **kind}
    return tag("img", attributes=picture)


def encode(pixels: Pixels, side: int = SIDE) -> str:
    """Return RGB bytes (h, w, 3) as a data URI: PNG of small images, a JPEG thumbnail of larger ones."""
    from PIL import Image

    image = Image.fromarray(pixels)
    stream = io.BytesIO()
    if max(image.size) <= SMALL:
        image.save(stream, "PNG", optimize=True)
        kind = "png"
    else:
        image.thumbnail((side, side))
        image.save(stream, "JPEG", quality=80, optimize=True)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
