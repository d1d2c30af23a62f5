"""Records as columns say what a list of records would, and take a tenth of its bytes."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrot.data import records as of_records
from carrot.data.columns import Below, Names, Numbers, Records, every_nth
from carrot.data.records import Box, Chosen, Record, ids_of, labels_of

TEXT = st.text(st.characters(exclude_categories=()), max_size=6)  # half a surrogate pair too


@given(st.lists(TEXT, max_size=8), st.lists(TEXT, max_size=8))
def test_names_are_what_they_were(one: list[str], other: list[str]) -> None:
    joined = Names.joined([Names(one), Names(other), Names()])
    assert list(joined) == one + other
    assert joined[1:-1] == (one + other)[1:-1]
    assert list(pickle.loads(pickle.dumps(joined))) == one + other  # noqa: S301 (our own bytes)
    joined.append("x")
    assert joined[-1] == "x"
    with pytest.raises(IndexError):
        joined[len(joined)]


@given(st.lists(st.tuples(TEXT, st.integers(0, 3), st.booleans()), max_size=9), st.data())
def test_columns_are_the_records(rows: list[tuple[str, int, bool]], data: st.DataObject) -> None:
    plain = [Record(name, label, "test" if tested else "train", Path("/x") / name) for name, label, tested in rows]
    labels = np.array([label for _, label, _ in rows], np.int32)
    columns = Records(Names(r[0] for r in rows), labels, np.array([r[2] for r in rows], np.bool_), Path("/x"))
    places = data.draw(st.lists(st.integers(-len(rows), len(rows) - 1), max_size=9)) if rows else []
    for found, wanted in (
        (columns, plain),
        (columns[1:7:2], plain[1:7:2]),
        (Chosen(columns, places), [plain[place] for place in places]),
        (Chosen(Chosen(columns, places), range(len(places)))[::-1], [plain[place] for place in places][::-1]),
        (Chosen(plain, places), [plain[place] for place in places]),
    ):
        assert list(found) == wanted
        assert found == wanted
        assert list(ids_of(found)) == [record.id for record in wanted]
        assert labels_of(found).tolist() == labels_of(wanted).tolist() == [record.label for record in wanted]
        assert (
            of_records.tested_of(found).tolist()
            == of_records.tested_of(wanted).tolist()
            == [r.split == "test" for r in wanted]
        )


def test_boxes_and_names_in_shards() -> None:
    shard, row = np.array([0, 1, 1], np.int32), np.array([2, 0, 7], np.int64)
    ids = Below(["a.tar", "b.tar"], shard, Numbers(np.arange(8)), row)
    assert list(ids) == ["a.tar/0000002", "b.tar/0000000", "b.tar/0000007"]
    assert ids[::2] == ["a.tar/0000002", "b.tar/0000007"]
    boxes = np.array([[1.0, 2.0, 3.0, 4.0], [np.nan] * 4, [5.0, 6.0, 7.0, 8.0]])
    found = Records(
        ids, np.zeros(3, np.int32), np.zeros(3, np.bool_), boxes=boxes, content=lambda place: bytes([place])
    )
    assert [record.box for record in found] == [Box(1, 2, 3, 4), None, Box(5, 6, 7, 8)]
    assert [record.content() for record in found if record.content] == [b"\0", b"\1", b"\2"]
    assert all(record.has_bytes and record.path is None for record in found)


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=40), st.integers(2, 5))
def test_every_nth_of_a_class(rows: list[tuple[int, bool]], every: int) -> None:
    seen, wanted = [0, 0, 0], []
    for place, (label, used) in enumerate(rows):
        seen[label] += used
        if used and seen[label] % every == 0:
            wanted.append(place)
    label, used = (np.array([row[i] for row in rows], kind) for i, kind in enumerate((np.int32, np.bool_)))
    assert sorted(every_nth(label, used, every).tolist()) == wanted


def test_a_picture_takes_few_bytes() -> None:
    n = 20_000
    columns = Records(Names(f"n{i:08d}.jpg" for i in range(n)), np.zeros(n, np.int32), np.zeros(n, np.bool_), Path("x"))
    assert len(pickle.dumps(columns)) < n * (13 + 8 + 4 + 1 + 1)  # its name, where that ends, its class and side
