"""Tables for pandas, which is imported where one is asked for: an extra of its own."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from carrot._display.extras import how_to_install

if TYPE_CHECKING:
    import pandas

Table: TypeAlias = Mapping[str, Sequence[Any]]  # by column


def data_frame(table: Table) -> "pandas.DataFrame":
    """Return a table as a data frame.

    Raises:
        ImportError: pandas is absent.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError(f"`to_frame` needs pandas, which is absent: {how_to_install('frames')}.") from error
    return pandas.DataFrame(dict(table))


def by_column(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return rows as columns; what a row doesn't have is None."""
    return {name: [row.get(name) for row in rows] for name in columns}


def chosen(what: str, tables: Mapping[str, Callable[[], Table]]) -> Table:
    """Return the table that was asked for.

    Raises:
        ValueError: There is none of that name.
    """
    if what not in tables:
        raise ValueError(f"`what` must be one of {', '.join(map(repr, tables))}; got {what!r}.")
    return tables[what]()
