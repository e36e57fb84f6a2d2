"""Images and arrays in files, several inputs per row, sequences of unequal length, and scenes."""

from sklearn_mtl._data.on_disk import RowsOnDisk
from sklearn_mtl._data.parts import MultiInput
from sklearn_mtl.datasets.columns import ColumnInputs
from sklearn_mtl.datasets.images import ImageFiles, load_images
from sklearn_mtl.datasets.padding import SequencePad
from sklearn_mtl.datasets.reader import ImageReader
from sklearn_mtl.datasets.scenes import make_digit_scenes

__all__ = [
    "ColumnInputs",
    "ImageFiles",
    "ImageReader",
    "MultiInput",
    "RowsOnDisk",
    "SequencePad",
    "load_images",
    "make_digit_scenes",
]
