"""The reference has every public name, and each has an example that gives what it shows."""

import doctest
import importlib
import inspect
import re

import pytest

from emoc_tf import registries
from emoc_tf.agents import AGENTS
from tests import ROOT

PAGES = {path.stem: path.read_text(encoding="utf-8") for path in ROOT.glob("docs/reference/*.md")}
# Name of what a directive documents, and all that stands beneath it.
DIRECTIVE = re.compile(r"^\.\. (?:auto\w+|py:data):: (\S+)\n((?:(?: .*)?\n)*)", re.M)
ENTRIES = {name: text for page in PAGES.values() for name, text in DIRECTIVE.findall(page)}
MODULES = ["emoc_tf", "emoc_tf.uncertainty"] + [
    f"emoc_tf.{path.parent.name}"
    for folder in ("emoc_tf/*", "agents", "envs")
    for path in sorted(ROOT.glob(f"{folder}/__init__.py"))
    if "__all__" in path.read_text(encoding="utf-8")
]


def found(name):
    """What a dotted name stands for."""
    module, _, last = name.rpartition(".")
    try:
        return importlib.import_module(name)
    except ImportError:
        return getattr(importlib.import_module(module), last)


def public():
    """All public names, each thing once, by the name that the reference has if there is one."""
    names = {}
    for module in map(importlib.import_module, MODULES):
        for last in getattr(module, "__all__", ()):
            thing, name = getattr(module, last), f"{module.__name__}.{last}"
            key = id(thing) if callable(thing) or inspect.ismodule(thing) else name
            if key not in names or name in ENTRIES:
                names[key] = name
    return [*names.values(), "emoc_tf.uncertainty"]


PUBLIC = public()


def test_there_are_names():
    assert {"emoc_tf.SKIP", "emoc_tf.Task", "emoc_tf.agents.EMOCAgent"} <= set(PUBLIC)
    assert len(PUBLIC) > 60


@pytest.mark.parametrize("name", PUBLIC)
def test_each_public_name_is_in_the_reference(name):
    assert name in ENTRIES


def example_of(name):
    """The example of a public name: in its docstring, or beneath its directive."""
    own = found(name)
    documents = inspect.ismodule(own) or inspect.isclass(own) or inspect.isfunction(own)
    texts = [own.__doc__ or "" if documents else "", ENTRIES.get(name, "")]
    (text,) = [text for text in texts if ">>>" in text] or [""]
    return text


@pytest.fixture
def only_here():
    """What is registered is there for one example alone."""
    kinds = [AGENTS, registries.SAMPLERS, registries.NETWORKS, registries.REWARDS]
    before = [set(kind) for kind in kinds]
    yield
    for kind, names in zip(kinds, before, strict=True):
        for name in set(kind) - names:
            del kind[name]


@pytest.mark.parametrize("name", PUBLIC)
def test_example(name, tmp_path, monkeypatch, only_here):
    if name == "emoc_tf.scoring.RayScorer":
        pytest.importorskip("ray")
    monkeypatch.chdir(tmp_path)
    test = doctest.DocTestParser().get_doctest(example_of(name), {}, name, None, None)
    assert test.examples, "expected an example: lines that begin with >>>"
    told = []
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    doctest.DocTestRunner(verbose=False, optionflags=flags).run(test, out=told.append)
    assert not told, "".join(told)
