"""What ``make docs`` adds to MkDocs: the README as the first page, notebooks as pages, links into the source tree.

``mkdocs.yml`` names this file; MkDocs calls ``on_files`` and ``on_page_markdown`` by their names.
"""

import json
import re
import textwrap
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
HOME = "index.md"
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s#]+)(?:#[^)\s]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made of other files."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, HOME, content=(ROOT / "README.md").read_text()))
    for path in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        text = page_of_notebook(json.loads(path.read_text()), path.name)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead a page's links to where the site has what they name.

    Raises:
        PluginError: One names a file that there isn't: the build fails.
    """
    from mkdocs.exceptions import PluginError

    try:
        return at_home(markdown, page.file.src_uri)
    except FileNotFoundError as error:
        raise PluginError(f"{page.file.src_uri}: {error}") from error


def page_of_notebook(notebook: dict[str, Any], name: str) -> str:
    """Return the cells of a notebook as Markdown."""
    cells = []
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        cells.append(f"```python\n{text}\n```" if cell["cell_type"] == "code" else text)
    return "\n\n".join([*cells, f"The notebook itself: [{name}]({name})."])


def at_home(markdown: str, page: str) -> str:
    """Return a page as the site has it.

    The README's links start at docs/. A link that leads out of docs/, into the source tree, is its text, for a site has
    no place to lead it to; if it is a script's and has a line for itself, the script is there to be unfolded.

    Args:
        markdown: The page.
        page: Its path below docs/.

    Raises:
        FileNotFoundError: A link out of docs/ names a file that there isn't.
    """
    folder = ROOT if page == HOME else (ROOT / "docs" / page).parent
    if page == HOME:
        markdown = markdown.replace("](docs/", "](")

    def text(link: re.Match[str]) -> str:
        if ":" in link[2] or (page == HOME and (ROOT / "docs" / link[2]).exists()):
            return link[0]
        target = (folder / link[2]).resolve()
        if target.is_relative_to(ROOT / "docs"):
            return link[0]  # MkDocs looks after it
        if not target.exists():
            raise FileNotFoundError(f"there is no {link[2]}.")
        alone = link.string[: link.start()].endswith("\n\n") and link.string[link.end() :].startswith("\n")
        if alone and target.suffix == ".py":
            code = f"```python\n{target.read_text()}```"
            return f'??? example "{link[1]}"\n\n{textwrap.indent(code, "    ")}'
        return link[1]

    return LINK.sub(text, markdown)
