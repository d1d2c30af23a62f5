"""Batches, resumable embedding of a data set, selection, and single-file tensors."""

import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from carrot import StoreError, TimmViTPatchBackbone, UnreadableImageError
from carrot._ridge.loo import LooPath
from carrot.data.loading import batches
from carrot.data.records import Record
from carrot.data.toy import EMBEDDED_MODEL, ToyBirds, embedded_checkpoint
from carrot.embedding.cache import TokenCache
from carrot.embedding.filling import embed_dataset
from carrot.embedding.pooling import Pooling
from carrot.embedding.setting import Setting
from carrot.embedding.tokens import Tokens
from carrot.evaluation import candidate, select
from carrot.store.tensors import save_tensors


class Plain:
    """Ten 2 x 2 pictures of one grey each; some can't be read."""

    name = "plain"
    classes = ("a", "b")

    def __init__(self, bad: tuple[int, ...] = (), shade: int = 0) -> None:
        self.records = [Record(f"{i}", i % 2, "train") for i in range(10)]
        self.bad, self.shade = bad, shade

    def image(self, index: int) -> Image.Image:
        if index in self.bad:
            raise UnreadableImageError(f"picture {index} is broken", str(index))
        return Image.new("RGB", (2, 2), (10 * index + self.shade,) * 3)


def transform(image: Image.Image) -> torch.Tensor:
    return torch.full((3, 2, 2), float(image.getpixel((0, 0))[0]))


