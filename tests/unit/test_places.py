"""Stores at addresses are those in folders, byte for byte; what is missing, full or forbidden is said."""

import errno
import os
from pathlib import Path

import pytest
import torch

from carrot import StoreError
from carrot.store.places import Objects, place_of
from carrot.store.shards import EmbeddingStore

pytest.importorskip("fsspec")

IDS = [f"{i}.jpg" for i in range(5)]


def filled(where: Path | str, shift: float = 0.0) -> EmbeddingStore:
    store = EmbeddingStore(where, {"t": 1.0}, IDS, shard_size=2)
    for shard in store.missing():
        store.write(shard, {"g": torch.arange(5.0)[list(store.rows(shard))] + shift}, {"of": shard})
    return store


@pytest.fixture
def bucket(request: pytest.FixtureRequest) -> str:
    return f"memory://{request.node.name}/folder"


def test_an_address_holds_what_a_folder_holds(bucket: str, tmp_path: Path) -> None:
    filled(tmp_path / "here")
    for where in (bucket, f"{bucket}/deeper/", f"file://{tmp_path}/there"):
        store = filled(where)
        for path in (tmp_path / "here").iterdir():
            assert store.place.read(path.name) == path.read_bytes()
        again = EmbeddingStore.existing(where)
        assert again.missing() == []
        assert again.read()["g"].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
        rows, notes = again.noted(2)
        assert (rows["g"].tolist(), notes) == ([4.0], {"of": 2})
        assert again.label(1) == filled(tmp_path / "here").label(1)
        assert again.erase([3]) == [1]
        assert again.missing() == [1]
    assert (tmp_path / "there" / "manifest.json").is_file()


def test_at_an_address_damage_and_other_settings_are_refused(bucket: str) -> None:
    store = filled(bucket)
    with pytest.raises(StoreError, match=rf"^{bucket}: holds embeddings of other settings: settings\.t: 1\.0 there"):
        EmbeddingStore(bucket, {"t": 2.0}, IDS, shard_size=2)
    data = store.place.read(store.name(1))
    store.place.write(store.name(1), data[:-1] + b"\7")
    assert store.label(1)["notes"] == {"of": 1}  # as its header says; no row is looked at
    with pytest.raises(StoreError, match=rf"^{bucket}/embeddings-00001\.safetensors: is damaged"):
        store.read()
    with pytest.raises(StoreError, match=r"nowhere/manifest\.json: there is no such file"):
        EmbeddingStore.existing("memory://nowhere")


def test_what_nobody_opens_and_what_is_forbidden_is_said(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError, match=r"^smoke://x: can't be opened: Protocol not known: .*Give a path, or s3://"):
        place_of("smoke://key:secret@x")
    store = filled(bucket)
    assert isinstance(store.place, Objects)

    def forbidden(*_: object) -> None:
        raise PermissionError("AccessDenied for https://key:secret@host/x?signature=1.")

    monkeypatch.setattr(type(store.place._fs), "pipe_file", forbidden)
    with pytest.raises(
        StoreError, match=r": can't be written: AccessDenied for https://host/x\. Look whether"
    ) as found:
        store.write(0, {"g": torch.zeros(2)})
    assert "secret" not in str(found.value)


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = EmbeddingStore(tmp_path, {"t": 1.0}, IDS, shard_size=2)
    before = sorted(tmp_path.iterdir())

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match=r"00000\.safetensors: can't be written: No space left.*Free the disk, or"):
            store.write(0, {"g": torch.zeros(2)})
    assert sorted(tmp_path.iterdir()) == before
    assert filled(tmp_path).missing() == []
