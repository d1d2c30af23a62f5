"""The CSV reader: columns, splits, order, and every way in which a line can be wrong."""

import csv
import io
import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from carrot.data import CsvFolder, ImageFolder, open_dataset
from carrot.errors import DataError


def pixels(name: str) -> np.ndarray:
    return np.random.default_rng(sum(name.encode())).integers(0, 256, size=(6, 8, 3), dtype=np.uint8)


def write(root: Path, text: str, *names: str, file: str = "labels.csv") -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(name)).save(root / name, format="PNG")
    (root / file).write_text(text, encoding="utf-8")
    return root / file


def test_a_file_with_a_split(tmp_path: Path) -> None:
    text = 'image,label,split\na.png,class 10,train\nsub/b.png,"class 2",train\n\n"c, d.png",class 10,test\n'
    file = write(tmp_path, text, "a.png", "sub/b.png", "c, d.png")
    for spec in (file, tmp_path, f"csv:{tmp_path}", f"csv:{file}"):
        data = open_dataset(spec)
        assert isinstance(data, CsvFolder)
        assert data.name == tmp_path.name
        assert data.classes == ("class 2", "class 10")  # as a person would sort them
        assert [r.id for r in data.records] == ["a.png", "sub/b.png", "c, d.png"]
        assert [r.label for r in data.records] == [1, 0, 1]
        assert [r.split for r in data.records] == ["train", "train", "test"]
        np.testing.assert_array_equal(np.asarray(data.image(1)), pixels("sub/b.png"))


@pytest.mark.parametrize("header", ["filename,class", "class,file_name", "Path, Label", "\ufeffimage,label,width"])
def test_the_names_of_the_columns(tmp_path: Path, header: str) -> None:
    columns = [column.strip().lower() for column in header.split(",")]
    lines = [header]
    for name, label in (("1.png", "x"), ("2.png", "y")):
        lines.append(",".join(label if c in ("class", "label") else "7" if c == "width" else name for c in columns))
    write(tmp_path, "\r\n".join(lines) + "\r\n", "1.png", "2.png")
    data = open_dataset(tmp_path)
    assert data.classes == ("x", "y")
    assert [(r.id, r.label) for r in data.records] == [("1.png", 0), ("2.png", 1)]


def test_without_a_split_every_fifth_of_a_class_is_for_testing(tmp_path: Path) -> None:
    names = [f"{k}.png" for k in range(12)]
    write(tmp_path, "image,label\n" + "".join(f"{n},{'ab'[k % 2]}\n" for k, n in enumerate(names)), *names)
    data = CsvFolder(tmp_path)
    assert [k for k, r in enumerate(data.records) if r.split == "test"] == [8, 9]  # the fifth a, the fifth b
    assert [k for k, r in enumerate(CsvFolder(tmp_path, test_every=3).records) if r.split == "test"] == [4, 5, 10, 11]
    assert all(r.split == "train" for r in CsvFolder(tmp_path, test_every=None).records)
    with pytest.raises(ValueError, match="test_every must be at least 2"):
        CsvFolder(tmp_path, test_every=1)


