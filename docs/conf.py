"""Sphinx configuration. Builds without a network connection."""

import sys
from pathlib import Path

from sklearn.experimental import enable_halving_search_cv  # noqa: F401  # the gallery looks it up

import sklearn_mtl

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))
from draw_house import draw  # noqa: E402

project = "sklearn-mtl"
author = "The sklearn-mtl developers"
copyright = f"2026, {author}"
version = release = sklearn_mtl.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "mathml",
]
templates_path = ["_templates"]
exclude_patterns = ["_build"]
default_role = "literal"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
copybutton_exclude = ".linenos, .gp, .go"  # prompts and output stay behind

# A module's page lists its __all__; the parameters of a class stand in its docstring.
autosummary_ignore_module_all = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_validation_checks = set()

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"benchmarks|__init__\.py",
    "within_subsection_order": "FileNameSortKey",
    "capture_repr": ("_repr_html_", "__repr__"),
    "reset_modules": ("matplotlib",),
    "min_reported_time": 5,
    "write_computation_times": False,
    "download_all_examples": False,
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("sklearn_mtl",),
}

html_theme = "pydata_sphinx_theme"
html_title = f"sklearn-mtl {release}"
html_show_sourcelink = False
# Pages without pages below them leave their room to the text; wide tables need all of it.
html_sidebars = {
    page: [] for page in ("architecture", "benchmarks", "changelog", "extending", "quickstart")
}
html_theme_options = {
    "navigation_with_keys": False,
    "show_prev_next": False,
    "secondary_sidebar_items": {"**": ["page-toc"], "benchmarks": []},
}


def draw_house(app):
    """Draw the picture of the architecture page as the code is now."""
    (DOCS / "generated").mkdir(exist_ok=True)
    for theme in ("light", "dark"):
        draw(DOCS / "generated" / f"house-{theme}.svg", theme)


def setup(app):
    app.connect("builder-inited", draw_house)
