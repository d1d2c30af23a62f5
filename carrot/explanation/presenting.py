"""Results that show themselves: in a notebook, in a browser, and as a file of the kind that its name says."""

import json
import sys
import tempfile
import webbrowser
from collections.abc import Callable
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from carrot._display.html import page_head, text
from carrot.explanation.written import MARKS, figure_bytes
from carrot.store.outputs import check_output, check_replaced, write_output

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEIGHT = 720  # pixels of a page in a notebook; it can be pulled larger
_STYLE = ":root { color-scheme: light dark } body { font: 1rem/1.4 system-ui, sans-serif; margin: 1rem }"


class Presented:
    """What a result has that can be looked at and kept; subclasses give ``to_dict``, and ``_card`` or a page."""

    _format: ClassVar[str]  # what it is, in a word: JSON says so

    if TYPE_CHECKING:

        def _card(self) -> str: ...  # a piece of HTML that needs nothing around it
        def to_dict(self) -> dict[str, Any]: ...  # noqa: D102 (of what subclasses give)

    def _repr_html_(self) -> str:
        return self._card()

    def to_html(self, path: Path | str | None = None) -> str:
        """Return it as a page of its own, and write it where a path is given: no scripts, nothing from outside.

        Raises:
            StoreError: The disk refuses.
        """
        page = f"{page_head(text(repr(self)), _STYLE)}\n<body>\n{self._card()}\n</body>\n</html>\n"
        return stored(page, path)

    def to_json(self, path: Path | str | None = None) -> str:
        """Return it as JSON, and write it where a path is given; numbers are kept to the last bit.

        Raises:
            ValueError: A number is NaN or infinite.
            StoreError: The disk refuses.
        """
        data = {"format": f"carrot {self._format}", **self.to_dict()}
        return stored(json.dumps(data, indent=1, allow_nan=False) + "\n", path)

    def show(self) -> None:
        """Show it: below the cell of a notebook, elsewhere in the browser, from a temporary file.

        What it shows is pictures too, perhaps: the file is readable by its owner alone, and stays until the system
        clears its temporary folder. Where there is no browser, it is said where the page lies.
        """
        shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
        if getattr(shell, "kernel", None) is not None:  # a notebook's, not a terminal's
            from IPython.display import display

            display(self)
            return
        with tempfile.NamedTemporaryFile("wb", prefix="carrot-", suffix=".html", delete=False) as file:
            file.write(self.to_html().encode())
        page = Path(file.name)
        if not webbrowser.open(page.as_uri()):
            print(f"There is no browser to open it with; the page lies at {page}")

    def save(self, path: Path | str) -> Path:
        """Write it to a file, of the kind that the name's ending says, and return where.

        A file that is there is replaced if CARROT wrote it, and refused otherwise.

        Args:
            path: Ends in .html or .json; of an explanation also in .png, .svg or .pdf.

        Raises:
            ValueError: It ends in something else.
            StoreError: There is a file that isn't ours, or the disk refuses.
        """
        path, forms = Path(path), self._forms()
        ending = path.suffix.lower().removeprefix(".")
        if ending not in forms:
            *others, last = (f".{form}" for form in forms)
            raise ValueError(f"`path` must end in {', '.join(others)} or {last}; got {path.name!r}.")
        check_output(path)
        check_replaced(path)
        write_output(path, forms[ending]())
        return path

    def _forms(self) -> dict[str, Callable[[], bytes]]:
        """Return how it is written, by the ending of a name."""
        return {"html": lambda: self.to_html().encode(), "json": lambda: self.to_json().encode()}


def figure_forms(plot: "Callable[[], Figure]") -> dict[str, Callable[[], bytes]]:
    """Return how what ``plot`` draws is written, by the ending of a name."""
    return {form: partial(_drawn, plot, form) for form in MARKS}


def _drawn(plot: "Callable[[], Figure]", form: str) -> bytes:
    return figure_bytes(plot(), form)


def framed(page: str) -> str:
    """Return a whole page as a frame of another: its scripts run in it alone, and it can't reach what is around it."""
    style = f"width:100%;height:{HEIGHT}px;border:0;resize:vertical;overflow:auto;background:Canvas"
    return f'<iframe sandbox="allow-scripts" loading="lazy" style="{style}" srcdoc="{escape(page)}"></iframe>'


def stored(content: str, path: Path | str | None) -> str:
    """Return the text, written to a path if there is one (``carrot.store.outputs``)."""
    if path is not None:
        check_replaced(path)
        write_output(path, content.encode())
    return content
