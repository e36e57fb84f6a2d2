"""What the documentation shows exists."""

import importlib.util
import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_results_shown_are_there():
    page = (ROOT / "docs" / "benchmarks.rst").read_text()
    results = re.findall(r"literalinclude:: (\S+)", page)
    assert len(results) >= 5
    for result in results:
        assert "$ python examples/benchmarks/" in (ROOT / "docs" / result).read_text()


def test_each_page_of_the_guide_has_a_picture_and_no_picture_is_left_over():
    pages = [ROOT / "docs" / "quickstart.rst", *sorted((ROOT / "docs" / "guide").glob("*.rst"))]
    shown = {page.stem: re.findall(r"image:: \S*images/(\S+)", page.read_text()) for page in pages}
    assert [page for page, pictures in shown.items() if not pictures] == ["references"]
    others = [ROOT / "README.md", ROOT / "docs" / "index.rst", ROOT / "docs" / "figures.rst"]
    of_others = {
        name for page in others for name in re.findall(r"images/(\S+\.png)", page.read_text())
    }
    there = {path.name for path in (ROOT / "docs" / "images").iterdir()}
    assert there == {name for pictures in shown.values() for name in pictures} | of_others


# Of whole pages; all other code on pages is a doctest, which the ordinary run tries.
RUN = {"README.md", "docs/extending.rst", "docs/guide/processes.rst"}
# Commands, which are not run here, and why.
SHELL = {
    "README.md": "installs the package, and runs these tests",
    "CONTRIBUTING.md": "the same, for those who change it",
    "docs/quickstart.rst": "installs the package",
    "docs/releasing.rst": "builds releases, as `.ci/run` does",
    "docs/benchmarks.rst": "take hours; -m benchmarks runs the scripts on tiny data",
    "docs/guide/processes.rst": "starts several processes, as tests/_training/test_group.py does",
}
LANGUAGES = re.compile(r"^(?: *\.\. code(?:-block)?::|```)[ ]*(\S+)$", flags=re.MULTILINE)
PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.rst", "docs/guide/*.rst")
    for page in ROOT.glob(pattern)
    if page.name != "CHANGELOG.md"
)


def code_of(page, language):
    """Blocks of code of a language, of a page in reStructuredText or Markdown."""
    text = (ROOT / page).read_text()
    if page.endswith(".md"):
        return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    directive = rf"^( *)\.\. code-block:: {language}\n((?:\1 +.*\n|\n)+)"
    return [textwrap.dedent(code) for _, code in re.findall(directive, text, flags=re.MULTILINE)]


def test_all_code_on_pages_is_run():
    texts = {page: (ROOT / page).read_text() for page in PAGES}
    assert {page for page in PAGES if code_of(page, "python")} == RUN
    assert {page for page in PAGES if code_of(page, "bash")} == {*SHELL}
    blocks = {language for text in texts.values() for language in LANGUAGES.findall(text)}
    assert blocks == {"python", "bash"}
    for page, text in texts.items():
        assert "+SKIP" not in text
        assert not re.findall(r"^(?! *\.\.).*[^:]::$", text, flags=re.MULTILINE), page
        for script in re.findall(r"examples/\S+\.py", text):
            assert (ROOT / script).is_file(), (page, script)


@pytest.mark.parametrize("page", sorted(RUN))
def test_code_of_a_page_runs(page, tmp_path, monkeypatch):
    if "torchjd" in (code := "\n".join(code_of(page, "python"))):
        pytest.importorskip("torchjd")
        pytest.importorskip("quadprog")
    monkeypatch.chdir(tmp_path)  # of what is written
    names = {}
    exec(code.replace("max_epochs=20", "max_epochs=1"), names)
    if page == "docs/extending.rst":
        assert all(p.grad is not None for p in names["module"].parameters())


@pytest.mark.parametrize(
    "words",
    [
        "freeze",
        "save",
        "resize",
        "confusion matrix",
        "progress bar",
        "early stopping",
        "class imbalance",
        "checkpoint",
        "GPU",
    ],
)
def test_what_people_search_for_leads_to_a_section(words):
    pages = [*ROOT.glob("docs/*.rst"), *ROOT.glob("docs/guide/*.rst")]
    entries = [re.findall(r"^\.\. index:: (.+)$", p.read_text(), re.MULTILINE) for p in pages]
    assert words in {entry for lines in entries for line in lines for entry in line.split(", ")}


def test_from_a_folder_to_pictures_it_takes_fifteen_lines():
    page = (ROOT / "examples" / "plot_09_image_folder.py").read_text()
    (block,) = re.findall(r"# %%\n# From the folder.*?\n(?!#)(.*?)# %%", page, flags=re.DOTALL)
    lines = [line for line in block.splitlines() if line and not line.startswith("#")]
    assert 10 < len(lines) <= 15
    assert "read_csv" in lines[0]
    assert "imshow" in lines[-2]


@pytest.fixture
def sharing():
    spec = importlib.util.spec_from_file_location("sharing", ROOT / "docs" / "sharing.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_previews_of_a_page_have_its_words_and_a_picture_that_exists(sharing):
    tags = sharing.tags("<em>A &amp; B</em>", 'Says "x < y".', "guide/a", "https://docs.invalid")
    assert '<meta property="og:description" content="Says &quot;x &lt; y&quot;." />' in tags
    assert 'property="og:url" content="https://docs.invalid/guide/a.html"' in tags
    assert f'property="og:image" content="https://docs.invalid/{sharing.PICTURE}"' in tags
    assert (ROOT / "docs" / sharing.PICTURE).is_file()
    assert "<em>" not in tags


def test_pages_without_an_address_name_none(sharing):
    tags = sharing.tags("A", "Says what.", "guide/a", "")
    assert "og:title" in tags
    assert "og:url" not in tags
    assert "og:image" not in tags


@pytest.mark.parametrize("address", ["", "https://docs.invalid"])
def test_llms_txt_lists_pages(sharing, address):
    text = sharing.llms([("api", "API reference", "All of it.")], address)
    first, *_, last = text.splitlines()
    assert first == "# sklearn-mtl"
    page = f"{address}/api.html" if address else "api.html"
    assert last == f"- [API reference]({page}): All of it."


def test_a_page_is_told_by_its_first_sentence_not_by_a_note(sharing):
    nodes = pytest.importorskip("docutils.nodes")
    page = nodes.section()
    page += nodes.note("", nodes.paragraph(text="Go to the end. More."))
    page += nodes.paragraph(text="What it is. What it is not.")
    assert sharing.first_sentence(page) == "What it is."
    assert sharing.first_sentence(nodes.section()) == sharing.SUMMARY
    page = nodes.section("", nodes.paragraph(text="word " * 100))
    assert len(sharing.first_sentence(page)) <= 204
