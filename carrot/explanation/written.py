"""An explanation on disk: the page, and beside it the same numbers as JSON and a figure.

Nothing of the user's is replaced by these.
"""

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from carrot.errors import StoreError
from carrot.store.layout import GENERATOR
from carrot.store.outputs import check_output, check_replaced, is_regular, write_output

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from carrot.explanation.record import Explanation

DPI = 110
MARKS: dict[str, dict[str, str | None]] = {
    "png": {"Software": "CARROT"},
    "svg": {"Creator": "CARROT", "Date": None},
    "pdf": {"Creator": "CARROT", "CreationDate": None},
}


def check_page(page: Path) -> None:
    """Refuse a place for a page before anything is computed.

    Raises:
        StoreError: It doesn't end in .html, can't be written, or what would lie beside it is there and is not an
            explanation's.
    """
    if not is_regular(page):
        return
    if page.suffix.lower() not in (".html", ".htm"):
        raise StoreError(
            f"{page}: must end in .html: it is a page. Beside it lie the numbers (.json) and a figure (.png)."
        )
    check_output(page)
    check_replaced(page)
    is_ours = page.is_file() and GENERATOR in page.read_bytes()
    for path in _beside(page):
        check_output(path)
        if path.exists() and not is_ours:
            raise StoreError(
                f"{path}: is there already, and would be replaced by what lies beside the page. Choose another place."
            )


def write_page(explanation: "Explanation", page: Path) -> None:
    """Write the page and, where it is a regular file, its numbers and figure beside it.

    Raises:
        StoreError: The disk refuses.
    """
    if not is_regular(page):
        write_output(page, explanation.to_html().encode())
        return
    html, numbers = explanation.to_html(), explanation.to_json()
    figure = figure_bytes(explanation.plot(), "png")  # what takes long is done before anything is replaced
    for path, data in zip((page, *_beside(page)), (html.encode(), numbers.encode(), figure), strict=True):
        write_output(path, data)


def write_figure(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG.

    Raises:
        StoreError: The disk refuses.
    """
    write_output(path, figure_bytes(figure, "png"))


def figure_bytes(figure: "Figure", form: str) -> bytes:
    """Return a figure as PNG, SVG or PDF that says that it is ours (``carrot.store.outputs.is_ours``)."""
    image = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a box stands for it; the page has it
        figure.savefig(image, dpi=DPI, format=form, metadata=MARKS[form])
    return image.getvalue()


def _beside(page: Path) -> tuple[Path, Path]:
    return page.with_suffix(".json"), page.with_suffix(".png")
