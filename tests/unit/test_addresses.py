"""Pictures at addresses: what is opened, what is refused, and that no key is said or kept."""

import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from carrot.data import addresses, open_dataset, require_place, split_indices
from carrot.data.addresses import Ranges, public
from carrot.data.records import contents_of
from carrot.errors import DataError, StoreError, UnreadableImageError
from carrot.store.places import place_of
from tests.unit.reader_contract import png
from tests.unit.test_shards_read import samples, write

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def memory() -> Iterator[Any]:
    fs = fsspec.filesystem("memory")
    yield fs
    fs.store.clear()


def test_shards_at_an_address(memory: Any, tmp_path: Path) -> None:
    for shard in range(3):
        file = write(tmp_path / f"s-{shard}.tar", samples(10, 10 * shard))
        memory.pipe(f"/b/{file.name}", file.read_bytes())
    here = open_dataset(tmp_path)
    for spec in ("wds:memory://b/s-{0..2}.tar", "wds:memory://b", "wds:memory://b/*.tar#label=cls"):
        there = open_dataset(spec)
        assert list(there.records) == list(here.records)
        again = pickle.loads(pickle.dumps(there))  # noqa: S301 (our own bytes)
        for i in (0, 29, 3, 4, 5):
            assert again.image(i).tobytes() == here.image(i).tobytes()
            assert there.records[i].content is not None
            assert there.records[i].content() == here.records[i].content()  # type: ignore[misc]
    before = contents_of(there)
    memory.pipe("/b/s-1.tar", b"another")
    assert {name for name, mark in contents_of(there).items() if mark != before[name]} == {"s-1.tar"}
    with pytest.warns(UserWarning, match="there is no such shard"):
        open_dataset("wds:memory://b/s-{0,2,7}.tar")
    assert require_place("memory://b/s-0.tar") == "memory://b/s-0.tar"
    with pytest.raises(DataError, match=r"memory://none/\*\.tar: there are no such \.tar files"):
        require_place("wds:memory://none/*.tar")


def test_what_is_read_in_order_is_fetched_ahead(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.pipe("/x", bytes(range(256)) * 64)
    asked = []
    fetch = memory.cat_file
    monkeypatch.setattr(type(memory), "cat_file", lambda self, *a, **k: asked.append(k) or fetch(*a, **k))
    ranges = Ranges()
    read = ranges.reader("memory://x")
    assert [read(i, 4) for i in range(0, 1024, 100)] == [
        bytes(j % 256 for j in range(i, i + 4)) for i in range(0, 1024, 100)
    ]
    assert len(asked) == 1
    assert pickle.loads(pickle.dumps(ranges)).reader("memory://x")(16380, 100) == bytes(range(252, 256))  # noqa: S301


def test_a_folder_at_an_address(memory: Any) -> None:
    for side, n in (("train", 3), ("val", 1)):
        for name in ("cat", "dog"):
            for i in range(n):
                memory.pipe(f"/f/{side}/{name}/{i}.png", png(i + len(name)))
    memory.pipe("/f/.hidden/x.png", png(1))
    memory.pipe("/f/loose.png", png(1))
    with pytest.warns(UserWarning, match=r"1 set aside .*loose\.png: neither in train/ nor in val/"):
        found = open_dataset("memory://f")
    assert (found.name, found.classes, len(split_indices(found, "test"))) == ("f", ("cat", "dog"), 2)
    assert found.image(0).mode == "RGB"
    memory.rm("/f/train/cat/0.png")
    with pytest.raises(UnreadableImageError, match=r"f/train/cat/0\.png: can't be read: there is no such file"):
        found.image(0)
    with pytest.raises(DataError, match="memory://nothing: there is no such folder, or nothing in it"):
        open_dataset("memory://nothing")


def test_a_table_of_addresses(memory: Any, tmp_path: Path) -> None:
    memory.pipe("/t/a.png", png(1))
    memory.pipe("/u/b.png", png(2))
    memory.pipe("/t/labels.csv", b"image,label\na.png,x\nmemory://u/b.png,y\n")
    found = open_dataset("memory://t/labels.csv")
    assert [record.id for record in found.records] == ["a.png", "memory://u/b.png"]
    assert [found.image(i).getpixel((0, 0))[0] for i in range(2)] == [1, 2]
    assert len(contents_of(found)) == 2
    table = tmp_path / "labels.csv"
    table.write_text("image,label\nmemory://t/a.png,x\nmemory://u/b.png,y\n")
    assert open_dataset(table).image(1).tobytes() == found.image(1).tobytes()
    for cell, message in (
        ("https://me:secret@a.b/c.png", r"https://a\.b/c\.png: https:// is not opened from a table"),
        ("file:///etc/passwd", "file:// is not opened from a table"),
        ("simplecache::s3://a/b.png", "a chain of addresses is not opened from a table"),
        ("s3://me:secret@a/c.png", r"s3://a/c\.png has keys in it, which would be stored"),
        ("memory://t/a.png", "is listed a second time"),
        ("c.png", "must be an address; got c.png"),
    ):
        table.write_text(f"image,label\nmemory://t/a.png,x\n{cell},y\n")
        with pytest.raises(DataError, match=message) as caught:
            open_dataset(table)
        assert "secret" not in str(caught.value)
    memory.pipe("/t/labels.csv", b"image,label\na.png,x\n../u/b.png,y\n")
    with pytest.raises(DataError, match=r"must be an address, or a path below the table; got \.\./u/b\.png"):
        open_dataset("memory://t/labels.csv")


def test_what_is_public() -> None:
    assert public("s3://key:secret@bucket/a?token=1") == "s3://bucket/a"
    assert public("it failed at https://u:p@a.b/c?sig=1 (403)") == "it failed at https://a.b/c (403)"
    assert public("a folder/with @ and ?") == "a folder/with @ and ?"


def test_absent_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda address: (_ for _ in ()).throw(ImportError("no s3fs")))
    monkeypatch.setattr(addresses, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"^s3://a/b: needs s3fs, not installed: pip install s3fs\.$"):
        open_dataset("s3://k:secret@a/b")
    with pytest.raises(DataError, match=r"^memory://a/b: needs a package: no s3fs\.$"):
        open_dataset("memory://a/b")
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    big = "pip install pyarrow fsspec{0}, or in CARROT's checkout: pip install '.[big]'{0}."
    with pytest.raises(DataError, match=f"^memory://a/b: needs fsspec, not installed: {re.escape(big.format(''))}$"):
        open_dataset("memory://a/b")
    with pytest.raises(DataError, match=f"s3://a/b: needs fsspec and s3fs, .*: {re.escape(big.format(' s3fs'))}$"):
        open_dataset("s3://k:secret@a/b")
    with pytest.raises(StoreError, match=f": {re.escape(big.format(' s3fs'))} Or give a folder.$"):
        place_of("s3://k:secret@a/b")
