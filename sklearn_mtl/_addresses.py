"""Addresses, which `[project.urls]` of pyproject.toml names; all works where it names none."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, metadata

__all__ = ["address_of", "page_template"]


@cache
def address_of(what: str) -> str:
    """Return an address from the metadata of the installed package, '' where there is none."""
    try:
        urls = metadata("sklearn-mtl").get_all("Project-URL") or []
    except PackageNotFoundError:  # imported from a folder
        return ""
    found = dict(url.split(", ", 1) for url in urls)
    return found.get(what, "").rstrip("/")


def page_template(*, own: bool = True) -> str:
    """Return where scikit-learn finds a class: on a page of its own, or on that of its module."""
    address = address_of("Documentation")
    page = "{estimator_module}.{estimator_name}.html"
    if not own:
        page = "{estimator_module}.html#{estimator_module}.{estimator_name}"
    return address and f"{address}/generated/{page}"
