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
    "sharing",
]
templates_path = ["_templates"]
exclude_patterns = ["_build"]
default_role = "literal"
toc_object_entries_show_parents = "hide"
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
    "ignore_pattern": r"benchmarks|cluster_search|serve_|__init__\.py",
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
    page: []
    for page in ("architecture", "benchmarks", "changelog", "extending", "figures", "quickstart")
}
html_theme_options = {
    "navigation_with_keys": False,
    "show_prev_next": False,
    "secondary_sidebar_items": {"**": ["page-toc"], "benchmarks": []},
    "show_toc_level": 3,  # methods of a class, too
}


# Of a class with many parameters: what stands before some of them on its page.
GROUPS = {
    "sklearn_mtl.MultiTaskCNNEstimator": {
        "tasks": "Targets and losses",
        "input_shape": "Inputs",
        "trunk": "Network",
        "max_epochs": "Training",
        "early_stopping": "Early stopping",
        "warm_start": "Computing",
    },
}


def group_parameters(app, what, name, obj, options, lines):
    """Put a heading before each group of parameters, in what numpydoc has made of a docstring."""
    for parameter, heading in GROUPS.get(name, {}).items():
        start = next(
            (i for i, line in enumerate(lines) if line.strip().startswith(f"**{parameter}** :")),
            None,
        )
        if start is None:
            raise ValueError(f"{name} has no parameter {parameter!r}; see GROUPS in conf.py")
        indent = " " * (len(lines[start]) - len(lines[start].lstrip()))
        lines[start:start] = ["", f"{indent}*{heading}*", ""]


def draw_house(app):
    """Draw the picture of the architecture page as the code is now."""
    (DOCS / "generated").mkdir(exist_ok=True)
    for theme in ("light", "dark"):
        draw(DOCS / "generated" / f"house-{theme}.svg", theme)


def setup(app):
    app.connect("builder-inited", draw_house)
    app.connect("autodoc-process-docstring", group_parameters, priority=900)  # after numpydoc
