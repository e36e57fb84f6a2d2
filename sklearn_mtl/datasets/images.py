"""Files of images as arrays: read at once, or when they are needed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_mtl._data.lazy import LazyRows, row_numbers
from sklearn_mtl.datasets.pictures import Layout, check_file, is_count, layout_of
from sklearn_mtl.datasets.reading import (
    each,
    fill,
    is_path,
    is_picture,
    n_threads,
    pictures_of,
    refuse,
    refuse_holes,
)

__all__ = ["ImageFiles", "load_images"]


def load_images(
    paths: Any,
    size: int | tuple[int, int],
    *,
    root: str | os.PathLike[str] | None = None,
    mode: str = "RGB",
    resize: str = "pad",
    background: int | tuple[int, int, int] = 0,
    n_jobs: int | None = None,
) -> NDArray[np.uint8]:
    """Read files of images into one array, whatever their sizes and modes are.

    Images are read as by :class:`ImageFiles`, all at once. It needs Pillow:
    ``pip install "sklearn-mtl[images]"``.

    Parameters
    ----------
    paths : array-like of shape (n_samples,)
        Paths as str or :class:`pathlib.Path`; a file may be there twice. Images of PIL and uint8
        arrays of shape (H, W) or (H, W, 3) may stand for files.
    size : int or (int, int)
        Height and width of all; an int means both.
    root : str or Path, default=None
        This and all others are those of :class:`ImageFiles`.
    mode : {'RGB', 'L', 'RGBA'}, default='RGB'
        Colours, grey, or colours with transparency.
    resize : {'pad', 'crop', 'stretch'}, default='pad'
        How an image of other proportions gets its size.
    background : int or (int, int, int), default=0
        What it is padded with.
    n_jobs : int, default=None
        Threads that decode files.

    Returns
    -------
    X : ndarray of shape (n_samples, n_channels, height, width), dtype uint8
        The images, in the order of `paths`.

    Raises
    ------
    ValueError
        If a row has no path, or files are missing, empty or broken: all are counted, the first ones
        named.
    ImportError
        If Pillow is not installed.

    See Also
    --------
    ImageFiles : The same, read in parts while a model is fitted.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mtl.datasets import load_images
    >>> images = [np.full((30, 40), 200, dtype=np.uint8), np.zeros((9, 9, 3), dtype=np.uint8)]
    >>> load_images(images, size=16).shape
    (2, 3, 16, 16)
    """
    layout = layout_of(size, mode, resize, background)
    n_threads(n_jobs)
    pictures = pictures_of(paths, root, is_picture)
    holes = np.array([picture is None for picture in pictures], dtype=bool)
    refuse_holes(holes, "paths", "as by rows = table['path'].notna()")
    X = np.empty((len(pictures), *layout.shape), dtype=np.uint8)
    # Images of PIL that are there twice must not be decoded by two at once.
    workers = n_jobs if all(isinstance(picture, str) for picture in pictures) else 1
    refuse(fill(layout.read, pictures, X, range(len(X)), workers), len(X))
    return X


class ImageFiles(LazyRows):
    """Files of images that look like an array, and are read when they are needed.

    X of any `fit`, `predict` or `score` of the estimator, of searches and cross-validation: batches
    are decoded by threads, the next one while the network computes. Slices, and rows by index or
    by a mask, are ImageFiles again; ``X[i]`` is an image, and ``np.asarray(X)`` all of them. It
    needs Pillow: ``pip install "sklearn-mtl[images]"``.

    Photographs are turned as their camera says (EXIF), palettes become colours, and 16 bits per
    channel the upper 8 of them. Of several frames, as in animations, the first one is read. Colour
    profiles (ICC) are not applied. Rows may have no path (None, NaN, ``pd.NA`` or empty text); to
    read them is an error, and so is to fit or predict with them, but as a part of a `MultiInput`.

    Parameters
    ----------
    paths : array-like of shape (n_samples,)
        Paths as str or :class:`pathlib.Path`; a file may be there twice, and rows without one.
    size : int or (int, int)
        Height and width of all; an int means both.
    root : str or Path, default=None
        Folder that relative paths start from; None is the working directory.
    mode : {'RGB', 'L', 'RGBA'}, default='RGB'
        Colours, grey, or colours with transparency.
    resize : {'pad', 'crop', 'stretch'}, default='pad'
        How an image of other proportions gets its size: 'pad' shows all of it, with background
        on two sides; 'crop' its centre; 'stretch' changes the proportions.
    background : int or (int, int, int), default=0
        Grey, or red, green and blue, from 0 to 255: where an image is padded, and where it is
        transparent, unless `mode` is 'RGBA'.
    cache : int, default=268435456
        Bytes of decoded images to keep in memory (256 MB): of the files that are read first, until
        there are so many. Parts share it; copies in other processes have one each, empty at first.
        A file that changes after it was read is not read again.
    n_jobs : int, default=None
        Threads, and no processes, that decode files; each holds one in its full size. None takes as
        many as torch computes with, -1 as many as this process has processors.

    Attributes
    ----------
    paths : ndarray of str of shape (n_samples,)
        With `root`; None in rows without one.
    missing : ndarray of bool of shape (n_samples,)
        Rows without a path: ``X[~X.missing]`` are the others.
    shape : tuple of int
        ``(n_samples, n_channels, height, width)``.
    dtype : dtype
        uint8.
    ndim : int
        4.

    Raises
    ------
    ValueError
        If files are missing, empty or no images: all are counted, the first ones named. What is
        broken further inside is found when it is read, as by `fit` before it trains; all files are
        then looked at, so that one error names them.
    ImportError
        If Pillow is not installed.

    See Also
    --------
    load_images : The same as an array in memory.
    ImageReader : The same as a step of a pipeline.

    Examples
    --------
    >>> from pathlib import Path
    >>> from sklearn_mtl.datasets import ImageFiles
    >>> X = ImageFiles(sorted(Path("photographs").glob("*.jpg")), size=64)
    >>> X[:0]
    ImageFiles of the shape (0, 3, 64, 64)
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        paths: Any,
        size: int | tuple[int, int],
        *,
        root: str | os.PathLike[str] | None = None,
        mode: str = "RGB",
        resize: str = "pad",
        background: int | tuple[int, int, int] = 0,
        cache: int = 2**28,
        n_jobs: int | None = None,
    ) -> None:
        self._layout = layout_of(size, mode, resize, background)
        n_threads(n_jobs)
        if not (is_count(cache) and cache >= 0):
            raise ValueError(f"cache={cache!r} is no number of bytes. Pass an int, 0 for none.")
        self._cache = _Cache(cache)
        self._n_jobs = n_jobs
        self._whole: ImageFiles | None = None  # what this is a part of
        self.paths = np.array(pictures_of(paths, root, is_path), dtype=object)
        self._refuse(check_file)

    @property
    def shape(self) -> tuple[int, ...]:
        """As of an array in memory."""
        return (len(self.paths), *self._layout.shape)

    @property
    def chunks(self) -> tuple[int, ...]:
        """What is read at once, as of files of HDF5 and Zarr: an image."""
        return (1, *self._layout.shape)

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Rows that have no path, (n_samples,)."""
        return np.array([path is None for path in self.paths], dtype=bool)

    def __repr__(self) -> str:
        """Tell the shape, and whether rows are missing."""
        n = self.missing.sum()
        return super().__repr__() + (f", {n} of them missing" if n else "")

    def take(self, rows: Any) -> NDArray[np.uint8]:
        """Read some rows into an array."""
        return self._part(rows)._read()

    def _read(self) -> NDArray[np.uint8]:
        """Read all images."""
        self.check_rows("ImageFiles")
        X, new = np.empty(self.shape, dtype=np.uint8), []
        for row, path in enumerate(self.paths):
            if (image := self._cache.images.get(path)) is None:
                new.append(row)
            else:
                X[row] = image
        if fill(self._image, self.paths, X, new, self._n_jobs):
            whole = self if self._whole is None else self._whole
            whole._refuse(self._image)
            raise ValueError(
                "Files of images could not be read, and now they can: they were changed meanwhile. "
                "Try again."
            )
        return X

    def check_rows(self, name: str = "X") -> None:
        """Refuse rows without an image.

        Parameters
        ----------
        name : str, default='X'
            What the error calls the images.

        Raises
        ------
        ValueError
            If there are any; their numbers are named.
        """
        refuse_holes(self.missing, name, "as by X[~X.missing], or X[X[column].notna()] of a table")

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the images, and what this is a part of."""
        return self.__dict__ | {"_whole": None, "_cache": _Cache(self._cache.limit)}

    def _part(self, rows: Any) -> ImageFiles:
        part = object.__new__(ImageFiles)
        part.__dict__ |= self.__dict__ | {"paths": self.paths[row_numbers(rows)]}
        part._whole = self if self._whole is None else self._whole
        return part

    def _image(self, path: str) -> NDArray[np.uint8]:
        return self._cache.read(path, self._layout)

    def _refuse(self, read: Callable[[str], Any]) -> None:
        """Let all files be read, and name those that cannot be."""
        unique = [path for path in dict.fromkeys(self.paths) if path is not None]
        errors = dict(zip(unique, each(read, unique, self._n_jobs), strict=True))
        bad = [(path, error) for path in self.paths if (error := errors.get(path)) is not None]
        refuse(bad, len(self))


class _Cache:
    """Images by path: those that are read first, until there are `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = self.room = limit
        self.images: dict[str, NDArray[np.uint8]] = {}
        self.lock = threading.Lock()

    def read(self, path: str, layout: Layout) -> NDArray[np.uint8]:
        """Read an image, and keep it if there is room."""
        image = layout.read(path)
        with self.lock:
            if image.nbytes <= self.room and path not in self.images:
                self.room -= image.nbytes
                self.images[path] = image = image.copy()
        return image

    def __getstate__(self) -> dict[str, Any]:
        return {"limit": self.limit}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]
