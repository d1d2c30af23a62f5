"""What every reader of ``carrot.data`` owes: one battery of situations.

A subclass passes it by writing pictures in its format.

A user's own data (folder, table, torchvision, Hugging Face) may be a little wrong: a picture that can't be used is
**set aside** by name, with one warning, and the rest is read as if it weren't there. In an official data set the same
means a damaged archive: it is **refused**. What would change the meaning of a model without a word is refused by all.
"""

import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
from PIL import Image

from carrot.classifier.records import PictureFinder, TrainingRecord, training_records
from carrot.data import ImageDataset
from carrot.data.inputs import content_sha256
from carrot.errors import DataError, UnreadableImageError

WIDTH, HEIGHT = 24, 30


def png(number: int) -> bytes:
    """One colour a picture: as many as there are numbers below 256."""
    out = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), (number, 255 - number, 7)).save(out, "PNG")
    return out.getvalue()


HEIC = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(64)
DAMAGED = b"\x89PNG\r\n\x1a\n" + bytes(8)


@dataclass(frozen=True)
class Picture:
    """One picture; ``label`` None: it has none; ``extension`` where the format lets a file have one of its own."""

    name: str
    split: str
    label: str | None
    content: bytes = b""
    extension: str = ".png"


@dataclass(frozen=True)
class World:
    """Pictures, and the classes that the format declares, if it does."""

    classes: tuple[str, ...]
    pictures: tuple[Picture, ...]

    def having(self, *more: Picture) -> "World":
        """Return the same with more pictures."""
        return replace(self, pictures=(*self.pictures, *more))

    def side(self, split: str) -> list[Picture]:
        """Return the pictures of one side."""
        return [picture for picture in self.pictures if picture.split == split]


def world(*classes: str, trained: int = 2, tested: int = 1) -> World:
    """Return a sound world: so many pictures of each class on each side."""
    sides = ["train"] * trained + ["test"] * tested
    pictures = [
        Picture(f"p{10 * label + k}", side, name, png(10 * label + k))
        for label, name in enumerate(classes)
        for k, side in enumerate(sides)
    ]
    return World(classes, tuple(pictures))


SOUND = world("cat", "dog")
TWINS = [("Cat", "cat"), ("caf\u00e9", "cafe\u0301"), ("m\u00b2", "m2")]
LINE_ENDS = ("\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e")
DIGITS = ("\u0663", "\u00b2", "7", "class 10", "class 2", "\u0967\u0968")


