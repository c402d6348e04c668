"""Sphinx: pages in MyST Markdown, notebooks that are executed, the reference from docstrings."""

import os
import re
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

import emoc_tf

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # no notes of TensorFlow's between warnings

project = "emoc_tf"
author = "The emoc_tf authors"
copyright = author
release = version = emoc_tf.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "decisions"]
suppress_warnings = ["toc.empty_glob"]

myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 4  # links as GitHub makes them, such as tasks.md#frozen-layers

# Executed once, and again only when a notebook has changed; an error is one of the build.
nb_execution_mode = "cache"
nb_execution_cache_path = "docs/_build/notebooks"
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_output_stderr = "remove"  # of TensorFlow

default_role = "literal"  # `name` in docstrings
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes beside the arguments, not as members of their own

html_theme = "furo"
html_title = f"emoc_tf {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_copyright = False
html_math_renderer = "mathml"


def _mathml(as_block):
    """Returns a visitor that writes MathML, which browsers show without any script."""

    def visit(translator, node):
        formula = tex2mathml(node.astext(), as_block=as_block)
        formula = formula.replace("<mo>'</mo>", "<mo>′</mo>")
        translator.body.append(f'<div class="formula">{formula}</div>' if as_block else formula)
        raise nodes.SkipNode

    return visit


def _download(app, docname, source):
    """Makes links to Markdown outside these pages, such as ../RESULTS.md, links to the files."""
    here, decisions = Path(app.env.doc2path(docname)).parent, Path(app.srcdir, "decisions")

    def link(found):
        target = (here / found[2]).resolve()
        outside = not target.is_relative_to(app.srcdir) or target.is_relative_to(decisions)
        return f"{{download}}`{found[1]} <{found[2]}>`" if outside else found[0]

    source[0] = re.sub(r"\[([^\]`]+)\]\(([^):#]+\.md)(?:#[^)]*)?\)", link, source[0])


def setup(app):
    """Adds what writes formulas, and links to files beside the pages."""
    app.connect("source-read", _download)
    app.add_html_math_renderer("mathml", (_mathml(False), None), (_mathml(True), None))