class Embed:
    """x -> its value, counting the pictures it was given."""

    def __init__(self, stop_after: int = 99) -> None:
        self.seen, self.stop_after = 0, stop_after

    def __call__(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        if self.seen >= self.stop_after:
            raise KeyboardInterrupt
        self.seen += len(x)
        return {"g": x[:, 0, 0, :1]}


ROW = {"g": (1,)}


def test_batches_keep_the_order_and_set_bad_pictures_aside() -> None:
    found = list(batches(Plain(bad=(1, 2, 3)), transform, [[0, 1], [2, 3], [9, 4]]))
    assert [b.readable.tolist() for b in found] == [[True, False], [False, False], [True, True]]
    assert [b.errors for b in found] == [("picture 1 is broken",), ("picture 2 is broken", "picture 3 is broken"), ()]
    assert found[2].x[:, 0, 0, 0].tolist() == [90.0, 40.0]
    with pytest.raises(ValueError, match="empty"):
        list(batches(Plain(), transform, [[0], []]))


def test_rows_are_in_order_and_bad_pictures_are_nan(tmp_path: Path) -> None:
    store, errors = embed_dataset(Plain(bad=(0, 4, 5)), transform, Embed(), ROW, {"a": 1}, tmp_path, batch_size=2)
    rows = store.read()["g"]
    good = [i for i in range(10) if i not in (0, 4, 5)]
    assert rows[good, 0].tolist() == [10.0 * i for i in good]
    assert bool(torch.isnan(rows[[0, 4, 5]]).all())
    assert errors == {str(i): f"picture {i} is broken" for i in (0, 4, 5)}


def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    whole, _ = embed_dataset(Plain(), transform, Embed(), ROW, {}, tmp_path / "whole", batch_size=3)
    with pytest.raises(KeyboardInterrupt):
        embed_dataset(Plain(), transform, Embed(stop_after=6), ROW, {}, tmp_path / "cut", batch_size=3)
    rest = Embed()
    rows, _ = embed_dataset(Plain(), transform, rest, ROW, {}, tmp_path / "cut", batch_size=3)
    assert rest.seen == 4
    assert torch.equal(rows.read()["g"], whole.read()["g"])
    for file in sorted((tmp_path / "whole").glob("*.safetensors")):
        assert file.read_bytes() == (tmp_path / "cut" / file.name).read_bytes()
    again = Embed()
    embed_dataset(Plain(), transform, again, ROW, {}, tmp_path / "cut", batch_size=3)
    assert again.seen == 0


@pytest.mark.parametrize("change", ["facts", "pictures", "files"])
def test_another_backbone_or_an_edited_data_set_is_refused(change: str, tmp_path: Path) -> None:
    data = Plain()
    picture = tmp_path / "9.png"
    picture.write_bytes(b"anything")
    data.records[9] = Record("9", 1, "train", picture)
    embed_dataset(data, transform, Embed(), ROW, {"model": "x"}, tmp_path / "store", batch_size=5)
    os.utime(picture, (1, 1))
    embed_dataset(data, transform, Embed(), ROW, {"model": "x"}, tmp_path / "store", batch_size=5)  # times don't count
    if change == "files":
        picture.write_bytes(b"anything else")
    other = Plain(shade=1 if change == "pictures" else 0)
    other.records = data.records
    with pytest.raises(StoreError, match="settings" if change == "facts" else "pictures were changed"):
        embed_dataset(
            other,
            transform,
            Embed(),
            ROW,
            {"model": "y" if change == "facts" else "x"},
            tmp_path / "store",
            batch_size=5,
        )


def test_select_takes_the_smallest_leave_one_out_error() -> None:
    labels = torch.arange(60) % 3
    clear = torch.nn.functional.one_hot(labels).double() + 0.1 * torch.randn(60, 3, dtype=torch.float64)
    noisy = clear + torch.randn(60, 3, dtype=torch.float64)
    found = [candidate(noisy, labels, 0), candidate(clear, labels, 1), candidate(clear, labels, 2)]
    best = select(found)
    assert best.setting == 1
    assert select(c for c in found).setting == 1
    error = (best.head.Y - best.head.loo_predict()).square().mean()
    assert best.loo_mse == pytest.approx(float(error), rel=1e-9)
    assert best.loo_accuracy == pytest.approx(float((best.head.loo_predict().argmax(1) == labels).double().mean()))
    assert best.loo_accuracy > found[0].loo_accuracy
    with pytest.raises(ValueError, match="at least one"):
        select([])
    with pytest.raises(ValueError, match="NaN"):
        select([best, replace(best, loo_mse=math.nan)])


def test_a_cache_gives_the_backbones_own_tokens_whatever_order_is_asked(tmp_path: Path) -> None:
    data = ToyBirds(n_train_per_class=3, n_test_per_class=1, n_species=4)
    backbone = TimmViTPatchBackbone(EMBEDDED_MODEL, checkpoint=embedded_checkpoint(), crop="squash", attention=True)
    cache = TokenCache.of(data, backbone, tmp_path)
    assert bool(cache.readable.all())
    assert cache.errors == {}
    own = backbone(torch.stack([backbone.transform(data.image(i)) for i in range(16)]))
    indices = [15, 3, 4, 0]
    for places, tokens in cache.batches(indices):
        rows = [indices[place] for place in places]
        for name, x in (("H", own.H), ("class_token", own.prefix[:, 0]), ("attention", own.attention)):
            torch.testing.assert_close(getattr(tokens, name), x[rows], rtol=1e-4, atol=1e-5)
    s = Setting("quadratic", 0.5, 0.5, 1.0, 2.0, 0.3)
    G = cache.embed(indices, s)
    for place, index in enumerate(indices):
        trace = Pooling(s).trace(cache.picture(index))
        torch.testing.assert_close(trace.g, G[place], rtol=1e-12, atol=1e-12)
        assert trace.regions.num_global == 1


@pytest.mark.usefixtures("as_user")
def test_settings_that_the_tokens_cannot_serve() -> None:
    tokens = Tokens(torch.randn(2, 6, 3), (2, 3))
    assert Pooling(Setting()).g(tokens).shape == (2, 3)
    torch.testing.assert_close(Pooling(Setting()).g(tokens), tokens.H.double().mean(1))
    with pytest.raises(ValueError, match="attention"):
        Pooling(Setting(tau=0.5)).g(tokens)
    with pytest.raises(ValueError, match="class token"):
        Pooling(Setting(global_share=0.5)).g(tokens)
    with pytest.raises(ValueError, match="one picture"):
        Pooling(Setting()).trace(tokens)


def test_tensors_are_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.safetensors"
    save_tensors(path, {"a": torch.arange(6).reshape(2, 3).T}, id="7")
    assert torch.equal(load_file(path)["a"], torch.arange(6).reshape(2, 3).T)
    assert [p.name for p in path.parent.iterdir()] == ["x.safetensors"]


def test_a_path_settles_at_its_low_end_where_the_next_error_is_the_same() -> None:
    """Wide and separable: the smaller lam, the better, down to interpolation, where it stops mattering."""

    def settled(*mse: float) -> bool:
        lams = torch.logspace(0, len(mse) - 1, len(mse), dtype=torch.float64)
        return LooPath(lams, torch.tensor(mse, dtype=torch.float64)).settled

    assert settled(1.0, 1.005, 2.0)
    assert not settled(1.0, 1.02, 2.0)
    assert not settled(1.0, 0.999, 2.0)
    assert not settled(3.0, 2.0, 2.0)
    assert not settled(1.0)