class ReaderContract:
    """Inherit it, give ``kind``, ``official``, ``open``, and in ``cannot`` what the format can't express, and why."""

    kind: ClassVar[str]
    official: ClassVar[bool]
    judges_files: ClassVar[bool] = False  # by name and first bytes, when the data set is opened
    cannot: ClassVar[dict[str, str]] = {}

    def open(self, root: Path, given: World, patch: pytest.MonkeyPatch) -> ImageDataset:
        """Write the world in the reader's format, and open it."""
        raise NotImplementedError

    def id_of(self, given: World, picture: Picture) -> str:
        """Return what the reader calls a picture."""
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def _can_be_expressed(self, request: pytest.FixtureRequest) -> None:
        reason = self.cannot.get(request.node.originalname.removeprefix("test_"))
        if reason:
            pytest.skip(f"{self.kind}: {reason}")

    @pytest.fixture
    def opened(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[World], ImageDataset]:
        """Open a world, warnings being errors as everywhere."""
        return lambda given: self.open(tmp_path, given, monkeypatch)

    def holds(self, found: ImageDataset, given: World) -> None:
        """Check that a data set has just the pictures of a world, each with its class and on its side."""
        records = {record.id: (found.classes[record.label], record.split) for record in found.records}
        assert len(records) == len(found.records)
        assert records == {self.id_of(given, picture): (picture.label, picture.split) for picture in given.pictures}

    def set_aside(
        self, opened: Callable[[World], ImageDataset], given: World, *wrong: Picture, reason: str = ""
    ) -> None:
        """Check that the pictures ``wrong`` of a world are told by name and the others read; or that all is refused."""
        if self.official:
            with pytest.raises(DataError):
                opened(given)
            return
        with pytest.warns(UserWarning, match=rf"{len(wrong)} set aside \(see \.skipped\).*{reason}") as caught:
            found = opened(given)
        assert len(caught) == 1
        ids = {self.id_of(given, picture) for picture in wrong}
        assert set(found.skipped) == ids  # type: ignore[attr-defined]
        assert all(re.search(reason, why) for why in found.skipped.values())  # type: ignore[attr-defined]
        records = {record.id: (found.classes[record.label], record.split) for record in found.records}
        assert records == {
            self.id_of(given, picture): (picture.label, picture.split)
            for picture in given.pictures
            if picture not in wrong
        }

    def test_a_sound_data_set(self, opened: Callable[[World], ImageDataset]) -> None:
        found = opened(SOUND)
        self.holds(found, SOUND)
        assert found.image(0).mode == "RGB"
        assert not getattr(found, "skipped", {})

    def test_a_picture_is_found_again(self, opened: Callable[[World], ImageDataset]) -> None:
        """A fitted model has no data set at hand: from a record's own file comes what the data set shows, no more."""
        found = opened(SOUND)
        digests = [content_sha256(r, found.image(i)) for i, r in enumerate(found.records)]
        kept = training_records(found, range(len(digests)), digests, [1.0] * len(digests))
        for i, record in enumerate(kept):
            again = TrainingRecord.from_json(json.loads(json.dumps(record.to_json())))
            for finder in (PictureFinder(None), PictureFinder(found), PictureFinder(None, lambda: found)):
                if record.path is None and finder._dataset is None and finder._reopen is None:
                    continue
                image = finder(again)
                assert not isinstance(image, str), image
                assert (image.size, image.tobytes()) == (found.image(i).size, found.image(i).tobytes())

    @pytest.mark.parametrize("split", ["train", "test"])
    def test_a_missing_label(self, opened: Callable[[World], ImageDataset], split: str) -> None:
        wrong = Picture("p90", split, None, png(90))
        self.set_aside(opened, SOUND.having(wrong), wrong, reason="has no label|not in a class folder")

    @pytest.mark.parametrize("split", ["train", "test"])
    def test_a_label_that_is_no_class(self, opened: Callable[[World], ImageDataset], split: str) -> None:
        wrong = Picture("p90", split, "wolf", png(90))
        self.set_aside(opened, SOUND.having(wrong), wrong, reason="none of the 2 classes|has no training picture")

    def test_an_extra_class_in_test(self, opened: Callable[[World], ImageDataset]) -> None:
        wrong = (Picture("p90", "test", "wolf", png(90)), Picture("p91", "test", "wolf", png(91)))
        self.set_aside(opened, SOUND.having(*wrong), *wrong, reason="none of the 2 classes|has no training picture")

    def test_a_class_without_test_pictures(self, opened: Callable[[World], ImageDataset]) -> None:
        pictures = tuple(p for p in SOUND.pictures if (p.split, p.label) != ("test", "dog"))
        given = replace(SOUND, pictures=pictures)
        self.holds(opened(given), given)

    def test_a_class_that_is_in_test_only(self, opened: Callable[[World], ImageDataset]) -> None:
        given = World((*SOUND.classes, "wolf"), (*SOUND.pictures, Picture("p90", "test", "wolf", png(90))))
        with pytest.raises(DataError, match="wolf"):
            opened(given)

    def test_an_empty_class(self, opened: Callable[[World], ImageDataset]) -> None:
        with pytest.raises(DataError, match="wolf"):
            opened(World((*SOUND.classes, "wolf"), SOUND.pictures))

    def test_no_pictures(self, opened: Callable[[World], ImageDataset]) -> None:
        with pytest.raises(DataError):
            opened(World(SOUND.classes, ()))

    @pytest.mark.parametrize("names", TWINS, ids=["case", "accent", "width"])
    def test_twin_names(self, opened: Callable[[World], ImageDataset], names: tuple[str, str]) -> None:
        given = world("dog", *names)
        with pytest.warns(UserWarning, match="names that look alike are classes of their own") as caught:
            found = opened(given)
        assert len(caught) == 1
        shown = str(caught[0].message)
        assert all(repr(name) in shown or ascii(name) in shown for name in names)
        self.holds(found, given)

    def test_a_class_called_nan(self, opened: Callable[[World], ImageDataset]) -> None:
        given = world("dog", "nan")
        with pytest.warns(UserWarning, match="'nan': a class, though it reads like a missing value"):
            found = opened(given)
        self.holds(found, given)

    def test_digits_of_other_scripts(self, opened: Callable[[World], ImageDataset]) -> None:
        given = world(*DIGITS)
        self.holds(opened(given), given)

    def test_letters_that_are_taken_for_line_ends(self, opened: Callable[[World], ImageDataset]) -> None:
        given = world(*(f"{word}{letter}tit" for word, letter in zip("abcdefgh", LINE_ENDS, strict=True)))
        self.holds(opened(given), given)

    def test_two_classes_of_one_name(self, opened: Callable[[World], ImageDataset]) -> None:
        with pytest.raises(DataError, match="the same as|second time"):
            opened(World((*SOUND.classes, "cat"), SOUND.pictures))

    def test_a_picture_on_both_sides(self, opened: Callable[[World], ImageDataset]) -> None:
        again = replace(SOUND.pictures[0], split="test")
        with pytest.raises(DataError, match="second time|is in trnid and in|is the same as|mean the same"):
            opened(SOUND.having(again))

    def test_a_format_that_is_not_read(self, opened: Callable[[World], ImageDataset]) -> None:
        wrong = Picture("p90", "train", "cat", HEIC, ".heic")
        given = SOUND.having(wrong)
        if self.judges_files:
            self.set_aside(opened, given, wrong, reason="HEIC is a format that isn't read: convert it")
        else:
            self.unreadable(opened(given), given, wrong)

    def test_a_damaged_picture(self, opened: Callable[[World], ImageDataset]) -> None:
        for place in (0, len(SOUND.pictures) - 1):  # the ends are looked at by some
            wrong = replace(SOUND.pictures[place], content=DAMAGED)
            given = replace(SOUND, pictures=(*SOUND.pictures[:place], wrong, *SOUND.pictures[place + 1 :]))
            self.unreadable(opened(given), given, wrong)

    def unreadable(self, found: ImageDataset, given: World, wrong: Picture) -> None:
        """Check that a picture is among the records, and is set aside by name when it is read; the others are sound."""
        self.holds(found, given)
        for index, record in enumerate(found.records):
            if record.id == self.id_of(given, wrong):
                with pytest.raises(UnreadableImageError, match=re.escape(Path(record.id).name)):
                    found.image(index)
            else:
                assert found.image(index).mode == "RGB"
