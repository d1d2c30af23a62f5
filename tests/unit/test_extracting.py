# ruff: noqa: E501
# In the table of mutants each text stands beside what the mutant has in its place.
"""Embeddings in shards by any machine, and a model of them: the bits of a fit, nothing mixed, lost or counted twice."""

import importlib
import json
import pickle
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image

from carrot import BackboneError, Carrot, DataError, ModelError, StoreError, TimmViTPatchBackbone
from carrot.classifier.files import save
from carrot.classifier.fitting import training_set
from carrot.classifier.merged import merge
from carrot.data.toy import EMBEDDED_MODEL, ToyBirds, embedded_checkpoint
from carrot.embedding import extracting
from carrot.embedding.extracted import Extracts, parts_of
from carrot.embedding.extracting import Done, ExtractShard, extract
from carrot.embedding.pooling import Pooling
from carrot.embedding.view import View
from carrot.engine import Here
from carrot.store.shards import EmbeddingStore

pytestmark = pytest.mark.usefixtures("surveyed_once")

N, SPECIES = 13, 3  # 39 pictures: two passes of patches, five of tiles, the last ones smaller
BROKEN = ("b/02.png", "c/07.png")
PLAIN: dict[str, Any] = {"lift": "identity"}
UNLIKE: dict[str, Any] = {"lift": "identity", "regions": "tiles:1,9"}  # 8 pictures of whole ones, 6 of 81 tiles
SETTINGS: dict[str, dict[str, Any]] = {
    "patches": {"lift": "identity", "t": 1.0},
    "two scales and a share of the whole": {"lift": "identity", "regions": "tiles:2,3", "global_share": 0.3},
    "scales of unlike passes": UNLIKE,
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures, two of which can't be read."""
    root = tmp_path_factory.mktemp("home") / "birds"
    birds = ToyBirds(n_train_per_class=N, n_test_per_class=1, n_species=SPECIES)
    for index, record in enumerate(birds.records):
        path = root / record.split / "abc"[record.label] / f"{index % N:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        birds.image(index).resize((48, 48)).save(path)
    for name in BROKEN:
        (root / "train" / name).write_bytes(b"no picture")
    return root


def job_of(data: Any, folder: Path, settings: Mapping[str, Any] = PLAIN, size: int | None = 32, **more: Any) -> Any:
    model = Carrot("toy", **settings)
    train, spec = training_set(str(data) if isinstance(data, Path) else data, None)
    return ExtractShard.of(train, model.encoder, model.setting_, folder, shard_size=size, data=spec, **more)


def filled(data: Any, folder: Path, *arguments: Any, part: tuple[int, int] = (1, 1), **more: Any) -> Path:
    extract(job_of(data, folder, *arguments, **more), Here(), part)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def shards(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both shards of the plain setting; to be copied before it is written into."""
    return filled(home, tmp_path_factory.mktemp("shards") / "all")


@pytest.fixture
def own(shards: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shards, tmp_path / "own"))


# ---------------------------------------------------------------- the bits of a fit


@pytest.mark.parametrize("how", SETTINGS)
def test_the_model_of_the_shards_is_that_of_the_fit_byte_for_byte(how: str, home: Path, tmp_path: Path) -> None:
    settings, size = SETTINGS[how], 24 if "unlike" in how else 32
    if "unlike" in how:  # a picture that is cut into 81 tiles: few of them are enough
        few = tmp_path / "few"
        for path in sorted(home.rglob("*.png")):
            if path.stem < "03":
                target = few / path.relative_to(home)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
        home = few
    fitted = Carrot("toy", **settings).fit(str(home))
    fitted.save(tmp_path / "fit")
    folders = [filled(home, tmp_path / f"part{i}", settings, size, part=(i, 2)) for i in (2, 1)]
    save(tmp_path / "merged", merge(Extracts.of(folders)))
    assert content(tmp_path / "merged") == content(tmp_path / "fit")
    assert set(fitted.set_aside_) == {f"train/{name}" for name in BROKEN if "07" not in name or "unlike" not in how}


def test_a_part_is_every_nth_shard_and_its_bytes_do_not_depend_on_n(home: Path, shards: Path, tmp_path: Path) -> None:
    both = tmp_path / "both"
    for part in ((2, 2), (1, 2)):
        filled(home, both, part=part)
    assert content(both) == content(shards)
    found = extract(job_of(home, tmp_path / "last"), Here(), (2, 3))
    assert (found.shards, found.own, found.pictures) == (2, (1,), N * SPECIES - 32)
    assert extract(job_of(home, tmp_path / "none"), Here(), (3, 3)).own == ()


def test_narrow_rows_are_those_of_the_fit_rounded(home: Path, shards: Path, tmp_path: Path) -> None:
    G = torch.cat(list(Extracts.of([shards]).blocks()))
    for rows, kept in (("float32", torch.float32), ("float16", torch.float32)):  # half is widened, exactly
        found = torch.cat(list(Extracts.of([filled(home, tmp_path / rows, rows=rows)]).blocks()))
        assert found.dtype == kept
        assert torch.equal(found, G.to(getattr(torch, rows)).to(kept))
        save(tmp_path / f"model {rows}", merge(Extracts.of([tmp_path / rows])))
        assert torch.equal(Carrot.load(tmp_path / f"model {rows}").head_.G, found)


def test_what_half_cannot_hold_is_refused(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    g = Pooling.g
    monkeypatch.setattr(Pooling, "g", lambda self, tokens: 1e5 * g(self, tokens))
    with pytest.raises(BackboneError, match=r"train/a/00\.png: float16 can't hold its embedding.* float32 or float64"):
        filled(home, tmp_path / "half", rows="float16")


# ---------------------------------------------------------------- again, killed, changed


def test_a_second_run_computes_nothing_anew(own: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, job = content(own), job_of(home, own)
    monkeypatch.setattr(TimmViTPatchBackbone, "forward", lambda *_: pytest.fail("the backbone ran"))
    found = extract(job, Here())
    assert found.of("found") == [0, 1]
    assert list(found.errors) == [f"train/{name}" for name in BROKEN]
    assert content(own) == before


def test_a_killed_run_goes_on_to_the_same_bytes(
    home: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = EmbeddingStore.write

    def cut(self: EmbeddingStore, shard: int, *rest: Any) -> None:
        if shard == 1:
            raise KeyboardInterrupt
        write(self, shard, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(EmbeddingStore, "write", cut)
        with pytest.raises(KeyboardInterrupt):
            filled(home, tmp_path / "cut")
    found = extract(job_of(home, tmp_path / "cut"), Here())
    assert (found.of("found"), found.of("made")) == ([0], [1])
    assert content(tmp_path / "cut") == content(shards)


@pytest.mark.parametrize("name", ["c/12.png", BROKEN[1]])
def test_changed_pictures_are_computed_again_and_told(name: str, own: Path, home: Path, tmp_path: Path) -> None:
    """Also one that could not be read before."""
    birds = Path(shutil.copytree(home, tmp_path / "birds"))
    filled(birds, own := tmp_path / "again")
    Image.new("RGB", (48, 48), (9, 99, 9)).save(birds / "train" / name)
    with pytest.warns(UserWarning, match="00001.safetensors: its pictures were changed since it was made; it was"):
        found = extract(job_of(birds, own), Here())
    assert (found.of("found"), found.of("again")) == ([0], [1])
    assert content(own) == content(filled(birds, tmp_path / "fresh"))


def test_pictures_without_files_stand_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    birds = ToyBirds(n_train_per_class=4, n_test_per_class=1, n_species=2)
    filled(birds, tmp_path / "x")
    assert extract(job_of(birds, tmp_path / "x"), Here()).of("found") == [0]
    image = ToyBirds.image
    monkeypatch.setattr(ToyBirds, "image", lambda self, i: image(self, i).transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    with pytest.warns(UserWarning, match="changed"):
        assert extract(job_of(birds, tmp_path / "x"), Here()).of("again") == [0]


def test_who_was_thought_lost_may_write_the_same_shard(home: Path, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, theirs = job_of(home, own), content(own)
    (own / "embeddings-00001.safetensors").unlink()

    def late(self: EmbeddingStore, shard: int, *rest: Any) -> None:
        self.path(shard).write_bytes(theirs[self.path(shard).name])
        raise StoreError("another process writes this file too")

    monkeypatch.setattr(EmbeddingStore, "write", late)
    assert job(1).how == "made"
    monkeypatch.setattr(EmbeddingStore, "write", lambda *_: (_ for _ in ()).throw(StoreError("the disk is full")))
    (own / "embeddings-00001.safetensors").unlink()
    with pytest.raises(StoreError, match="full"):
        job(1)


# ---------------------------------------------------------------- the job


def test_a_job_travels_with_its_weights(home: Path, shards: Path, tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    shutil.copy(embedded_checkpoint(), weights)
    model = Carrot(EMBEDDED_MODEL, checkpoint=weights, crop="squash", **PLAIN)
    train, spec = training_set(str(home), None)
    job = ExtractShard.of(train, model.encoder, model.setting_, tmp_path / "x", shard_size=32, data=spec)
    data = pickle.dumps(job)

    def arrived() -> ExtractShard:
        found: ExtractShard = pickle.loads(data)  # noqa: S301  # our own
        found.arrive()
        return found

    weights.unlink()
    assert arrived()(1) == Done(N * SPECIES - 32, "made", job(1).errors)
    other = replace(job, sent=replace(job.sent, fingerprint="0" * 64))
    with pytest.raises(ModelError, match="was sent with fingerprint 000000000000"):
        other.arrive()
    shutil.copy(shards / "manifest.json", tmp_path / "x" / "manifest.json")
    with pytest.raises(StoreError, match="another store lies there on this machine.* all machines share"):
        arrived()


@pytest.mark.parametrize(("settings", "size", "near"), [(PLAIN, 33, "32 or 64"), (UNLIKE, 7, "24 or 48")])
def test_a_shard_is_whole_passes(settings: dict[str, Any], size: int, near: str, home: Path, tmp_path: Path) -> None:
    match = rf"`shard_size` must be a multiple of {near.split()[0]}.*got {size}\. Take {near}"
    with pytest.raises(ValueError, match=match):
        job_of(home, tmp_path / "x", settings, size)
    assert not (tmp_path / "x").exists()


def test_where_nobody_asks_there_is_a_shard_for_64_machines_small_where_rows_are_wide_or_tiles_many(
    home: Path, tmp_path: Path
) -> None:
    job = job_of(home, tmp_path / "patches", {"lift": "identity"}, None)
    assert job.store.shard_size == 32, "one pass, of few pictures"

    def size(n: int, row_bytes: int, view: View = job.sent.view) -> int:
        return extracting._shard_size(view, n, row_bytes, None)

    assert [size(n, 512) for n in (5_000, 20_000, 10**6)] == [64, 288, 1024]
    assert size(10**6, 2**19) == 128  # 64 MiB in float64
    tiles = job_of(home, tmp_path / "tiles", {"lift": "identity", "regions": "tiles:3,4"}, None)
    assert size(10**6, 512, tiles.sent.view) == 320  # 8,000 tiles


# ---------------------------------------------------------------- what is refused


def test_a_disk_that_is_gone_is_no_shard_of_unreadable_pictures(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for i in range(8):
        (home / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (30 * i, 0, 0)).save(home / "ab"[i % 2] / f"{i}.png")
    job = job_of(home, tmp_path / "x", PLAIN, 32)
    away = home.rename(tmp_path / "away")
    with pytest.raises(DataError, match=r"a/0\.png: none of the 8 pictures.*mounted on this machine"):
        job(0)
    assert not job.store.has(0)
    model = Carrot("toy", **PLAIN)
    with pytest.raises(DataError, match="none of the 8 pictures"):
        model.encoder.of(model.setting_).cache(job.train, tmp_path / "tokens")
    away.rename(home)
    assert job(0) == Done(8, "made", {})


def refused(folders: Sequence[Path], match: str, kind: type[Exception] = StoreError) -> None:
    with pytest.raises(kind, match=match):
        merge(Extracts.of(folders))


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "setting": ({"settings": {"lift": "identity", "t": 2.0}}, r"settings\.embedding\.t: 0\.0 there, 2\.0 here"),
    "rows": ({"rows": "float32"}, r'settings\.rows: "float64" there, "float32" here'),
    "shard size": ({"size": 64}, "shard_size: 32 there, 64 here"),
    "tokens": ({"settings": {"lift": "identity", "dtype": "float32"}}, r'settings\.encoder\.dtype: "float16" there'),
}


@pytest.mark.parametrize("what", OTHERS)
def test_parts_of_another_extract_are_refused(what: str, home: Path, shards: Path, tmp_path: Path) -> None:
    more, match = OTHERS[what]
    other = filled(home, tmp_path / "other", part=(1, 2), **more)
    refused([shards, other], rf"other: is not of the same extract as .*all.*{match}.*Merge what")
    with pytest.raises(StoreError, match=f"holds embeddings of other settings: .*{match}"):
        filled(home, Path(shutil.copytree(shards, tmp_path / "mine")), **more)


def test_another_backbone_and_other_pictures_are_refused(home: Path, shards: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    train, spec = training_set(str(home), None)
    model = Carrot(TimmViTPatchBackbone(EMBEDDED_MODEL, pretrained=False, crop="squash"), **PLAIN)
    with pytest.warns(UserWarning, match="can't be built again"):
        job = ExtractShard.of(train, model.encoder, model.setting_, tmp_path / "b", shard_size=32, data=spec)
    extract(job, Here(), (2, 2))
    refused([shards, tmp_path / "b"], r"settings\.encoder\.fingerprint: ")
    more = Path(shutil.copytree(home, tmp_path / "birds"))
    shutil.copy(more / "train/a/00.png", more / "train/a/99.png")
    refused([shards, filled(more, tmp_path / "c", part=(2, 2))], r"ids\.number: 39 there, 40 here")


def test_shards_of_two_models_in_one_folder_are_refused(home: Path, own: Path, tmp_path: Path) -> None:
    other = filled(home, tmp_path / "other", {"lift": "identity", "t": 2.0})
    shutil.copy(other / "embeddings-00001.safetensors", own)
    match = r"own/embeddings-00001\.safetensors: was made with other settings.* two models lie in one folder"
    refused([own], match)
    with pytest.raises(StoreError, match=match):
        filled(home, own)


def test_a_shard_counts_once_wherever_it_lies(shards: Path, own: Path, tmp_path: Path) -> None:
    twice = Extracts.of([own, shards])
    assert twice.twice == {0: (str(own), str(shards)), 1: (str(own), str(shards))}
    assert len(merge(twice).fitted.records) == N * SPECIES - len(BROKEN)
    store = EmbeddingStore.existing(own)
    rows = store.read(0)
    store.write(0, {**rows, "g": rows["g"] + 1.0}, store.noted(0)[1])
    refused([own, shards], r"own/embeddings-00000.* and .*all/embeddings-00000.*the same shard with different content")


def test_missing_shards_are_named_with_what_computes_them(own: Path) -> None:
    (own / "embeddings-00000.safetensors").unlink()
    refused([own], r"1 of 2 shards is missing \(0\): .*--shard 1/2\.")


@pytest.mark.parametrize(
    ("missing", "n", "parts"),
    [
        ([2, 5, 8], 10, [(3, 3)]),  # the third of three parts never ran
        ([1, 3, 4, 7, 9], 10, [(2, 6), (4, 6), (5, 6)]),
        ([0, 3, 1, 4], 6, [(1, 3), (2, 3)]),
        ([7], 10, [(8, 8)]),
        (range(4), 4, [(1, 1)]),
    ],
)
def test_parts_that_hold_these_shards_and_no_others(missing: list[int], n: int, parts: list[tuple[int, int]]) -> None:
    assert parts_of(missing, n) == parts
    assert sorted(shard for i, k in parts for shard in range(i - 1, n, k)) == sorted(missing)


def test_what_is_no_extract_is_refused(own: Path, tmp_path: Path) -> None:
    refused([tmp_path / "nowhere"], r"nowhere: holds nothing that carrot extract wrote")
    EmbeddingStore(tmp_path / "tokens", {"backbone": "x"}, ["a"])
    refused([tmp_path / "tokens"], "tokens: holds embeddings, but not those of carrot extract")
    file = own / "embeddings-00001.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    refused([own], r"embeddings-00001\.safetensors: is damaged: its values don't have the sha256")
    newer = json.loads((own / "manifest.json").read_bytes())
    for version in (2, "2"):
        newer["settings"]["format_version"] = version
        (own / "manifest.json").write_text(json.dumps(newer))
        refused([own], f"an extract of format version {version!r}; this CARROT reads 1")


@pytest.mark.parametrize("what", ["no notes", "a record less", "no ids"])
def test_a_header_that_does_not_say_its_pictures_is_refused(what: str, own: Path) -> None:
    file = own / "embeddings-00001.safetensors"
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    label = json.loads(header["__metadata__"]["carrot"])
    if what == "no notes":
        del label["notes"]
    elif what == "a record less":
        label["notes"]["records"].pop()
    else:
        label["notes"]["records"] = [[] for _ in label["notes"]["records"]]
    header["__metadata__"]["carrot"] = json.dumps(label)
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    refused(
        [own], r"embeddings-00001\.safetensors: is damaged: its header doesn't say which pictures it holds\. Delete"
    )


def test_a_class_without_a_readable_picture_is_refused(home: Path, tmp_path: Path) -> None:
    birds = Path(shutil.copytree(home, tmp_path / "birds"))
    for path in (birds / "train" / "b").iterdir():
        path.write_bytes(b"no picture")
    refused([filled(birds, tmp_path / "x")], "Class 'b' has no training picture that can be read", DataError)


def test_a_folder_of_other_files_is_refused(home: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(StoreError, match=r"holds other files \(notes\.txt\) and no embeddings\. Give an empty folder"):
        job_of(home, tmp_path)


# ---------------------------------------------------------------- damaged copies

MUTANTS = {  # what: module, text in it, what the mutant has there
    "what is wrong with the last pass is lost": (
        "passes",
        '        yield {**_encoded(part, names, batch), "readable": batch.readable, "sha256": batch.sha256}\n',
        "        errors.clear() if own[-1] + 1 == len(dataset.records) else None\n"
        '        yield {**_encoded(part, names, batch), "readable": batch.readable, "sha256": batch.sha256}\n',
    ),
    "other passes": ("passes", "else BATCH", "else 3"),
    "a picture that can't be read moves the others": ("passes", "g[start + own] =", "g[start : start + len(own)] ="),
    "the last shard of a part is left": ("extracting", "range(i - 1, store.n_shards, n)", "range(i - 1, store.n_shards - 1, n)"),
    "a shard goes to two parts, and none": ("extracting", "range(i - 1, store.n_shards, n)", "range(1, store.n_shards, n)"),
    "changed files are not seen": ("extracting", 'if notes["contents"] == self._contents(rows, {}):', "if True:"),
    "the first shard is read twice": ("extracted", "tensors, notes = store.noted(shard)", "tensors, notes = store.noted(0)"),
    "records of pictures that can't be read stay": ("extracted", "                    if noted[\"id\"] not in aside:\n                        records", "                    if True:\n                        records"),
}  # fmt: skip


def hold(home: Path, tmp_path: Path, shards: Path) -> None:
    """What an extract owes, on a few pictures: shards of any parts, changed pictures, the rows of a fit."""
    for part in ((2, 2), (1, 2)):
        filled(home, tmp_path / "parts", part=part)
    assert content(tmp_path / "parts") == content(shards)
    extracts = Extracts.of([tmp_path / "parts"])
    (records, errors), G = extracts.records(), torch.cat(list(extracts.blocks()))
    assert list(errors) == [f"train/{name}" for name in BROKEN]
    assert len(records) == len(G) == N * SPECIES - len(BROKEN)
    assert bool(torch.isfinite(G).all())
    birds = Path(shutil.copytree(home, tmp_path / "birds"))
    filled(birds, tmp_path / "again")
    Image.new("RGB", (48, 48)).save(birds / "train/a/00.png")
    with warnings.catch_warnings(action="ignore"):
        assert extract(job_of(birds, tmp_path / "again"), Here()).of("again") == [0]


@pytest.mark.parametrize("what", [*MUTANTS, None])
def test_damaged_copies_are_rejected(
    what: str | None, home: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if what is None:
        hold(home, tmp_path, shards)
        return
    name, old, new = MUTANTS[what]
    module = importlib.import_module(f"carrot.embedding.{name}")
    source = Path(str(module.__file__)).read_text()
    assert source.count(old) == 1, "the code has changed: bring the mutant up to date"
    copy = ModuleType(module.__name__)
    exec(compile(source.replace(old, new), str(module.__file__), "exec"), copy.__dict__)
    for user in (extracting, importlib.import_module(__name__)):
        for known in ("embedded", "extract", "ExtractShard", "Extracts"):
            if hasattr(copy, known) and hasattr(user, known) and (name != "extracting" or user is not extracting):
                monkeypatch.setattr(user, known, getattr(copy, known))
    with pytest.raises((AssertionError, StoreError)):
        hold(home, tmp_path, shards)
