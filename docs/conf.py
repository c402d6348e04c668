"""Sphinx: pages in MyST Markdown, notebooks that are executed, the reference from docstrings."""

import itertools
import os
import re
import xml.etree.ElementTree as ET
from dataclasses import fields
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
exclude_patterns = ["_build"]

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


ET.register_namespace("", MATHML := "http://www.w3.org/1998/Math/MathML")


def mathml(tex, as_block=False):
    """Returns a formula as MathML, which browsers show without any script.

    Three things are as TeX has them and docutils has not: an index stands beside a letter with a
    hat, not beneath it; brackets have the size that was written; "log p" has a space.
    """
    written = tex2mathml(tex, as_block=as_block).replace("<mo>'</mo>", "<mo>′</mo>")
    formula = ET.fromstring(written.replace("&ApplyFunction;", "\u2061"))
    for node in list(formula.iter(f"{{{MATHML}}}munderover")):
        letter, index, accent = node
        if accent.text in ("ˆ", "ˉ", "˜"):
            node.tag, node[:] = f"{{{MATHML}}}msub", []
            ET.SubElement(node, f"{{{MATHML}}}mover", accent="true").extend([letter, accent])
            node.append(index)
    for sign in formula.iter(f"{{{MATHML}}}mo"):
        if sign.text in ("⟨", "⟩", "‖", "|", "⌈", "⌉") and "minsize" not in sign.attrib:
            sign.set("stretchy", "false")
    for row in formula.iter():
        for sign, after in itertools.pairwise(row):
            if sign.text == "\u2061" and after.text not in ("(", "["):
                sign.set("rspace", "0.17em")
    return ET.tostring(formula, encoding="unicode")


def _mathml(as_block):
    """Returns a visitor that writes formulas."""

    def visit(translator, node):
        formula = mathml(node.astext(), as_block)
        translator.body.append(f'<div class="formula">{formula}</div>' if as_block else formula)
        raise nodes.SkipNode

    return visit


def _results(app, docname, source):
    """Makes RESULTS.md, which lies outside these pages, the page of the results."""
    if docname != "results":
        return
    root = Path(app.srcdir).parent
    app.env.note_dependency(root / "RESULTS.md")

    def link(found):
        text, path, place = found.groups(default="")
        if (root / path).is_dir():  # a site has no page of it
            return text
        return f"[{text}]({os.path.relpath(root / path, app.srcdir)}{place})"

    text = (root / "RESULTS.md").read_text(encoding="utf-8")
    source[0] = re.sub(r"\[([^\]]*)\]\(([^):#]+)(#[^)]*)?\)", link, text)


def _links(app, docname, source):
    """Makes links to RESULTS.md those to its page, to other files outside the pages downloads."""
    here, pages = Path(app.env.doc2path(docname)).parent, Path(app.srcdir)

    def link(found):
        text, path, place = found.groups(default="")
        target = (here / path).resolve()
        if target == pages.parent / "RESULTS.md":
            return f"[{text}]({os.path.relpath(pages / 'results.md', here)}{place})"
        if target.is_relative_to(pages):
            return found[0]
        return f"{{download}}`{text.replace('`', '')} <{path}>`"  # a role holds no code

    source[0] = re.sub(r"\[([^\]]+)\]\(([^):#]+\.md)(#[^)]*)?\)", link, source[0])


def _settings(app, what, name, thing, options, lines):
    """Adds what each setting of `ExplorationConfig` means, as `--help` of the commands has it."""
    if thing is emoc_tf.ExplorationConfig:
        told = [f"    {field.name}: {field.metadata['help']}." for field in fields(thing)]
        place = lines.index("Raises:")
        lines[place:place] = ["Args:", *told, ""]


def setup(app):
    """Adds what writes formulas, links to files beside the pages, and the settings."""
    app.connect("autodoc-process-docstring", _settings, priority=100)  # before napoleon
    app.connect("source-read", _results)
    app.connect("source-read", _links)
    app.add_html_math_renderer("mathml", (_mathml(False), None), (_mathml(True), None))
