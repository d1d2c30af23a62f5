"""WebDataset and Parquet shards: what is told of each way in which they can be wrong, and what is left alone."""

import hashlib
import io
import json
import os
import pickle
import tarfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from carrot import Carrot
from carrot.data import ImageDataset, WebDataset, open_dataset, require_place, split_indices
from carrot.data.inputs import content_sha256
from carrot.data.opening import resolved
from carrot.data.patterns import expand
from carrot.data.records import Subset, contents_of
from carrot.embedding.filling import pictures_state
from carrot.errors import DataError, UnreadableImageError
from tests.unit.reader_contract import png

pytestmark = pytest.mark.usefixtures("as_user")


def write(file: Path, members: Sequence[tuple[str, bytes]], kind: int = tarfile.PAX_FORMAT) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w", format=kind) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file


def samples(n: int, first: int = 0, classes: int = 2) -> list[tuple[str, bytes]]:
    return [
        member
        for i in range(first, first + n)
        for member in ((f"{i:04d}.png", png(i)), (f"{i:04d}.cls", str(i % classes).encode()))
    ]


def shards(root: Path, n: int = 3) -> Path:
    for shard in range(n):
        write(root / f"shard-{shard:06d}.tar", samples(10, 10 * shard))
    return root


def aside(spec: object, match: str) -> ImageDataset:
    with pytest.warns(UserWarning, match=match):
        return open_dataset(str(spec))


