"""Addresses come from the metadata of the package alone; without them, nothing links anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from email.message import Message
from importlib.metadata import PackageNotFoundError

import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_mtl import MultiTaskCNNEstimator, _addresses
from sklearn_mtl._addresses import address_of, page_template
from sklearn_mtl.augmentation import Augment

HOME = "https://docs.invalid/sklearn-mtl"
PAGE = f"{HOME}/generated/sklearn_mtl.MultiTaskCNNEstimator.html"


@pytest.fixture(autouse=True)
def _read_anew() -> Iterator[None]:
    address_of.cache_clear()
    yield
    address_of.cache_clear()


@pytest.fixture
def with_address(monkeypatch: pytest.MonkeyPatch) -> None:
    said = Message()
    said["Project-URL"] = "Repository, https://code.invalid/sklearn-mtl"
    said["Project-URL"] = f"Documentation, {HOME}/"
    monkeypatch.setattr(_addresses, "metadata", lambda name: said)


@pytest.fixture
def without_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_addresses, "metadata", lambda name: Message())


@pytest.mark.usefixtures("with_address")
@pytest.mark.parametrize("pipeline", [False, True])
def test_the_html_links_to_the_page_of_the_estimator(pipeline: bool) -> None:
    estimator = MultiTaskCNNEstimator()
    shown = make_pipeline(StandardScaler(), estimator) if pipeline else estimator
    assert f'href="{PAGE}"' in shown._repr_html_()
    assert estimator._get_doc_link() == PAGE


@pytest.mark.usefixtures("with_address")
def test_what_has_no_page_of_its_own_stands_on_that_of_its_module() -> None:
    name = "sklearn_mtl.augmentation"
    assert Augment()._get_doc_link() == f"{HOME}/generated/{name}.html#{name}.Augment"


@pytest.mark.usefixtures("without_address")
def test_no_address_is_no_link() -> None:
    assert MultiTaskCNNEstimator()._get_doc_link() == ""
    assert "sklearn_mtl.MultiTaskCNNEstimator.html" not in MultiTaskCNNEstimator()._repr_html_()
    assert page_template() == page_template(own=False) == ""


def test_a_package_that_is_not_installed_has_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def metadata(name: str) -> Message:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(_addresses, "metadata", metadata)
    assert address_of("Documentation") == ""


@pytest.mark.usefixtures("with_address")
def test_each_address_by_its_name() -> None:
    assert address_of("Repository") == "https://code.invalid/sklearn-mtl"
    assert address_of("Documentation") == HOME
    assert address_of("Issues") == ""
