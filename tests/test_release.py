"""What several places say of versions agrees; the gate of releases stops what is not ready."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import sklearn_mtl
from sklearn_mtl._files.formats import FORMAT_VERSION

ROOT = Path(__file__).parents[1]
GATE = ROOT / ".ci" / "gate.py"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
in_checkout = pytest.mark.skipif(not WORKFLOWS, reason="an sdist has no workflows")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def requirements() -> dict[str, Requirement]:
    """Of users and of the tests, by name."""
    extras = PROJECT["optional-dependencies"]
    tested = ["images", "onnx", "plot", "tabm", "torchjd", "test"]
    lines = [*PROJECT["dependencies"], *(line for extra in tested for line in extras[extra])]
    found = [Requirement(line) for line in lines]
    return {
        requirement.name: requirement for requirement in found if requirement.name[:8] != "sklearn-"
    }


def pinned(file: str) -> dict[str, Version]:
    lines = re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / file).read_text(), flags=re.MULTILINE)
    return {name: Version(version) for name, version in lines}


@pytest.mark.parametrize("name", requirements())
def test_the_lowest_versions_are_the_bounds(name: str) -> None:
    """`.ci/run-lowest` tries what pyproject.toml says: the first release of each bound."""
    requirement = requirements()[name]
    (bound,) = [spec.version for spec in requirement.specifier if spec.operator == ">="]
    lowest = pinned("constraints-lowest.txt")[name]
    assert lowest in requirement.specifier
    # A bound such as >=3 may begin with 3.0.8, where releases before it were withdrawn.
    assert lowest.release[: bound.count(".") + 1] == Version(bound).release


@pytest.mark.parametrize("file", ["constraints.txt", "constraints-lowest.txt"])
def test_what_the_tests_run_with_is_allowed(file: str) -> None:
    versions = pinned(file)
    wrong = [one for one in requirements().values() if versions[one.name] not in one.specifier]
    assert not wrong


def test_versions_of_python_are_the_same_everywhere() -> None:
    names = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "Python :: 3." in line]
    assert PROJECT["requires-python"] == f">={names[0]}"
    assert names == [f"3.{minor}" for minor in range(11, 11 + len(names))]
    for workflow in WORKFLOWS:
        (every,) = re.findall(r"python: (\[.+\])", workflow.read_text()) or ["[]"]
        assert set(json.loads(every)) <= {*names}
        if workflow.stem == "tests":
            assert json.loads(every) == names
    support = (ROOT / "docs" / "support.rst").read_text()
    assert f"{names[0]} to {names[-1]}" in support


def test_versions_of_the_support_matrix_are_the_bounds() -> None:
    support = (ROOT / "docs" / "support.rst").read_text()
    for line in PROJECT["dependencies"]:
        requirement = Requirement(line)
        assert re.search(
            rf"\* - {requirement.name}\n     - {requirement.specifier}\n".replace(">=", ""), support
        )


def test_citation_names_the_version() -> None:
    assert f"\nversion: {sklearn_mtl.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_there_is_a_golden_file_of_every_format() -> None:
    golden = {path.name for path in (ROOT / "tests" / "golden").glob("format_*")}
    assert golden == {f"format_{v}.safetensors" for v in range(1, FORMAT_VERSION + 1)}


@in_checkout
@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("github-workflows", WORKFLOWS),
        ("github-issue-forms", [*(ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml")]),
        ("github-issue-config", [ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml"]),
        ("dependabot", [ROOT / ".github" / "dependabot.yml"]),
        ("citation-file-format", [ROOT / "CITATION.cff"]),
    ],
)
def test_forms_and_workflows_follow_their_schemas(schema: str, files: list[Path]) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    done = subprocess.run([*command, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@in_checkout
def test_only_what_publishes_may_more_than_read() -> None:
    """Nothing of a pull request can write, and what is published went through the gate."""
    yaml = pytest.importorskip("yaml")
    for path in WORKFLOWS:
        workflow = yaml.safe_load(path.read_text())
        assert workflow["permissions"] == {"contents": "read"}
        allowed = {
            name: job["permissions"]
            for name, job in workflow["jobs"].items()
            if "permissions" in job
        }
        assert allowed == ({"publish": {"id-token": "write"}} if path.stem == "release" else {})
        for job in workflow["jobs"].values():
            assert job["timeout-minutes"] <= 90
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())["jobs"]
    assert (jobs["publish"]["needs"], jobs["gate"]["needs"]) == ("gate", "build")


# -- the gate -------------------------------------------------------------------------------------


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, over a project of one version with its changes."""
    if not GATE.exists():
        pytest.skip("an sdist has no gate")
    spec = importlib.util.spec_from_file_location("gate", GATE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    (tmp_path / "sklearn_mtl").mkdir()
    (tmp_path / "sklearn_mtl" / "__init__.py").write_text('"""Doc."""\n\n__version__ = "1.2.0"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## [1.2.0] - 2030-01-31\n")
    (tmp_path / "CITATION.cff").write_text("cff-version: 1.2.0\nversion: 1.2.0\n")
    return module


def test_a_release_has_one_version(gate: ModuleType) -> None:
    assert gate.faults_of_tag("v1.2.0") == []


@pytest.mark.parametrize("tag", ["v1.2.1", "1.2.0", "v1.2"])
def test_a_tag_is_the_version(gate: ModuleType, tag: str) -> None:
    (fault,) = gate.faults_of_tag(tag)
    assert fault == f"The tag is {tag}, and sklearn_mtl.__version__ is 1.2.0."


@pytest.mark.parametrize(
    "heading", ["## [Unreleased]", "## [1.2.0]", "## [1.2.0] - soon", "## [1x2x0] - 2030-01-31"]
)
def test_a_release_has_its_changes_with_a_date(gate: ModuleType, heading: str) -> None:
    (gate.ROOT / "CHANGELOG.md").write_text(f"# Changelog\n\n{heading}\n")
    (fault,) = gate.faults_of_tag("v1.2.0")
    assert "CHANGELOG.md has no section" in fault


def test_a_release_is_cited_as_what_it_is(gate: ModuleType) -> None:
    (gate.ROOT / "CITATION.cff").write_text("cff-version: 1.2.0\nversion: 1.1.0\n")
    (fault,) = gate.faults_of_tag("v1.2.0")
    assert "CITATION.cff" in fault
