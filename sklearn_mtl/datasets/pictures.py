"""A picture of any file, size and mode becomes an array of a given shape."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["MODES", "RESIZE", "Layout", "check_file", "is_count", "layout_of", "pillow", "reason"]

MODES = {"L": 1, "RGB": 3, "RGBA": 4}  # and their channels
RESIZE = ("pad", "crop", "stretch")

# What turns images upright, by their orientation in EXIF.
UPRIGHT = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}

# The reads of a JPEG may shrink it by 2, 4 or 8 in decoding, and those of others by averages of
# whole pixels: to no less than this many times what is wanted, of which a finer filter makes it.
FINER = 2


class Layout(NamedTuple):
    """What all pictures become.

    Attributes
    ----------
    height, width : int
        In pixels.
    mode : {'L', 'RGB', 'RGBA'}
        Grey, colours, or colours with transparency.
    resize : {'pad', 'crop', 'stretch'}
        How they get their size.
    background : tuple of int
        Red, green and blue where a picture is transparent, and around one that is padded.
    """

    height: int
    width: int
    mode: str
    resize: str
    background: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of a sample, channels first."""
        return (MODES[self.mode], self.height, self.width)

    def read(self, picture: Any) -> NDArray[np.uint8]:
        """Return a picture, a path of one or an array (H, W) or (H, W, C), in this layout.

        Raises
        ------
        Exception
            Of any type: what a decoder finds wrong with a file.
        """
        with _open(picture) as image:
            is_jpeg = image is not picture and image.format in ("JPEG", "MPO")
            sides = self._shrink(image) if is_jpeg else None
            image.load()
            turn = _orientation(image)  # as decoded: TIFF is turned already
            box, inner = self._fitting(sides or image.size, lies=turn > 4)
            image = self._converted(image)
            if (inner, box) != (image.size, (0, 0, *image.size)):
                filter = pillow().Resampling.BILINEAR
                image = image.resize(inner, filter, box, reducing_gap=FINER)
            if turn in UPRIGHT:
                image = image.transpose(getattr(pillow().Transpose, UPRIGHT[turn]))
            values = np.asarray(self._padded(image))
        return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)

    def _shrink(self, image: Any) -> tuple[float, float] | None:
        """Let a JPEG be decoded smaller; return its width and height then, if it can be done."""
        _, inner = self._fitting(image.size, lies=_orientation(image) > 4)
        drafted = image.draft(None, tuple(FINER * side for side in inner))
        return None if drafted is None else drafted[1][2:]

    def _converted(self, image: Any) -> Any:
        """Return the image in the mode of this layout; 16 bits keep the upper 8."""
        Image = pillow()
        if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
            values, clear = np.asarray(image), image.info.get("transparency")
            image = Image.fromarray((values >> 8).astype(np.uint8))
            if clear is not None:  # one grey that stands for transparent
                image.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
        elif image.mode in ("I", "F"):
            raise ValueError(
                "32 bits per pixel, of which the range is not known: read it into an array"
            )
        if image.has_transparency_data:
            image = image.convert("RGBA")
            if self.mode != "RGBA":
                ground = Image.new("RGBA", image.size, (*self.background, 255))
                image = Image.alpha_composite(ground, image)
        return image if image.mode == self.mode else image.convert(self.mode)

    def _padded(self, image: Any) -> Any:
        """Return the image in the middle of one that has the size of this layout."""
        size = (self.width, self.height)
        if image.size == size:
            return image
        color = {"L": self.background[:1], "RGBA": (*self.background, 0)}
        canvas = pillow().new(self.mode, size, color.get(self.mode, self.background))
        canvas.paste(image, tuple((a - b) // 2 for a, b in zip(size, image.size, strict=True)))
        return canvas

    def _fitting(
        self, sides: tuple[float, float], lies: bool
    ) -> tuple[tuple[float, float, float, float], tuple[int, int]]:
        """Tell which part of a picture is wanted, in which width and height.

        Where it `lies`, width and height change places in the end.
        """
        width, height = sides
        wide, high = (self.height, self.width) if lies else (self.width, self.height)
        whole = (0.0, 0.0, width, height)
        across, down = wide / width, high / height
        if self.resize == "pad":
            scale = min(across, down)
            return whole, (max(1, round(width * scale)), max(1, round(height * scale)))
        if self.resize == "stretch" or across == down:
            return whole, (wide, high)
        scale = max(across, down)
        x, y = max(0, width - wide / scale) / 2, max(0, height - high / scale) / 2
        return (x, y, width - x, height - y), (wide, high)


def layout_of(size: Any, mode: Any, resize: Any, background: Any) -> Layout:
    """Check what users pass, and return it as a layout."""
    sides = tuple(size) if isinstance(size, list | tuple | np.ndarray) else (size, size)
    if len(sides) != 2 or not all(is_count(side) and side > 0 for side in sides):
        raise ValueError(
            f"size={size!r} is no size of pictures. Pass an int for squares, or (height, width)."
        )
    for name, value, known in (("mode", mode, MODES), ("resize", resize, RESIZE)):
        if not (isinstance(value, str) and value in known):
            raise ValueError(f"{name}={value!r} does not exist. Use one of {list(known)}.")
    colors = tuple(background) if isinstance(background, list | tuple) else (background,) * 3
    if len(colors) != 3 or not all(is_count(color) and 0 <= color < 256 for color in colors):
        raise ValueError(
            f"background={background!r} is no colour. Pass an int from 0 to 255, or three of them: "
            "(red, green, blue)."
        )
    if mode == "L" and len(set(colors)) > 1:
        raise ValueError(
            f"background={background!r} is no grey, as mode='L' asks for. Pass an int from 0 to "
            "255."
        )
    return Layout(int(sides[0]), int(sides[1]), mode, resize, tuple(map(int, colors)))


def is_count(value: Any) -> bool:
    """Tell whole numbers from all else."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def pillow() -> Any:
    """Import `PIL.Image`, or say which extra brings it."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            "Files of images are read by Pillow, which is not installed. Install it: "
            'pip install "sklearn-mtl[images]".'
        ) from error
    return Image


@contextlib.contextmanager
def _open(picture: Any) -> Iterator[Any]:
    Image = pillow()
    if isinstance(picture, np.ndarray):
        yield Image.fromarray(picture)
    elif isinstance(picture, str):
        with Image.open(picture) as image:
            image.filename = ""  # else Pillow maps some TIFF into memory, and leaves them lying
            yield image
    else:
        yield picture


def _orientation(image: Any) -> int:
    """How the camera lay, by EXIF, from 1, upright, to 8; above 4, width and height are swapped."""
    try:
        said = image.getexif().get(0x0112)
    except Exception:  # damaged, as the pixels need not be
        return 1
    return said if said in UPRIGHT else 1


def check_file(path: str) -> None:
    """Read the head of a file, which tells its kind and size: what is wrong there raises."""
    if stat.S_ISFIFO(os.stat(path).st_mode):  # which would wait for somebody to write
        raise ValueError("no file, but a pipe")
    with pillow().open(path):
        pass


def reason(path: Any, error: Exception) -> str:
    """Say in a few words why a picture cannot be read."""
    if isinstance(error, FileNotFoundError):
        return "missing"
    if isinstance(error, IsADirectoryError):
        return "a folder"
    if isinstance(path, str) and os.path.isfile(path) and os.path.getsize(path) == 0:
        return "empty"
    if type(error).__name__ == "UnidentifiedImageError":
        return "no image that Pillow knows"
    return f"{error or type(error).__name__}".removesuffix(".")
