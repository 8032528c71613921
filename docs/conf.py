"""How Sphinx builds this documentation: `python -m nox -s docs`.

The pages are Markdown that reads well on GitHub too; the reference of the API is written from docstrings.
In these, `a name` in single backquotes is a reference, and one that leads nowhere fails the build.
"""

import builtins
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from enum import Enum
from importlib import metadata
from typing import is_typeddict

import msgspec
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

project = "codex_actors"
author = "The codex_actors developers"
version = release = metadata.version("codex-actors")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_codeautolink",
    "sphinx_copybutton",
]
suppress_warnings = ["codeautolink.match_name"]  # the names of fields in a pattern just are no links
exclude_patterns = ["_build"]
nitpicky = True
# The doors have the names of the runtime and no targets of their own: references would be ambiguous.
nitpick_ignore_regex = [("py:class", r"codex_actors\.(aio|blocking)\..*")]
default_role = "any"

myst_heading_anchors = 4  # the anchors of GitHub

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}
napoleon_use_ivar = False
napoleon_use_rtype = False
toc_object_entries_show_parents = "hide"
python_maximum_signature_line_length = 90

html_theme = "furo"
html_title = f"codex_actors {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
html_show_sourcelink = False
html_show_sphinx = False
copybutton_exclude = ".linenos, .gp, .go"
pygments_style = "friendly"

# Of an attribute, as napoleon writes it: its name, what it is, and last its type.
ATTRIBUTE = re.compile(
    r"^(?P<head>\.\. attribute:: (?P<name>\w+)\n)(?P<text>(?:\n|   .*\n)*?)   :type: (?P<type>.*)\n",
    re.MULTILINE,
)


def setup(app: Sphinx) -> None:
    """Connects what is ours to what Sphinx does."""
    app.connect("autodoc-process-docstring", quote_arguments, priority=400)  # before napoleon
    app.connect("autodoc-process-docstring", put_prose_together, priority=600)  # after it
    app.connect("autodoc-process-docstring", show_types_beside_names, priority=600)
    app.connect("autodoc-process-signature", shorten_signature)
    app.connect("autodoc-process-bases", skip_private_bases)
    app.connect("doctree-read", leave_builtins_alone)
    app.connect("missing-reference", excuse_foreign_names)


def quote_arguments(
    _app: Sphinx, _what: str, _name: str, obj: object, _options: object, lines: list[str]
) -> None:
    """An argument in single backquotes is a name of the function's own, not a reference."""
    try:
        own = set(inspect.signature(obj).parameters) if callable(obj) else set[str]()
    except ValueError:  # some classes do not say
        return
    quoted = re.compile(r"(?<!`)`(\w+)`(?!`)")
    lines[:] = [quoted.sub(lambda it: f"`{it[0]}`" if it[1] in own else it[0], line) for line in lines]


def put_prose_together(
    _app: Sphinx, what: str, _name: str, _obj: object, _options: object, lines: list[str]
) -> None:
    """Napoleon takes what stands before a colon in the first line of a property for its type."""
    taken = [line for line in lines if line.startswith(":type: ")]
    if what in {"attribute", "data", "property"} and taken:
        lines.remove(taken[0])
        lines[0] = f"{taken[0].removeprefix(':type: ')}: {lines[0]}"


def show_types_beside_names(
    _app: Sphinx, _what: str, _name: str, obj: object, _options: object, lines: list[str]
) -> None:
    """Moves the type of an attribute to where it is named, in short, and puts the default there."""
    written = defaults(obj)

    def moved(found: re.Match[str]) -> str:
        kind = re.sub(r"\b(\w+\.)+\w+", r"~\g<0>", found["type"])
        default = f"   :value: {written[found['name']]}\n" if found["name"] in written else ""
        return f"{found['head']}   :type: {kind}\n{default}{found['text']}"

    lines[:] = ATTRIBUTE.sub(moved, "\n".join(lines) + "\n").splitlines()


def defaults(obj: object) -> dict[str, str]:
    """What the fields of a struct are if they are not given, as one writes it."""
    if not (isinstance(obj, type) and issubclass(obj, msgspec.Struct)):
        return {}
    written: dict[str, str] = {}
    for field in msgspec.structs.fields(obj):
        if field.default is not msgspec.NODEFAULT:
            written[field.name] = as_written(field.default)
        elif callable(field.default_factory):
            written[field.name] = as_written(field.default_factory())
    return written


def as_written(value: object) -> str:
    """A value as one writes it."""
    if isinstance(value, msgspec.Struct):
        return f"{type(value).__name__}()"
    return str(value) if isinstance(value, Enum) else repr(value)


def shorten_signature(
    _app: Sphinx,
    what: str,
    _name: str,
    obj: object,
    _options: object,
    signature: str | None,
    returns: str | None,
) -> tuple[str, str | None] | None:
    """Shows how to build a class only where its attributes do not, and a context manager as what it is."""
    if what == "function" and returns and hasattr(obj, "__wrapped__"):
        context_manager = "~contextlib.AbstractAsyncContextManager"
        return signature or "", re.sub(r"[\w.~]*AsyncGenerator", context_manager, returns)
    if what in {"class", "exception"} and signature and "Args:" not in (obj.__doc__ or ""):
        return "", returns
    return None


def skip_private_bases(_app: Sphinx, _name: str, _obj: object, _options: object, bases: list[type]) -> None:
    """A base that users cannot name is passed over for what it stands on."""
    bases[:] = [public for base in bases for public in public_bases(base)]


def public_bases(base: type) -> Iterator[type]:
    """The class itself, or the nearest that it is made from."""
    if not base.__name__.startswith("_"):
        yield base
        return
    for below in base.__bases__:
        yield from public_bases(below)


def leave_builtins_alone(_app: Sphinx, page: nodes.document) -> None:
    """A `type` in a signature is Python's own, and not an attribute of that name."""
    for reference in list(page.findall(addnodes.pending_xref)):
        if reference["reftype"] == "class" and hasattr(builtins, reference["reftarget"]):
            reference.replace_self(reference.children)


def excuse_foreign_names(
    _app: Sphinx, _env: object, node: nodes.Element, content: nodes.TextElement
) -> nodes.Node | None:
    """Somebody else's names have no page here, nor have other words for a type; that they exist is enough."""
    target: str = node.get("reftarget", "")
    named = find(target, near=f"{node.get('py:module')}.{node.get('py:class')}")
    if named is None:
        return None
    ours = target.startswith("codex_actors") and isinstance(named, type) and not is_typeddict(named)
    return None if ours else content


def find(name: str, *, near: str) -> object:
    """What a name stands for, anywhere or in the module that a class is from; None if it is not there."""
    with suppress(ImportError, AttributeError, ValueError):
        return pkgutil.resolve_name(name)
    with suppress(ImportError, AttributeError, ValueError):
        return getattr(sys.modules[pkgutil.resolve_name(near).__module__], name)
    return None
