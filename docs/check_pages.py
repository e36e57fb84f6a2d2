"""Open built pages in a headless Chromium, as wide as a phone and a laptop, and count overflows.

A box overflows if what is in it is wider than it is: the page scrolls sideways then, or a scroll
bar hides the end of a line. Links between pages are followed too, with the anchors they name::

    python docs/check_pages.py docs/_build/html
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urlsplit

WIDTHS = (390, 1280)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# Each page is loaded into a frame of the width: media queries see the frame.
HARNESS = """<!doctype html><body><script>
function overflows(frame) {
  const page = frame.contentDocument, found = [];
  const name = (box) => box.tagName.toLowerCase() +
    [...box.classList].map((c) => "." + c).join("") + " " +
    box.textContent.trim().replace(/\\s+/g, " ").slice(0, 60);
  const root = page.scrollingElement;
  if (root.scrollWidth > frame.clientWidth + 1) found.push("the page itself");
  for (const box of page.body.querySelectorAll("*")) {
    const { overflowX, textOverflow } = getComputedStyle(box);
    if (box.clientWidth < 2 || !box.checkVisibility()) continue;
    if (overflowX === "visible" || textOverflow === "ellipsis") continue;  // crumbs end in dots
    if (box.scrollWidth > box.clientWidth + 1)
      found.push(`${name(box)} (${box.scrollWidth} > ${box.clientWidth})`);
  }
  return found;
}
async function run() {
  const { pages, widths } = await (await fetch("/__todo__")).json();
  const found = [];
  for (const page of pages) for (const width of widths) {
    const frame = document.createElement("iframe");
    frame.style = `width: ${width}px; height: 900px; border: 0`;
    const loaded = new Promise((done) => { frame.onload = done; });
    frame.src = page;
    document.body.append(frame);
    await loaded;
    await new Promise((done) => setTimeout(done, 50));
    for (const box of overflows(frame)) found.push([page, width, box]);
    frame.remove();
  }
  await fetch("/__done__", { method: "POST", body: JSON.stringify(found) });
}
run();
</script></body>"""


def find_browser() -> str | None:
    """Return the path of a Chromium, or None."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


class Handler(SimpleHTTPRequestHandler):
    """Serve a folder, the harness, and take its report."""

    todo: dict[str, Any]
    found: list[list[Any]] | None = None
    done: threading.Event

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def answer(self, body: str, kind: str) -> None:
        """Send a text."""
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body.encode())

    def do_GET(self) -> None:
        """Send a file, the harness, or the list of pages."""
        if self.path == "/__harness__":
            self.answer(HARNESS, "text/html; charset=utf-8")
        elif self.path == "/__todo__":
            self.answer(json.dumps(self.todo), "application/json")
        else:
            super().do_GET()

    def do_POST(self) -> None:
        """Take the report."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).found = json.loads(body)
        self.answer("", "text/plain")
        self.done.set()


def find_overflows(
    folder: Path, pages: list[str], browser: str, timeout: float = 600
) -> list[tuple[str, int, str]]:
    """Return page, width and box of each overflow.

    Parameters
    ----------
    folder : Path
        Where the pages are.

    pages : list of str
        Their names, relative to it.

    browser : str
        Path of a Chromium.

    timeout : float, default=600
        Seconds to wait for the browser.
    """
    todo = {"pages": [f"/{page}" for page in pages], "widths": WIDTHS}
    handler = type("Report", (Handler,), {"todo": todo, "done": threading.Event()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [browser, "--headless", "--disable-gpu", f"--user-data-dir={profile}"]
        command += ["--no-sandbox"] if os.name == "posix" and os.geteuid() == 0 else []
        address = f"http://127.0.0.1:{server.server_port}/__harness__"
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        # A window that is open keeps a headless browser alive.
        with subprocess.Popen([*command, "--remote-debugging-port=0", address], **quiet) as process:
            reported = handler.done.wait(timeout)
            process.terminate()
    server.shutdown()
    server.server_close()
    if not reported:
        raise TimeoutError(f"{browser} has not looked at {len(pages)} pages in {timeout} s")
    return [(page.lstrip("/"), width, box) for page, width, box in handler.found]


class Links(HTMLParser):
    """Collect the links of a page, and what they may lead to."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take note of a tag."""
        values = dict(attrs)
        self.anchors |= {name for name in (values.get("id"), values.get("name")) if name}
        target = values.get("href" if tag in ("a", "link") else "src")
        if target:
            self.targets.append(target)


def find_broken_links(folder: Path) -> list[tuple[str, str]]:
    """Return page and target of each link between pages that leads nowhere."""
    pages: dict[Path, Links] = {}
    for path in sorted(set(folder.rglob("*.html")) - set(folder.rglob("_static/**/*.html"))):
        pages[path.resolve()] = links = Links()
        links.feed(path.read_text(encoding="utf-8"))
    broken = []
    for path, links in pages.items():
        for target in links.targets:
            if urlsplit(target).scheme or target.startswith("//"):
                continue
            place, anchor = map(unquote, urldefrag(target))
            anchor = anchor.partition(":~:")[0].strip("#")  # behind it, a text to look for
            file = (path.parent / urlsplit(place).path).resolve() if place else path
            missing = not file.exists()
            if anchor and file in pages and file.suffix == ".html":
                missing = missing or anchor not in pages[file].anchors
            if missing:
                broken.append((str(path.relative_to(folder.resolve())), target))
    return broken


def main(folder: Path) -> int:
    """Print what is wrong with the pages of a folder; return 1 if anything is."""
    broken = find_broken_links(folder)
    for page, target in broken:
        print(f"{page}: broken link {target}")
    print(f"{len(broken)} broken links")
    browser = find_browser()
    if browser is None:
        print(f"boxes not checked: none of {', '.join(BROWSERS)} is installed")
        return int(bool(broken))
    left_out = ("_modules/", "_static/", "genindex", "search")
    pages = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*.html"))]
    pages = [page for page in pages if not page.startswith(left_out)]
    found = find_overflows(folder, pages, browser)
    for page, width, box in found:
        print(f"{page} at {width} px: {box}")
    widths = " and ".join(map(str, WIDTHS))
    print(f"{len(found)} overflowing boxes on {len(pages)} pages at {widths} px")
    return int(bool(broken or found))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
