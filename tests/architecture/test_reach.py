"""Nothing public is reached by tests alone: the product uses it, or the documents tell users of it."""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("carrot", "benchmarks", "examples", "scripts", "docs")
HOUSE = ("style.md", "design.md")  # for those who write it
# Asked for by other libraries, by these very names, or an old name that is kept.
EXCEPTIONS = {
    "Estimator.get_params": "scikit-learn",
    "Estimator.set_params": "scikit-learn",
    "Estimator.set_fit_request": "scikit-learn",
    "Estimator.set_score_request": "scikit-learn",
    "HubMixin.save_pretrained": "huggingface_hub",
    "_Rate.render": "rich",
    "Explanation.removals": "the name that `drops` had",
}


class Definition(NamedTuple):
    """A public name: ``Class.method`` for one inside a class."""

    path: str
    name: str


def definitions(path: str, tree: ast.AST, prefix: str = "") -> Iterator[Definition]:
    """Yield public functions, classes and methods; those of a private class are public where others inherit them."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            if not node.name.startswith("_"):
                yield Definition(path, prefix + node.name)
            yield from definitions(path, node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if not node.name.startswith("_"):
                yield Definition(path, prefix + node.name)
        elif isinstance(node, ast.If | ast.Try):
            yield from definitions(path, node, prefix)


def uses(trees: Iterable[ast.AST]) -> tuple[set[str], set[str]]:
    """Return the names that are read, and the attributes; an import or an entry of ``__all__`` is no use."""
    names, attributes = set[str](), set[str]()
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                names.add(node.id)
            elif isinstance(node, ast.Attribute):
                attributes.add(node.attr)
    return names, attributes


def told(texts: Iterable[str]) -> set[str]:
    """Return the words in code of documents: what a user is told to write."""
    return {
        word
        for text in texts
        for code in re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL)
        for word in re.findall(r"\w+", code)
    }


def unreached(package: dict[str, str], product: Iterable[str], documents: Iterable[str]) -> list[Definition]:
    """Return the public names of a package that nothing reaches.

    A method is reached as an attribute, a function or a class also by its bare name: a local variable that is called
    like a method doesn't reach it.
    """
    trees = {path: ast.parse(text) for path, text in package.items()}
    names, attributes = uses([*trees.values(), *map(ast.parse, product)])
    documented = told(documents)
    found = []
    for definition in (d for path, tree in trees.items() for d in definitions(path, tree)):
        owner, _, own = definition.name.rpartition(".")
        if own not in attributes | documented and (owner or own not in names):
            found.append(definition)
    return found


def texts(paths: Iterable[Path]) -> dict[str, str]:
    return {str(path.relative_to(ROOT)): path.read_text() for path in sorted(paths)}


def test_every_public_name_is_reached() -> None:
    files = texts(path for folder in PRODUCT for path in (ROOT / folder).rglob("*.py")) | texts([ROOT / "main.py"])
    package = {path: text for path, text in files.items() if path.startswith("carrot/")}
    pages = [path for folder in ("docs", "docs/howto") for path in (ROOT / folder).glob("*.md")]
    documents = [ROOT / "README.md", *(path for path in pages if path.name not in HOUSE)]
    found = unreached(package, files.values(), texts(documents).values())
    left = [d for d in found if d.name not in EXCEPTIONS]
    assert not left, f"only tests reach these: use them, tell users of them, or delete them: {left}"
    assert {d.name for d in found} == set(EXCEPTIONS), "an exception that is none any more"


def test_what_nothing_reaches_is_found() -> None:
    package = {
        "a.py": '__all__ = ["dead", "told"]\ndef dead(): ...\ndef told(): ...\ndef used(): ...\ndef _private(): ...\n'
        "class Thing:\n    def lost(self): ...\n    def asked(self): ...\nclass _Base:\n    def inherited(self): ...\n",
        "b.py": "from a import dead, used\nlost = 1\nprint(lost, used())\n",
    }
    found = unreached(package, ["x.Thing().asked()"], ["Call `a.told()`; nothing is dead."])
    assert [d.name for d in found] == ["dead", "Thing.lost", "_Base.inherited"]
