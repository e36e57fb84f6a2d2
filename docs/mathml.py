"""Formulas as MathML, which browsers draw themselves: no script, and no network.

Docutils translates the LaTeX while Sphinx writes a page; a formula that it cannot translate ends a
build with warnings as errors.
"""

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)


def translate(node: nodes.Element, as_block: bool) -> str:
    """Return the MathML of a formula, or its LaTeX, with a warning, where it has none."""
    text = node.astext()
    try:
        return tex2mathml(text, as_block=as_block)
    except MathError as error:
        LOGGER.warning("formula %r: %s", text, error, location=node)
        return text


def visit_inline(writer, node):
    """Write a formula within a line."""
    writer.body.append(translate(node, as_block=False))
    raise nodes.SkipNode


def visit_block(writer, node):
    """Write a formula on a line of its own."""
    writer.body.append(f'<div class="math">{translate(node, as_block=True)}</div>\n')
    raise nodes.SkipNode


def setup(app):
    """Offer the renderer to `html_math_renderer`."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
