"""Our docstrings as the reference needs them: written for readers of the source, told in words that Griffe knows.

``mkdocs.yml`` names this file. A line ``::`` announces an indented block, which Markdown prints as one without it;
``Attributes (after ``fit``):`` is a section of attributes; ``a, b: what`` are two entries of a section.
"""

import re
from typing import Any

import griffe

_TWO = re.compile(r"^( {4,})(\w+), ([\w, ]+): (.*(?:\n\1 +.*)*)", re.M)


def told(docstring: str) -> str:
    """Return a docstring in Markdown, with sections by their plain names and an entry for each name."""
    docstring = re.sub(r"^::\n", "", docstring, flags=re.M)
    docstring = re.sub(r"^Attributes \(([^\n]*)\):$", r"What is there \1:\n\nAttributes:", docstring, flags=re.M)
    while (apart := _TWO.sub(r"\1\2: \4\n\1\3: \4", docstring)) != docstring:
        docstring = apart
    return docstring


class Plain(griffe.Extension):
    """Griffe calls it for every object that it reads."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite its docstring."""
        if obj.docstring is not None:
            obj.docstring.value = told(obj.docstring.value)
