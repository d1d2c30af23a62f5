"""A folder of pictures as people have them: what can be read is, what can't is named, and the run goes on."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from carrot import Carrot, cli
from carrot.data.toy import ToyBirds

BIRDS = ToyBirds(n_train_per_class=12, n_test_per_class=0, n_species=2)


def huge_png(path: Path, width: int, height: int) -> None:
    """A PNG whose header promises more pixels than anybody has memory for."""
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    )


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    root = tmp_path / "zoo"
    for i, record in enumerate(BIRDS.records):
        folder = root / f"class {record.label} é"
        folder.mkdir(parents=True, exist_ok=True)
        BIRDS.image(i).save(folder / f"{i:02d}.png")
    good, bird = root / "class 0 é", BIRDS.image(0)
    bird.convert("CMYK").save(good / "a_cmyk.jpg")
    bird.convert("P").save(good / "a_palette.gif")
    bird.convert("L").save(good / "a_grey.png")
    bird.convert("LA").save(good / "a_grey_alpha.png")
    Image.fromarray(np.asarray(bird.convert("L")).astype(np.uint16) * 257).save(good / "a_16bit.png")
    bird.convert("RGBA").save(good / "a_alpha.webp")
    exif = Image.Exif()
    exif[0x0112] = 6
    bird.transpose(Image.Transpose.ROTATE_90).save(good / "a_rotated.jpg", exif=exif, quality=95)
    bird.resize((1, 1)).save(good / "a_1x1.png")
    bird.resize((3000, 10)).save(good / "a_long.png")
    (good / "z_empty.jpg").write_bytes(b"")
    (good / "z_text.png").write_text("I am no picture")
    whole = (good / "00.png").read_bytes()
    (good / "z_cut.png").write_bytes(whole[: len(whole) // 2])
    Image.new("F", (20, 20)).save(good / "z_float.tiff")
    huge_png(good / "z_bomb.png", 60_000, 60_000)
    (good / "notes.txt").write_text("not looked at")
    return root


BAD = {"z_empty.jpg", "z_text.png", "z_cut.png", "z_float.tiff", "z_bomb.png"}


def test_the_run_goes_on_and_every_bad_picture_is_named(
    zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    every = {path.name for path in zoo.rglob("*") if path.is_file() and path.suffix != ".txt"}
    # one folder of its own for training, so that each picture is looked at
    train = tmp_path / "split" / "train"
    train.parent.mkdir()
    zoo.rename(train)
    test = tmp_path / "split" / "test" / "class 0 é"
    test.mkdir(parents=True)
    BIRDS.image(3).save(test / "t.png")
    out = str(tmp_path / "m")
    words = ["fit", str(tmp_path / "split"), "--backbone", "toy", "--lift", "identity", "--out", out, "--json"]
    assert cli.main([*words, "--strict"]) == 3
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert {Path(name).name for name in found["set_aside"]} == BAD
    assert all(name in captured.err for name in BAD)
    assert found["training_pictures"] == len(every) - len(BAD)
    assert cli.main(words) == 0, "without --strict it is no failure"
    model = Carrot.load(out)
    # conversions are right: each kind of the same bird is nearly the same bird to the model
    expected = model.decision_function(BIRDS.image(0))
    for name in ("a_cmyk.jpg", "a_palette.gif", "a_alpha.webp", "a_rotated.jpg"):
        np.testing.assert_allclose(
            model.decision_function(train / "class 0 é" / name), expected, atol=0.2, err_msg=name
        )
    capsys.readouterr()
    assert cli.main(["predict", out, str(train / "class 0 é"), "--json"]) == 0
    predicted = json.loads(capsys.readouterr().out)
    assert {Path(item["picture"]).name for item in predicted["set_aside"]} == BAD
    for name in sorted(BAD):
        assert cli.main(["explain", out, str(train / "class 0 é" / name)]) == 1
        captured = capsys.readouterr()
        assert name in captured.err
        assert "Traceback" not in captured.err
    assert not (tmp_path / "m" / "explanations").exists()
