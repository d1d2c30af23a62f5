"""Our docstrings as the reference needs them: written for readers of the source, told in words that Griffe knows.

``mkdocs.yml`` names this file. A line ``::`` announces an indented block, which Markdown prints as one without it;
``Attributes (after ``fit``):`` is a section of attributes.
"""

import re
from typing import Any

import griffe


def told(docstring: str) -> str:
    """Return a docstring in Markdown, with sections by their plain names."""
    docstring = re.sub(r"^::\n", "", docstring, flags=re.M)
    return re.sub(r"^Attributes \(([^\n]*)\):$", r"What is there \1:\n\nAttributes:", docstring, flags=re.M)


class Plain(griffe.Extension):
    """Called by Griffe for every object that it reads."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite its docstring."""
        if obj.docstring is not None:
            obj.docstring.value = told(obj.docstring.value)
