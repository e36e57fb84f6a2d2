"""The script that looks at built pages sees what it should."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

spec = importlib.util.spec_from_file_location("check_pages", ROOT / "docs" / "check_pages.py")
check_pages = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check_pages)

BROWSER = check_pages.find_browser()
PAGE = """<!doctype html><meta name="viewport" content="width=device-width">
<body style="margin: 0">{}</body>"""
SCROLLS = '<pre style="overflow-x: auto">' + 90 * "columns " + "</pre>"
WRAPS = '<pre style="overflow-x: auto; white-space: pre-wrap">' + 90 * "columns " + "</pre>"


def test_broken_links_are_found(tmp_path):
    (tmp_path / "a.html").write_text('<a href="b.html#here">b</a><a href="c.html">c</a><p id="x">')
    (tmp_path / "b.html").write_text('<p id="there"></p><a href="a.html#x"></a><a href="#there">')
    (tmp_path / "d.html").write_text('<a href="##:~:text=a"></a><a href="b.html#there:~:text=a">')
    found = check_pages.find_broken_links(tmp_path)
    assert found == [("a.html", "b.html#here"), ("a.html", "c.html")]


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_boxes_that_overflow_are_found_at_the_widths_where_they_do(tmp_path):
    pages = {
        "scrolls": SCROLLS,
        "wraps": WRAPS,
        "wide": '<div style="width: 600px">wide</div>',
        "hidden": f'<div style="display: none">{SCROLLS}</div>',
    }
    for name, body in pages.items():
        (tmp_path / f"{name}.html").write_text(PAGE.format(body))
    names = [f"{name}.html" for name in pages]
    found = check_pages.find_overflows(tmp_path, names, BROWSER, timeout=60)
    assert {(page, width) for page, width, _ in found} == {
        ("scrolls.html", 390),
        ("scrolls.html", 1280),
        ("wide.html", 390),
    }