def test_validation_pictures(tmp_path: Path) -> None:
    text = "image,label,split\n1.png,a,train\n2.png,b,TRAIN\n3.png,a,val\n4.png,b,{}\n"
    names = [f"{k}.png" for k in range(1, 5)]
    write(tmp_path, text.format("validation"), *names)
    assert [r.split for r in CsvFolder(tmp_path).records] == ["train", "train", "test", "test"]
    write(tmp_path, text.format("test"))
    with pytest.warns(UserWarning, match=r"1 set aside .* 3\.png: split 'val', beside a test split"):
        data = CsvFolder(tmp_path)
    assert [r.id for r in data.records] == ["1.png", "2.png", "4.png"]
    assert data.skipped == {"3.png": "split 'val', beside a test split"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"labels\.csv: the first line must name one column image or filename .*; got none in \[\]"),
        ("image,title\n1.png,a\n", r"must name one column label or class; got none in \['image', 'title'\]"),
        ("image,path,label\n1.png,1.png,a\n", r"must name one column image or .*; got more than one in"),
        ("image,label\n", r"labels\.csv: lists no pictures"),
        ("image,label\n1.png,a\n2.png\n", r"labels\.csv, line 3: must have 2 columns, as the first line; got 1"),
        ("image,label\n1.png,a\n,b\n", r"labels\.csv, line 3: the image is empty"),
        ("image,label,split\n1.png,a,train\n2.png,b,\n", r"labels\.csv, line 3: the split is empty"),
        (
            "image,label,split\n1.png,a,train\n2.png,b,both\n",
            r"line 3: the split must be train, test or val; got 'both'\. Known are trainval, .*dev",
        ),
        ("image,label\n1.png,a\n./1.png,b\n", r"line 3: 1\.png is listed a second time; the first: .*line 2"),
        (
            "image,label\n1.png,a\n8.png,b\n9.png,b\n",
            r"line 3: 2 of the listed pictures are missing from .*: 8\.png, 9\.png",
        ),
        ("image,label\n1.png,a\n../out.png,b\n", r"line 3 lies outside of .*: \.\./out\.png"),
        ("image,label\n1.png,a\nlink.png,b\n", r"line 3 lies outside of"),
        ("image,label\n1.png,a\nlinked/2.png,b\n", r"line 3 lies outside of"),
        ("image,label\n1.png,a\nloop.png,b\n", r"line 3 is no possible path: 'loop\.png'"),
        ("image,label\n1.png,a\nsame.png,b\n", r"line 3: same\.png is listed a second time; .*line 2, as 1\.png"),
        ("image,label\n1.png,a\nsub,b\n", r"line 3: there is no file .*sub\. Correct it\."),
        ("image,label\n1.png,a\n2.png,a\n", r"needs training pictures of at least two classes; got \['a'\]"),
        ('image,label\n1.png,"a\n', r"labels\.csv, line 2: unexpected end of data"),
    ],
)
def test_wrong_lines_are_named(tmp_path: Path, text: str, message: str) -> None:
    root = tmp_path / "data"
    root.mkdir()
    write(root, text, "1.png", "2.png", "3.png", "../out.png")
    (root / "sub").mkdir()
    (root / "link.png").symlink_to(tmp_path / "out.png")
    (root / "linked").symlink_to(tmp_path)
    (root / "same.png").symlink_to(root / "1.png")
    (root / "loop.png").symlink_to(root / "loop.png")
    with pytest.raises(DataError, match=message):
        CsvFolder(root)