def test_braces() -> None:
    assert expand("a-{08..11}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]
    assert expand("{train-{0..1},val-{00..00}}/x") == ["train-0/x", "train-1/x", "val-00/x"]
    assert expand("plain") == ["plain"]
    for wrong, message in (
        ("a{0..", "a brace is open"),
        ("a{x}", "neither a range nor a list"),
        ("a{3..1}", "must count up"),
        ("{0..9999}{0..9999}", "more than 1,000,000 shards"),
    ):
        with pytest.raises(DataError, match=message):
            expand(wrong)


def test_every_way_to_name_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = shards(tmp_path / "birds")
    found = open_dataset(root)
    assert isinstance(found, WebDataset)
    assert (found.name, found.classes, found.split_is_own) == ("birds", ("0", "1"), False)
    assert len(found.records) == 30
    tested = [found.records[i].id for i in split_indices(found, "test")]
    assert tested == [f"shard-00000{i // 10}.tar/{i:04d}.png" for i in (8, 9, 18, 19, 28, 29)]  # every fifth of a class
    for i, record in enumerate(found.records):
        number = int(record.id[-8:-4])
        assert record.label == number % 2
        assert found.image(i).getpixel((0, 0)) == (number, 255 - number, 7)
        assert content_sha256(record) == hashlib.sha256(png(number)).hexdigest()  # the same picture as in a folder
    index = root / "index.json"
    listed = [{"url": f"shard-{i:06d}.tar", "nsamples": 10} for i in range(3)]
    index.write_text(json.dumps({"wids_version": 1, "shardlist": listed}))
    monkeypatch.chdir(root)
    for spec in ("wds:shard-{000000..000002}.tar", "wds:*.tar", f"wds:{index}", f"wds:{root}#label=cls", "wds:."):
        assert open_dataset(spec).records == found.records
    assert require_place("wds:shard-{000000..000002}.tar") == f"wds:{root}/shard-{{000000..000002}}.tar"
    assert len(open_dataset("shard-000000.tar").records) == 10
    listed[0]["nsamples"] = 11
    index.write_text(json.dumps({"shardlist": listed}))
    aside(f"wds:{index}", r"shard-000000\.tar \(its index\): says 11 samples; it holds 10")
    index.write_text("[]")
    with pytest.raises(DataError, match=r"index\.json: is no index of wids"):
        open_dataset(f"wds:{index}")


def test_a_large_data_set_travels_as_columns(tmp_path: Path) -> None:
    found = open_dataset(shards(tmp_path))
    found.image(0)  # a file is open
    part = Subset(found, [3, 29, 3])
    for data in (found, part):
        again = pickle.loads(pickle.dumps(data))  # noqa: S301 (our own bytes)
        assert list(again.records) == list(data.records)
        assert again.image(1).tobytes() == data.image(1).tobytes()
    assert [record.id for record in part.records] == [found.records[i].id for i in (3, 29, 3)]
    assert split_indices(part, "test") == [i for i, record in enumerate(part.records) if record.split == "test"]
    with pytest.raises(IndexError):
        Subset(found, [30])
    assert contents_of(part) == contents_of(found)


def test_a_shard_that_was_replaced_is_noticed(tmp_path: Path) -> None:
    def transform(image: object) -> torch.Tensor:
        return torch.zeros(3, 2, 2)

    data = open_dataset(shards(tmp_path))
    before = pictures_state(data, transform)
    assert pictures_state(Subset(data, range(30)), transform) == before
    os.utime(tmp_path / "shard-000001.tar", (0, 0))
    assert pictures_state(open_dataset(tmp_path), transform) == before  # only contents count
    members = samples(10, 10)
    members[4] = (members[4][0], png(99))  # as many bytes, as many members
    write(tmp_path / "shard-000001.tar", members)
    assert pictures_state(open_dataset(tmp_path), transform) != before


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_of_every_length(tmp_path: Path, kind: int) -> None:
    stem = "/".join(["n" * 60] * (2 if kind == tarfile.USTAR_FORMAT else 5))
    names = [f"{stem}/b\u00e4r", "a", f"{stem}x"]
    members = [m for i, n in enumerate(names * 1) for m in ((f"{n}.png", png(i)), (f"{n}.cls", str(i % 2).encode()))]
    found = open_dataset(write(tmp_path / "train.tar", members, kind), for_testing=True)
    assert [record.id for record in found.records] == [f"train.tar/{name}.png" for name in names]
    assert [found.image(i).getpixel((0, 0))[0] for i in range(3)] == [0, 1, 2]


def test_a_tar_cut_anywhere_gives_what_is_whole(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.tar", samples(4)).read_bytes()
    used = 4 * 4 * 512  # of headers and contents, one block each; then two blocks of zeros, and padding
    cut = tmp_path / "cut" / "a-000000.tar"
    write(tmp_path / "cut" / "a-000001.tar", samples(4, 10))
    for length in [*range(0, used, 357), used - 1]:
        cut.write_bytes(whole[:length])
        found = aside(tmp_path / "cut", r"a-000000\.tar")
        assert "cut short" in found.skipped["a-000000.tar"]  # type: ignore[attr-defined]
        assert len(found.records) == 4 + len(range(1537, length + 1, 2048))  # whose label is there
        assert all(found.image(i).mode == "RGB" for i in range(len(found.records)))


def test_a_damaged_header(tmp_path: Path) -> None:
    write(tmp_path / "a-000001.tar", samples(4, 10))
    damaged = bytearray(write(tmp_path / "a-000000.tar", samples(4)).read_bytes())
    damaged[2 * 2048 + 3] ^= 1  # a letter of the third sample's name: only the checksum tells
    (tmp_path / "a-000000.tar").write_bytes(damaged)
    found = aside(tmp_path, r"a-000000\.tar: it is damaged, or no tar: header 5 of")
    assert len(found.records) == 6


def test_shards_that_are_none(tmp_path: Path) -> None:
    shards(tmp_path, 4)
    (tmp_path / "shard-000001.tar").write_bytes(b"")
    (tmp_path / "shard-000002.tar").write_bytes(bytes(10240))
    write(tmp_path / "shard-000004.tar", [])
    (tmp_path / "shard-000005.tar").write_bytes(b"\x1f\x8b" + bytes(600))
    (tmp_path / "shard-000006.tar").write_bytes(b"no tar at all" * 100)
    found = aside(tmp_path, "5 set aside")
    reasons = {name[-5]: reason for name, reason in found.skipped.items()}  # type: ignore[attr-defined]
    assert "cut short" in reasons["1"]
    assert reasons["2"] == reasons["4"] == "it holds no samples"
    assert "gunzip" in reasons["5"]
    assert "damaged, or no tar" in reasons["6"]
    assert len(found.records) == 20


def test_gaps_in_the_numbers(tmp_path: Path) -> None:
    shards(tmp_path, 5)
    for lost in (1, 3):
        (tmp_path / f"shard-00000{lost}.tar").unlink()
    aside(tmp_path, r"of shard-0 to 4 2 shards are missing: 1, 3\. If they should be there")
    found = aside(f"wds:{tmp_path}/shard-{{000000..000005}}.tar", "there is no such shard")
    assert len(found.skipped) == 3  # type: ignore[attr-defined]
    with pytest.raises(DataError, match=r"there are no such \.tar files"):
        open_dataset(f"wds:{tmp_path}/other-{{0..3}}.tar")
    write(tmp_path / "p" / "train-00001-of-00003.tar", samples(10))
    aside(tmp_path / "p", "of train-0 to 2 2 shards are missing: 0, 2")


def test_samples_that_are_a_little_wrong(tmp_path: Path) -> None:
    members = [
        *samples(4),
        ("0010.cls", b"1"),
        ("0011.png", png(11)),
        ("0012.png", png(12)),
        ("0012.cls", b"\xff\xfe"),
        ("0013.png", png(13)),
        ("0013.cls", b"1"),
        ("0013.png", png(14)),
        ("0013.cls", b"0"),  # of the second picture of this name, not of the first
        ("0014.cls", b"0"),
        ("0014.png", png(15)),  # the label first
        ("__meta__.json", b"{}"),
        ("readme", b"no ending"),
    ]
    file = write(tmp_path / "a.tar", members)
    with tarfile.open(file, "a") as tar:
        link = tarfile.TarInfo("0015.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    found = aside(file, "6 set aside")
    assert found.skipped == {  # type: ignore[attr-defined]
        "a.tar/0010": "a sample without a picture",
        "a.tar/0013.png (again)": "a second file of one sample with one ending: the first is used",
        "a.tar/0013.cls (again)": "a second file of one sample with one ending: the first is used",
        "a.tar/0015.png": "a link or a special file, not followed",
        "a.tar/0011.png": "it has no label",
        "a.tar/0012.png": "it has no label",
    }
    assert [record.id[-8:-4] for record in found.records if record.split == "train"] == [
        *("0000", "0001", "0002", "0003", "0013", "0014")
    ]
    assert found.image(4).getpixel((0, 0))[0] == 13
    assert found.classes[found.records[4].label] == "1"


def test_a_file_with_holes_is_set_aside_under_its_own_name(tmp_path: Path) -> None:
    """As GNU tar writes it with ``--sparse --format=posix``: its path is made up, its bytes begin with a map."""
    file = write(tmp_path / "a.tar", samples(4))
    with tarfile.open(file, "a", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("./GNUSparseFile.7/0009.png")
        info.size = 1024
        info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "0009.png"}
        tar.addfile(info, io.BytesIO(b"1\n0\n512\n".ljust(1024, b"\0")))
        tar.addfile(tarfile.TarInfo("0009.cls"))
    found = aside(file, "1 set aside")
    assert found.skipped == {"a.tar/0009.png": "a link or a special file, not followed"}  # type: ignore[attr-defined]


def test_long_attributes_beside_a_name_are_no_damage(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tar", samples(4))
    with tarfile.open(file, "a", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("0009.png")
        info.size, info.pax_headers = len(png(9)), {"SCHILY.xattr.user.note": "x" * 70_000}
        tar.addfile(info, io.BytesIO(png(9)))
        tar.addfile(tarfile.TarInfo("0009.cls"))
    assert "0009.png" in str(aside(file, "1 set aside").skipped)  # type: ignore[attr-defined]


@pytest.mark.parametrize("text", ["cat\ndog\n\n", "cat\r\ndog\r\n \r\n", "cat\ndog"])
def test_blank_lines_after_the_names_of_classes_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "classnames.txt").write_bytes(text.encode())
    write(tmp_path / "train-0.tar", samples(4))
    assert open_dataset(tmp_path).classes == ("cat", "dog")


def test_what_would_be_unpickled_is_left_alone_and_told(tmp_path: Path) -> None:
    bomb = b"cos\nsystem\n(S'touch ran'\ntR."
    members = [*samples(4), *((f"{i:04d}.pyd", bomb) for i in range(4)), ("0000.pth", bomb)]
    aside(write(tmp_path / "a.tar", members), r"4 \.pyd, 1 \.pth are not read: unpickling may run anything")
    members = [*samples(4), *((f"{i:04d}.seg.png", png(200 + i)) for i in range(4))]
    found = aside(write(tmp_path / "b.tar", members), r"several pictures; one is read of each, and not 4 \.seg\.png")
    assert found.image(0).getpixel((0, 0))[0] == 0


def test_keys_that_come_again(tmp_path: Path) -> None:
    write(tmp_path / "train-0.tar", samples(4))
    write(tmp_path / "test-0.tar", samples(4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # test keys may be those of training: CLIP benchmark numbers both from 0
        assert len(open_dataset(tmp_path).records) == 8
    write(tmp_path / "train-1.tar", samples(2))
    assert len(aside(tmp_path, "2 keys are in several shards").records) == 10


def test_where_labels_are(tmp_path: Path) -> None:
    def of(name: str, **said: object) -> list[tuple[str, bytes]]:
        return [(f"{name}.png", png(1)), (f"{name}.json", json.dumps(said).encode()), (f"{name}.txt", name.encode())]

    file = write(tmp_path / "a.tar", [*of("x/1", a={"b": "one"}, n=1.0), *of("y/2", a={"b": "two"}, n=2)])
    with pytest.raises(DataError, match=r"look like captions|has no labels"):
        open_dataset(write(tmp_path / "c.tar", [*of("1", key=1), *of("2", key=2), *of("3", key=3)]))
    for label, classes in (
        ("json:a.b", ("one", "two")),
        ("json:n", ("1", "2")),
        ("folder", ("x", "y")),
        ("txt", ("x/1", "y/2")),
    ):
        assert open_dataset(f"wds:{file}#label={label}").classes == classes
    with pytest.raises(DataError, match=r"has no labelled picture\. 2 are left out; the first: it has no label"):
        open_dataset(f"wds:{file}#label=json:none")
    with pytest.raises(DataError, match=r"image=x is no option of such shards\. Known are #label=\.\.\."):
        open_dataset(f"wds:{file}#image=x")
    with pytest.raises(DataError, match=r"has \.png; .*|has no labels that are known: a sample has \.png"):
        open_dataset(write(tmp_path / "d.tar", [("1.png", png(1))]))


def test_shards_for_testing_alone(tmp_path: Path) -> None:
    write(tmp_path / "val-0.tar", samples(4))
    with pytest.raises(DataError, match="has no shards for training; got val"):
        open_dataset(tmp_path)
    found = open_dataset(tmp_path, for_testing=True)
    assert {record.split for record in found.records} == {"test"}
    write(tmp_path / "train-0.tar", samples(4, 10))
    write(tmp_path / "test-0.tar", samples(4, 20))
    write(tmp_path / "extra-0.tar", samples(4, 30))
    found = aside(tmp_path, "2 set aside")
    assert found.skipped == {  # type: ignore[attr-defined]
        "val": "a split beside a test split",
        "extra-0.tar": "says no split, beside others that do",
    }


def test_a_picture_that_is_too_large_or_gone(tmp_path: Path) -> None:
    found = open_dataset(shards(tmp_path, 2))
    found._sizes[0] = 1 << 31  # type: ignore[attr-defined]
    with pytest.raises(UnreadableImageError, match=r"0000\.png: is not read: 2,147,483,648 bytes, and the limit is"):
        found.image(0)
    (tmp_path / "shard-000001.tar").unlink()
    with pytest.raises(UnreadableImageError, match=r"0010\.png: can't be read: there is no such file"):
        found.image([record.id for record in found.records].index("shard-000001.tar/0010.png"))


def parquet_files(root: Path, **columns: list[object]) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    root.mkdir(parents=True, exist_ok=True)
    for shard in range(2):
        table = arrow.table({name: values[shard::2] for name, values in columns.items()})
        parquet.write_table(table, root / f"part-{shard:05d}-of-00002.parquet", row_group_size=7)


def test_parquet_in_any_order(tmp_path: Path) -> None:
    n = 100
    parquet_files(tmp_path, image=[png(i) for i in range(n)], label=[i // 50 for i in range(n)])
    found = open_dataset(tmp_path)
    for i in [*np.random.default_rng(0).permutation(n).tolist(), *range(n)]:
        name = found.records[i].id
        number = 2 * int(name[-7:]) + int(name[9])
        assert found.image(i).getpixel((0, 0))[0] == number
        assert found.records[i].label == number // 50
    assert pickle.loads(pickle.dumps(found)).image(3).tobytes() == found.image(3).tobytes()  # noqa: S301


def test_columns_of_parquet(tmp_path: Path) -> None:
    one = {"photo": [png(i) for i in range(20)], "mask": [png(200)] * 20, "kind": ["a", "b"] * 10}
    parquet_files(tmp_path / "x", **one)
    with pytest.raises(DataError, match=r"has no one column of labels; got .*#image=COLUMN&label=COLUMN"):
        open_dataset(tmp_path / "x")
    found = open_dataset(f"parquet:{tmp_path / 'x'}#label=kind&image=mask")
    assert found.image(0).getpixel((0, 0))[0] == 200
    with pytest.raises(DataError, match="has no such column 'none'"):
        open_dataset(f"parquet:{tmp_path / 'x'}#label=none")
    sides = ["train", "train", "test", "test", "train"] * 4
    parquet_files(tmp_path / "y", image=one["photo"], label=[0, 0, 0, 1, 1, 1] * 3 + [0, 1], split=sides)
    assert len(split_indices(open_dataset(tmp_path / "y"), "test")) == 8
    (tmp_path / "y" / "part-00001-of-00002.parquet").write_bytes(b"PAR1 no more")
    assert "it can't be read" in str(aside(tmp_path / "y", "1 set aside").skipped)  # type: ignore[attr-defined]
    paths = [{"bytes": None, "path": "/etc/passwd"}] * 20
    parquet_files(tmp_path / "z", image=paths, label=[0, 0, 1, 1] * 5)
    with pytest.raises(UnreadableImageError, match=r"its bytes are elsewhere, in '/etc/passwd': put them"):
        open_dataset(tmp_path / "z").image(0)


@pytest.mark.parametrize(
    ("spec", "kept"),
    [
        ("wds:https://me:secret@a.b/x-{0..3}.tar?sig=secret#label=cls", "wds:https://a.b/x-{0..3}.tar#label=cls"),
        ("s3://key:secret@bucket/folder", "s3://bucket/folder"),
        ("object:csv:s3://bucket/t.csv?token=secret", "object:csv:s3://bucket/t.csv"),
        ("hf://datasets/a/b/data/*.parquet", "hf://datasets/a/b/data/*.parquet"),
    ],
)
def test_keys_are_not_kept(spec: str, kept: str) -> None:
    assert resolved(spec) == kept
    with pytest.raises(DataError) as caught:
        open_dataset(spec.replace("https", "foo").replace("s3", "foo").replace("hf", "foo"))
    assert "secret" not in str(caught.value)


def test_one_model_whatever_the_layout(tmp_path: Path) -> None:
    """The same pictures in a folder, in tars and in Parquet: the same embeddings to the bit, and the same SHA-256."""
    names = ["cat", "dog"]
    pictures = [(f"{i:04d}", names[i % 2], png(20 * i)) for i in range(8)]
    for name, label, content in pictures:
        file = tmp_path / "folder" / "train" / label / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        (tmp_path / "folder" / "test" / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / "test" / label / "t.png").write_bytes(png(200))
    members = [m for n, label, c in pictures for m in ((f"{n}.png", c), (f"{n}.cls", label.encode()))]
    bad = [("bad.png", b"\x89PNG\r\n\x1a\n damaged"), ("bad.cls", b"cat")]
    write(tmp_path / "wds" / "train-0.tar", [*members, *bad])
    write(tmp_path / "wds" / "test-0.tar", [("t.png", png(200)), ("t.cls", b"cat")])
    sides = {"image": [c for _, _, c in pictures], "label": [label for _, label, _ in pictures]}
    parquet_files(tmp_path / "parquet", **sides, split=["train"] * 8)
    found = {}
    for kind in ("folder", "wds", "parquet"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the picture that can't be read is said by the model
            data = open_dataset(tmp_path / kind)
            if kind == "parquet":  # without a test side: all of it
                data = Subset(data, sorted(range(8), key=lambda i: data.records[i].id[-7:] + data.records[i].id[:10]))
            model = Carrot("toy", regions="tiles:2").fit(data, tokens=str(tmp_path / f"tokens {kind}"))
        found[kind] = {record.sha256: row for record, row in zip(model.records_, model.fitted.head.G, strict=True)}
    keys = {hashlib.sha256(content).hexdigest() for _, _, content in pictures}
    assert set(found["folder"]) == set(found["wds"]) == keys >= set(found["parquet"])
    for kind in ("wds", "parquet"):
        assert all(torch.equal(row, found["folder"][key]) for key, row in found[kind].items())
