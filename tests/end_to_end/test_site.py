"""The site's other halves: the gallery's scripts draw, notebooks run, the reference has every public name."""

import json
import re
from importlib import import_module
from pathlib import Path

import pytest

from carrot import cli
from docs import make_gallery, site_hooks

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PUBLIC = ["carrot", "carrot.attribution", "carrot.data", "carrot.embedding", "carrot.evaluation", "carrot.explanation"]
PUBLIC += ["carrot.protocol", "carrot.report", "carrot.store", "carrot.estimators", "carrot.referee"]


@pytest.mark.parametrize("name", make_gallery.EXAMPLES)
def test_an_example_ends_in_its_picture(name: str, tmp_path: Path) -> None:
    assert make_gallery.draw(name, tmp_path).stat().st_size > 5_000


def test_the_gallery_shows_them_all() -> None:
    page = (DOCS / "gallery.md").read_text()
    for name in make_gallery.EXAMPLES:
        assert f"](gallery/{name}.png)" in page
        assert f"](../examples/{name}.py)" in page
        assert (DOCS / "gallery" / f"{name}.png").stat().st_size < 100_000


@pytest.mark.parametrize("path", sorted((DOCS / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path) -> None:
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: pip install '.[docs]'")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed: pip install '.[docs]'")
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(ROOT)}}).execute()


@pytest.mark.parametrize("path", sorted((DOCS / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_its_outputs(path: Path) -> None:
    for cell in json.loads(path.read_text())["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


ADAPTERS = ("carrot.referee.quanda", "carrot.referee.dattri")  # their libraries are not among our extras


def test_the_reference_has_every_public_name() -> None:
    told = set(re.findall(r"^::: (\S+)$", "\n".join(p.read_text() for p in DOCS.glob("reference/*.md")), re.M))
    public = {f"{name}.{one}" for name in PUBLIC for one in import_module(name).__all__ if one != "__version__"}
    assert public <= told, f"tell users of these, in docs/reference: {sorted(public - told)}"
    for name in told:
        module, _, one = name.rpartition(".")
        if module in ADAPTERS:
            assert f"class {one}(" in (ROOT / f"{module.replace('.', '/')}.py").read_text(), name
            continue
        assert one in dir(import_module(module)) or import_module(name), name


def test_the_reference_has_every_command() -> None:
    page = (DOCS / "reference" / "command.md").read_text()
    assert re.findall(r"^\| `carrot ([a-z-]+)", page, re.M) == list(cli.BY_WORD)


def test_links_lead_where_the_site_has_what_they_name() -> None:
    page = "See [claims](docs/claims.md), [the guide](main.py) and [Captum](https://captum.ai).\n"
    assert site_hooks.at_home(page, "index.md") == (
        "See [claims](claims.md), the guide and [Captum](https://captum.ai).\n"
    )
    page = "In [results](../../benchmarks/results), [here](../claims.md#x):\n\n[minimal](../../examples/minimal.py)\n"
    told = site_hooks.at_home(page, "howto/x.md")
    assert told.startswith('In results, [here](../claims.md#x):\n\n??? example "minimal"\n\n    ```python\n    """The')
    assert site_hooks.at_home((DOCS / "gallery.md").read_text(), "gallery.md").count("??? example") == 6
    with pytest.raises(FileNotFoundError, match="nowhere"):
        site_hooks.at_home("[a](../nowhere.py)", "a.md")


def test_a_docstring_is_told_in_the_words_of_the_reference() -> None:
    pytest.importorskip("griffe", reason="griffe is not installed: pip install '.[docs]'")
    from docs.site_docstrings import told

    assert told("A.\n\n::\n\n    g = H^T pi\n") == "A.\n\n\n    g = H^T pi\n"
    assert told("Attributes (after ``fit``):\n    a, b, c: One,\n        and more.\n    d: Two.") == (
        "What is there after ``fit``:\n\nAttributes:\n    a: One,\n        and more.\n    b: One,\n        and more.\n"
        "    c: One,\n        and more.\n    d: Two."
    )
