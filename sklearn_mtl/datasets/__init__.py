"""Images from files, sequences of unequal length, and synthetic scenes with several targets."""

from sklearn_mtl.datasets.images import ImageFiles, load_images
from sklearn_mtl.datasets.padding import SequencePad
from sklearn_mtl.datasets.reader import ImageReader
from sklearn_mtl.datasets.scenes import make_digit_scenes

__all__ = ["ImageFiles", "ImageReader", "SequencePad", "load_images", "make_digit_scenes"]