def test_an_absolute_path_is_outside(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write(tmp_path / "data", f"image,label\n1.png,a\n{tmp_path / 'out.png'},b\n", "1.png", "../out.png")
    with pytest.raises(DataError, match="line 3 lies outside of"):
        CsvFolder(tmp_path / "data")


def test_which_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no \.csv file\. Give the path of the file"):
        CsvFolder(tmp_path)
    write(tmp_path, "image,label\n", file="a.csv")
    write(tmp_path, "image,label\n", file="b.csv")
    with pytest.raises(DataError, match=r"has 2 \.csv files \(a\.csv, b\.csv\)"):
        CsvFolder(tmp_path)
    (tmp_path / "c.csv").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(DataError, match=r"c\.csv: can't be read as text"):
        CsvFolder(tmp_path / "c.csv")
    with pytest.raises(DataError, match="there is no such file or folder"):
        CsvFolder(tmp_path / "nowhere.csv")


def test_a_table_beside_class_folders_changes_nothing_and_is_told(tmp_path: Path) -> None:
    write(tmp_path, "image,label\na/1.png,x\nb/1.png,y\n", "a/1.png", "b/1.png")
    with pytest.warns(UserWarning, match="by its class folders, not by its table"):
        assert isinstance(open_dataset(tmp_path), ImageFolder)
    assert open_dataset(f"csv:{tmp_path}").classes == ("x", "y")


def test_it_travels_to_another_process(tmp_path: Path) -> None:
    write(tmp_path, "image,label\n1.png,a\n2.png,b\n", "1.png", "2.png")
    with warnings.catch_warnings():
        data = CsvFolder(tmp_path)
    again = pickle.loads(pickle.dumps(data))  # noqa: S301 (our own bytes)
    assert again.records == data.records
    np.testing.assert_array_equal(np.asarray(again.image(1)), pixels("2.png"))


COLUMNS = "image,label,split\n1.png,a,train\n2.png,b,train\n3.png,a,test\n"


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_how_a_table_is_written(tmp_path: Path, separator: str, encoding: str, end: str) -> None:
    extension = {",": ".csv", "\t": ".tsv", "|": ".TAB", ";": ".CSV"}[separator]
    file = write(tmp_path, "", *(f"{k}.png" for k in (1, 2, 3)), file=f"t{extension}")
    text = COLUMNS.replace(",", separator).replace("\n", end)
    bom = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    file.write_bytes((bom + text).encode(encoding))
    for spec in (tmp_path, file):
        data = open_dataset(spec)
        assert [(r.id, r.label, r.split) for r in data.records] == [
            ("1.png", 0, "train"),
            ("2.png", 1, "train"),
            ("3.png", 0, "test"),
        ]


@pytest.mark.parametrize("letter", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"])
def test_only_line_ends_end_lines(tmp_path: Path, letter: str) -> None:
    text = f'image,label\n1.png,great{letter}tit\n2.png,"great{letter}\ntit"\n3{letter}.png,wren\n'
    write(tmp_path, text, "1.png", "2.png", f"3{letter}.png")
    with pytest.warns(UserWarning, match="names that look alike"):
        data = CsvFolder(tmp_path)
    assert set(data.classes) == {f"great{letter}tit", f"great{letter}\ntit", "wren"}
    assert data.records[2].id == f"3{letter}.png"


def test_excels_own_line_names_the_separator(tmp_path: Path) -> None:
    write(tmp_path, "sep=;\r\nimage;label\r\n1.png;a, or c\r\n2.png;b\r\n", "1.png", "2.png")
    data = open_dataset(tmp_path)
    assert data.classes == ("a, or c", "b")
    with pytest.raises(DataError, match=r"labels\.csv, line 4: must have 2 columns"):
        CsvFolder(write(tmp_path, "sep=;\nimage;label\n1.png;a\n2.png\n"))


@pytest.mark.parametrize(
    "header",
    ["id,label", "filepath,labels", "Image Path,class-name", "filename,category", "file_name,id,label", "img,breed"],
)
def test_other_usual_names_of_columns(tmp_path: Path, header: str) -> None:
    columns = header.split(",")
    image = next((c for c in columns if c != "id" and ("file" in c or "im" in c.lower())), "id")
    rows = [
        ",".join(name if c == image else "9" if c == "id" else label for c in columns)
        for name, label in (("1.png", "x"), ("2.png", "y"))
    ]
    write(tmp_path, "\n".join([header, *rows]), "1.png", "2.png")
    assert [(r.id, r.label) for r in open_dataset(tmp_path).records] == [("1.png", 0), ("2.png", 1)]


@pytest.mark.parametrize("column", ["split", "set", "Data Set", "subset", "Usage"])
def test_a_column_of_splits_under_other_names(tmp_path: Path, column: str) -> None:
    text = f"image,label,{column}\n1.png,a,Training\n2.png,b,training\n3.png,a,TESTING\n4.png,b,test\n"
    write(tmp_path, text, *(f"{k}.png" for k in range(1, 5)))
    assert [r.split for r in CsvFolder(tmp_path).records] == ["train", "train", "test", "test"]


def test_a_column_that_only_sounds_like_splits_is_ignored(tmp_path: Path) -> None:
    write(tmp_path, "image,label,set\n1.png,a,train\n2.png,b,autumn\n", "1.png", "2.png")
    assert [r.split for r in CsvFolder(tmp_path).records] == ["train", "train"]


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("id,label\n1,a\n2,b\n", r"2 of the listed pictures are missing .*: 1, 2\. There is 1\.png: write paths below"),
        ("id,label\ntrain/1,a\n", r"There is 1\.png"),
        ("image,label\n5.png,a\n", r"There is sub/5\.png"),
        ("image,label\nsub\\5.png,a\n", r"There is sub/5\.png: .* with / and the extension"),
        ("image,label\nsub\\1.png,a\n", r"There is sub/1\.png"),
        ("image,label\n77.png,a\n", r"77\.png\. Add them\."),
        (
            "1.png,a\n2.png,b\n",
            r"got none in \['1\.png', 'a'\]\. It names a picture: add a line above it, such as image",
        ),
        ("id,weight\n1,a\n", r"must name one column label or class; got none in \['id', 'weight'\]"),
        ("a;b;c\n1;2;3\n", r"must name one column image or .*; got none in \['a', 'b', 'c'\]"),
    ],
)
def test_tables_that_almost_fit_say_what_is_missing(tmp_path: Path, text: str, advice: str) -> None:
    write(tmp_path, text, "1.png", "2.png", "sub/5.png", "sub/1.png")
    for opened in (lambda: CsvFolder(tmp_path), lambda: open_dataset(tmp_path)):
        with pytest.raises(DataError, match=advice):
            opened()


