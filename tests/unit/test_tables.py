"""Markdown tables, worked by hand."""

import math
from fractions import Fraction

import numpy as np
import pytest

from carrot.evaluation.tables import Measured, markdown_table


def test_a_table_by_hand() -> None:
    rows = [
        {"method": "mean pooling", "top1": Measured(0.8624, 0.0051), "n": 5794, "loss": 1.23456},
        {"method": "CARROT | quadratic", "top1": Measured(0.952, 0.0042), "n": 12, "loss": None},
    ]
    columns = {"method": "Method", "top1": "Top-1", "loss": "Loss", "n": "n"}
    assert markdown_table(rows, columns) == (
        "| Method              |         Top-1 |  Loss |    n |\n"
        "| ------------------- | ------------: | ----: | ---: |\n"
        "| mean pooling        | 0.862 ± 0.005 | 1.235 | 5794 |\n"
        "| CARROT \\| quadratic | 0.952 ± 0.004 |       |   12 |\n"
    )


def test_columns_by_default_are_the_keys_in_order_of_appearance() -> None:
    assert markdown_table([{"b": 1}, {"b": 2, "a": "x"}]).splitlines() == [
        "|   b | a   |",
        "| --: | --- |",
        "|   1 |     |",
        "|   2 | x   |",
    ]


def cell(value: object, digits: int = 3) -> str:
    return markdown_table([{"k": value}], digits=digits).splitlines()[2].removeprefix("| ").removesuffix(" |").strip()


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [
        (0.95249, 3, "0.952"),
        (0.95249, 0, "1"),
        (-0.0001, 3, "0.000"),
        (1e6, 1, "1000000.0"),
        (math.nan, 3, "nan"),
        (-math.inf, 3, "-inf"),
        (np.float32(0.5), 2, "0.50"),
        (np.float64(0.5), 2, "0.50"),
        (np.int64(7), 2, "7"),
        (Fraction(1, 3), 2, "0.33"),
        (7, 2, "7"),
        (True, 2, "True"),
        (None, 2, ""),
        (Measured(0.95249, 0.00361), 3, "0.952 ± 0.004"),
        (Measured(12.0, 1.0), 1, "12.0 ± 1.0"),
        ("a|b||c", 3, r"a\|b\|\|c"),
        (r"a\|b", 3, r"a\\\|b"),
        (r"a\b", 3, r"a\b"),
        ("two\nlines\r\n", 3, "two lines"),
    ],
)
def test_cells(value: object, digits: int, expected: str) -> None:
    assert cell(value, digits) == expected


@pytest.mark.parametrize(
    ("values", "is_right"),
    [
        ([1, 2.5, Measured(1.0, 0.1), np.float32(1)], True),
        ([None, 3], True),
        ([None, None], False),
        ([1, "two"], False),
        ([True, False], False),
    ],
)
def test_columns_of_numbers_only_are_aligned_right(values: list[object], is_right: bool) -> None:
    rule = markdown_table([{"k": value} for value in values]).splitlines()[1]
    assert rule.endswith("-: |") == is_right


def test_headers_are_escaped_and_rows_may_be_none() -> None:
    assert markdown_table([], {"k": "|x|"}) == "| \\|x\\| |\n| ----- |\n"


@pytest.mark.usefixtures("as_user")
def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"must be keys of `rows`, which are \['a'\]; got \['b'\]"):
        markdown_table([{"a": 1}], {"a": "A", "b": "B"})
    with pytest.raises(ValueError, match="must name at least one column"):
        markdown_table([])
    with pytest.raises(ValueError, match="must name at least one column"):
        markdown_table([{}])
    for digits in (-1, 1.5, True):
        with pytest.raises((TypeError, ValueError), match="`digits` must be a whole number >= 0"):
            markdown_table([{"a": 1}], digits=digits)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`standard_error` must be >= 0"):
        Measured(1.0, -0.1)
