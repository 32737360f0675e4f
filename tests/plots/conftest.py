"""Checks of figures: the drawn objects, and the PNG files."""

import pytest
from PIL import Image

from dtql_jax.plots import style


@pytest.fixture
def kept(monkeypatch):
    """Figures instead of their files."""
    figures = []
    monkeypatch.setattr(style, "save", lambda figure, path: figures.append(figure))
    return figures


@pytest.fixture
def assert_png():
    """Checks that a PNG has this size, in pixels, and that something is drawn on it."""

    def check(path, width, height):
        with Image.open(path) as image:
            assert image.format == "PNG" and image.size == (width, height)
            colours = image.convert("RGB").getcolors(maxcolors=1 << 24)
        assert len(colours) > 50 and max(count for count, _ in colours) < 0.95 * width * height

    return check
