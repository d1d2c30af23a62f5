"""A figure that a notebook shows whatever backend is set; importing this brings matplotlib, so import it late."""

import io
from typing import Any

from matplotlib.figure import Figure


class Canvas(Figure):
    """A matplotlib figure of its own: ``pyplot`` knows nothing of it, and nothing needs to be closed."""

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **{"layout": "constrained", **given})

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()
