"""What ``select`` tried, as a table: a tuple of lines that shows itself."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from carrot._display.frame import by_column, data_frame
from carrot._display.html import card, table
from carrot._display.words import counted

if TYPE_CHECKING:
    import pandas

SHOWN = 20  # lines on a card


class Selection(tuple[Mapping[str, Any], ...]):
    """A line for each setting that was tried, in the order of trying; empty after ``fit``."""

    __slots__ = ()

    def __repr__(self) -> str:
        if not self:
            return "<Selection of no settings>"
        best = max(float(line["loo_accuracy"]) for line in self)
        return f"<Selection of {counted(len(self), 'setting')}, leave-one-out accuracy up to {best:.4f}>"

    def _repr_html_(self) -> str:
        lines = sorted(self, key=lambda line: float(line["loo_mse"]))[:SHOWN]
        columns = [name for name in self._columns if len({str(line.get(name)) for line in self}) > 1]
        rows = [[line.get(name) for name in columns] for line in lines]
        more = f", the best {SHOWN}" if len(self) > SHOWN else ""
        return card(f"Selection of {counted(len(self), 'setting')}{more}", table(columns, rows) if rows else "")

    def to_frame(self) -> "pandas.DataFrame":
        """Return a row for each setting as a data frame of pandas (extra ``frames``).

        Raises:
            ImportError: pandas is absent.
        """
        return data_frame(by_column(self._columns, self))

    @property
    def _columns(self) -> list[str]:
        return list(dict.fromkeys(name for line in self for name in line))
