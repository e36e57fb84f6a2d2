"""What others make of the pages: tags for previews of a link (Open Graph), and llms.txt.

Addresses come from `[project.urls]`; without one, what needs an address is left out.
"""

import html
import re
import shutil
from pathlib import Path

from sklearn_mtl._addresses import address_of

PICTURE = "results/rows.png"  # of all, the one that says most without its page
SUMMARY = (
    "Deep multi-task learning behind the scikit-learn API: one network learns classes and numbers "
    "in one y, with NaN wherever a target was not observed or does not exist."
)


def tags(title, description, page, address):
    """Return the tags of a page, as HTML."""
    said = {
        "og:type": "website",
        "og:site_name": "sklearn-mtl",
        "og:title": html.unescape(re.sub("<.*?>", "", title)),
        "og:description": description,
    }
    if address:  # previews read no relative addresses
        said |= {"og:url": f"{address}/{page}.html", "og:image": f"{address}/{PICTURE}"}
    lines = [f'<meta property="{k}" content="{html.escape(v)}" />' for k, v in said.items()]
    lines.append(f'<meta name="description" content="{html.escape(description)}" />')
    return "\n".join(lines)


def first_sentence(doctree, limit=200):
    """Return what a page begins with, cut at a word."""
    from docutils import nodes  # here, so that tests need no Sphinx

    for paragraph in doctree.findall(nodes.paragraph):
        if not isinstance(paragraph.parent, nodes.section):  # a note, a cell of a table
            continue
        text = " ".join(paragraph.astext().split())
        sentence = re.split(r"(?<=[.!?]) ", text, maxsplit=1)[0]
        if len(sentence) > limit:
            sentence = sentence[:limit].rpartition(" ")[0] + " ..."
        return sentence
    return SUMMARY


def llms(pages, address):
    """Return llms.txt: what the project is, and its pages, with a sentence of each.

    `pages` are triples of a page's name, title and first sentence.
    """
    prefix = f"{address}/" if address else ""
    lines = [f"- [{title}]({prefix}{page}.html): {said}" for page, title, said in pages]
    return "\n".join(["# sklearn-mtl", "", f"> {SUMMARY}", "", "## Pages", "", *lines, ""])


def add_tags(app, page, template, context, doctree):
    """Add the tags of a page to its head."""
    if doctree is None:  # indices, search
        return
    said = tags(context["title"], first_sentence(doctree), page, address_of("Documentation"))
    context["metatags"] = context.get("metatags", "") + "\n" + said


def write_beside(app, error):
    """Write llms.txt, and the picture of previews, beside the pages that are read by people."""
    if error is not None or app.builder.name != "html":
        return
    env = app.env
    names = [page for page in sorted(env.titles) if not page.startswith(("generated/", "sg_"))]
    pages = [(n, env.titles[n].astext(), first_sentence(env.get_doctree(n))) for n in names]
    text = llms(pages, address_of("Documentation"))
    Path(app.outdir, "llms.txt").write_text(text, encoding="utf-8")
    picture = Path(app.outdir, PICTURE)
    picture.parent.mkdir(exist_ok=True)
    shutil.copyfile(Path(app.srcdir, PICTURE), picture)


def setup(app):
    """Tell Sphinx when to call what."""
    app.connect("html-page-context", add_tags)
    app.connect("build-finished", write_beside)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