def test_opening_looks_at_each_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = "a/b/c/d"
    names = [f"{folder}/{k}.png" for k in range(40)]
    (tmp_path / folder).mkdir(parents=True)
    for name in names:
        (tmp_path / name).touch()
    write(tmp_path, "image,label\n" + "".join(f"{name},{k % 2}\n" for k, name in enumerate(names)))
    looks = 0

    def counted(real: Callable[..., object]) -> Callable[..., object]:
        def look(*args: object, **kwargs: object) -> object:
            nonlocal looks
            looks += 1
            return real(*args, **kwargs)

        return look

    for name in ("lstat", "stat", "readlink"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    assert len(CsvFolder(tmp_path).records) == 40
    assert looks < 40 + 60, "one for each file; the folders above once"


@settings(max_examples=60)
@given(
    labels=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), min_size=4, max_size=4),
    separator=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_what_csv_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory, labels: list[str], separator: str, encoding: str, quoting: Any
) -> None:
    root = tmp_path_factory.mktemp("table")
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=separator, quoting=quoting)
    writer.writerow(["image", "label", "split"])
    for k, label in enumerate((*labels, "x", "y")):
        (root / f"{k}.png").touch()
        writer.writerow([f"{k}.png", label, "train"])
    (root / "t.csv").write_bytes(text.getvalue().encode(encoding))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = CsvFolder(root)
    found = {r.id: data.classes[r.label] for r in data.records}
    assert found == {f"{k}.png": label.strip() for k, label in enumerate((*labels, "x", "y")) if label.strip()}
    assert set(data.skipped) == {f"{k}.png" for k, label in enumerate(labels) if not label.strip()}


def test_a_column_that_looks_like_a_split_and_is_not_read_is_told(tmp_path: Path) -> None:
    lines = ["image,label,is_train"]
    for k in range(6):
        Image.new("RGB", (8, 8), (k, 0, 0)).save(tmp_path / f"{k}.png")
        lines.append(f"{k}.png,{'ab'[k % 2]},{int(k < 4)}")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    with pytest.warns(UserWarning, match="the column 'is_train' is not read"):
        CsvFolder(tmp_path / "t.csv")
