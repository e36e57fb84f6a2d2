"""Images from files, and synthetic scenes with several targets."""

from sklearn_mtl.datasets.images import ImageFiles, load_images
from sklearn_mtl.datasets.reader import ImageReader
from sklearn_mtl.datasets.scenes import make_digit_scenes

__all__ = ["ImageFiles", "ImageReader", "load_images", "make_digit_scenes"]
