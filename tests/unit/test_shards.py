"""The store: whole shards or none, whatever kills the run; nothing mixed, nothing half-read."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from carrot.errors import StoreError
from carrot.store.files import locked
from carrot.store.settings import JSON, check_json, differences
from carrot.store.shards import EmbeddingStore

SETTINGS: dict[str, JSON] = {"backbone": {"name": "vit", "sha256": None}, "t": 1.0, "sizes": [224, 224], "norm": True}
IDS = [f"a/{i}.jpg" for i in range(10)]
ROWS = {"g": (10, 3), "pi": (10, 2, 2), "n": (10,)}


def tensors(rows: range) -> dict[str, Tensor]:
    """What an embedding run gives for some rows: depends on the row alone."""
    values = torch.randn(10, 3, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    values[4, 0], values[5, 0] = float("nan"), -0.0
    every = {"g": values, "pi": values[:, [0, 1, 1, 2]].reshape(10, 2, 2).bfloat16(), "n": torch.arange(10)}
    return {name: tensor[rows.start : rows.stop] for name, tensor in every.items()}


def store_in(folder: Path, **changes: object) -> EmbeddingStore:
    arguments = {"settings": SETTINGS, "ids": IDS, "shard_size": 4} | changes
    return EmbeddingStore(folder, **arguments)


def fill(store: EmbeddingStore) -> EmbeddingStore:
    for shard in store.missing():
        store.write(shard, tensors(store.rows(shard)))
    return store


def assert_same_bits(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert tensor.dtype == right[name].dtype
        assert tensor.shape == right[name].shape
        assert tensor.contiguous().view(torch.uint8).equal(right[name].contiguous().view(torch.uint8))


# ---------------------------------------------------------------- whole stores


def test_what_is_written_is_read_bit_for_bit(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    assert [store.rows(i) for i in range(store.n_shards)] == [range(0, 4), range(4, 8), range(8, 10)]
    assert store.missing() == [0, 1, 2]
    fill(store)
    assert store.missing() == []
    assert_same_bits(store.read(), tensors(range(10)))
    assert_same_bits(store_in(tmp_path).read(1), tensors(range(4, 8)))
    assert {name: tuple(tensor.shape) for name, tensor in store.read().items()} == ROWS


def test_any_order_any_process_the_same_bytes(tmp_path: Path) -> None:
    fill(store_in(tmp_path / "a"))
    first, second = store_in(tmp_path / "b"), store_in(tmp_path / "b")
    second.write(2, tensors(range(8, 10)))
    assert first.missing() == [0, 1]
    first.write(1, tensors(range(4, 8)))
    second.write(0, tensors(range(0, 4)))
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


@settings(max_examples=30)
@given(n=st.integers(1, 30), shard_size=st.integers(1, 40))
def test_shards_cover_every_row_once(tmp_path_factory: pytest.TempPathFactory, n: int, shard_size: int) -> None:
    store = EmbeddingStore(tmp_path_factory.mktemp("store"), {}, [str(i) for i in range(n)], shard_size)
    assert [row for shard in range(store.n_shards) for row in store.rows(shard)] == list(range(n))
    for shard in store.missing():
        store.write(shard, {"row": torch.tensor(store.rows(shard))})
    assert store.read()["row"].tolist() == list(range(n))


def test_views_gradients_and_empty_rows_are_stored_as_values(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path, {}, ["a", "b"])
    base = torch.arange(6.0, requires_grad=True).reshape(3, 2)
    whole = torch.ones(4)
    store.write(
        0,
        {
            "turned": base.T,
            "whole": whole[:2],
            "same": whole[:2],
            "nothing": torch.empty(2, 0),
            "yes": torch.tensor([True, False]),
        },
    )
    back = store.read()
    assert back["turned"].tolist() == [[0, 2, 4], [1, 3, 5]]
    assert back["whole"].tolist() == back["same"].tolist() == [1, 1]
    assert back["nothing"].shape == (2, 0)
    assert back["yes"].tolist() == [True, False]


def test_an_unfinished_store_says_what_is_missing(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.write(0, tensors(range(0, 4)))
    with pytest.raises(StoreError, match=r"2 of 3 shards are not written yet, the first is 1\. Run"):
        store.read()
    with pytest.raises(StoreError, match=r"00001\.safetensors: shard 1 is not written yet"):
        store.read(1)
    assert_same_bits(store.read(0), tensors(range(0, 4)))


# ---------------------------------------------------------------- killed runs

RUN = """
import os, signal, sys
import tests.unit.test_shards as t

calls = 0

def killing(function, before):
    def wrapper(*arguments):
        global calls
        calls += 1
        if calls == count:
            if before:
                before(*arguments)
            else:
                function(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments)
    return wrapper

def half(descriptor):
    os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)

def run(place, count, folder):
    if place == "half written":
        os.fsync = killing(os.fsync, half)
    elif place == "before rename":
        os.replace = killing(os.replace, lambda *paths: None)
    elif place == "after rename":
        os.replace = killing(os.replace, None)
    t.fill(t.store_in(t.Path(folder)))

for number, (place, count, _) in enumerate(t.KILLED):  # a fork each: what they import is imported once
    child = os.fork()
    if not child:
        run(place, count, os.path.join(sys.argv[1], str(number)))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


# fsync is called twice per file, for the file and for its folder; the first file is the manifest
KILLED: list[tuple[str, int, int | None]] = [
    ("half written", 1, None),
    ("half written", 5, 1),
    ("before rename", 1, None),
    ("before rename", 3, 1),
    ("after rename", 3, 2),
    ("after rename", 4, 3),
]


@pytest.fixture(scope="module")
def killed_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what each of ``KILLED`` left behind."""
    root = tmp_path_factory.mktemp("killed")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", RUN, str(root)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert run.stdout.split() == [str(-signal.SIGKILL)] * len(KILLED), run.stderr
    return root


@pytest.mark.parametrize("number", range(len(KILLED)), ids=["-".join(map(str, case)) for case in KILLED])
def test_a_killed_run_resumes_to_the_same_bytes(tmp_path: Path, killed_runs: Path, number: int) -> None:
    """``whole``: how many shards survive, or None where not even the manifest does."""
    unbroken, killed, whole = tmp_path / "unbroken", killed_runs / str(number), KILLED[number][2]
    fill(store_in(unbroken))
    assert (killed / "manifest.json").exists() == (whole is not None)
    assert len(list(killed.glob("*.safetensors"))) == (whole or 0)

    store = store_in(killed)
    assert store.missing() == list(range(whole or 0, 3))
    assert_same_bits(fill(store).read(), store_in(unbroken).read())
    for file in unbroken.iterdir():
        assert file.read_bytes() == (killed / file.name).read_bytes()
    assert not list(killed.glob("embeddings*.tmp"))  # what the killed run left is gone


def test_a_failing_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_in(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match=r"00000\.safetensors: can't be written: No space left on device"):
            store.write(0, tensors(range(0, 4)))
    assert [file.name for file in tmp_path.iterdir()] == ["manifest.json"]
    assert_same_bits(fill(store).read(), tensors(range(10)))


def test_two_writers_of_one_shard_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, replace = store_in(tmp_path), os.replace

    def other_writer_first(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "replace", replace)
        store_in(tmp_path).write(0, tensors(range(0, 4)))
        replace(source, target)

    monkeypatch.setattr(os, "replace", other_writer_first)
    with pytest.raises(StoreError, match="another process writes this file too"):
        store.write(0, tensors(range(0, 4)))
    assert_same_bits(store.read(0), tensors(range(0, 4)))


# ---------------------------------------------------------------- other settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": SETTINGS | {"t": 2.0}}, r"settings\.t: 1\.0 there, 2\.0 here\. Use another folder, or delete"),
        ({"settings": SETTINGS | {"norm": 1}}, r"settings\.norm: true there, 1 here"),
        ({"settings": SETTINGS | {"sizes": [224, 448]}}, r"settings\.sizes\[1\]: 224 there, 448 here"),
        ({"settings": SETTINGS | {"sizes": [224]}}, r"settings\.sizes: \[224, 224\] there, \[224\] here"),
        ({"settings": SETTINGS | {"lift": "relu"}}, r'settings\.lift: absent there, "relu" here'),
        ({"settings": {"t": 1.0, "sizes": [224, 224], "norm": True}}, r"settings\.backbone: .* there, absent here"),
        (
            {"settings": SETTINGS | {"backbone": {"name": "deit", "sha256": "0f"}}},
            r'backbone\.name: "vit" there, "deit" here; settings\.backbone\.sha256: null there, "0f" here',
        ),
        ({"ids": IDS[:-1]}, r"ids\.number: 10 there, 9 here; ids\.sha256: "),
        ({"ids": IDS[::-1]}, r"ids\.sha256: "),
        ({"shard_size": 5}, r"shard_size: 4 there, 5 here"),
    ],
)
def test_other_settings_are_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    fill(store_in(tmp_path))
    with pytest.raises(StoreError, match=message) as caught:
        store_in(tmp_path, **changes)
    assert str(tmp_path) in str(caught.value)
    assert_same_bits(store_in(tmp_path).read(), tensors(range(10)))  # and nothing was touched


def test_the_same_number_is_no_change(tmp_path: Path) -> None:
    fill(store_in(tmp_path))
    again = store_in(tmp_path, settings=dict(reversed(SETTINGS.items())) | {"t": 1})
    assert again.missing() == []


def test_shards_of_another_store_are_refused(tmp_path: Path) -> None:
    fill(store_in(tmp_path / "a"))
    other = fill(store_in(tmp_path / "b", settings=SETTINGS | {"t": 2.0}))
    other.path(1).replace(tmp_path / "a" / other.path(1).name)
    store = store_in(tmp_path / "a")
    for act in (store.missing, store.read, lambda: store.read(1)):
        with pytest.raises(
            StoreError, match=r"00001\.safetensors: was made with other settings or ids.* Delete this file"
        ):
            act()
    store.path(0).replace(store.path(1))
    with pytest.raises(StoreError, match=r"00001\.safetensors: is shard 0, and shard 1 of this store is expected here"):
        store.missing()


def test_without_its_manifest_a_store_is_still_bound_to_its_settings(tmp_path: Path) -> None:
    fill(store_in(tmp_path))
    (tmp_path / "manifest.json").unlink()
    other = store_in(tmp_path, settings=SETTINGS | {"t": 2.0})
    with pytest.raises(StoreError, match="made with other settings"):
        other.missing()
    (tmp_path / "manifest.json").unlink()
    assert_same_bits(store_in(tmp_path).read(), tensors(range(10)))


def test_a_damaged_or_newer_manifest_is_named(tmp_path: Path) -> None:
    fill(store_in(tmp_path))
    manifest = tmp_path / "manifest.json"
    text = manifest.read_text()
    for damaged in ("", text[: len(text) // 2], "\x00"):
        manifest.write_text(damaged)
        with pytest.raises(StoreError, match=r"manifest\.json: is damaged .* Delete this file"):
            store_in(tmp_path)
    manifest.write_text(json.dumps(json.loads(text) | {"format_version": 2}))
    with pytest.raises(StoreError, match=r"format version 2; this CARROT reads 1\. Upgrade it"):
        store_in(tmp_path)
    manifest.write_text("[]")
    with pytest.raises(StoreError, match="other settings"):
        store_in(tmp_path)


# ---------------------------------------------------------------- damage


def test_a_damaged_shard_is_named_not_recomputed_in_silence(tmp_path: Path) -> None:
    store = fill(store_in(tmp_path))
    whole = store.path(1).read_bytes()
    for damaged in (
        b"",
        whole[:7],
        whole[:-1],
        whole[: len(whole) // 2],
        whole + b"\0",
        b"\xff" * len(whole),
        b"no shard",
    ):
        store.path(1).write_bytes(damaged)
        for act in (store.missing, store.read, lambda: store.read(1)):
            with pytest.raises(StoreError, match=r"00001\.safetensors: is damaged.* Delete this file, and run"):
                act()
    store.path(1).unlink()
    assert store.missing() == [1]
    assert_same_bits(fill(store).read(), tensors(range(10)))


@settings(max_examples=300)
@given(data=st.data())
def test_no_changed_byte_is_ever_read_as_a_value(tmp_path: Path, data: st.DataObject) -> None:
    store = store_in(tmp_path)
    store.write(0, tensors(range(0, 4)))
    content = bytearray(store.path(0).read_bytes())
    header_ends = 8 + int.from_bytes(content[:8], "little")
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    store.path(0).write_bytes(content)
    try:
        back = store.read(0)
    except StoreError:
        return
    assert place < header_ends  # a change among the values is always found;
    assert_same_bits(back, tensors(range(0, 4)))  # one in the header may be a blank for another, and changes nothing


def test_shards_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    store = fill(store_in(tmp_path))
    for wrong in (
        {"g": torch.zeros(4, 3)},  # float32, not float64; and no pi, no n
        tensors(range(4, 8)) | {"g": torch.zeros(4, 5, dtype=torch.float64)},
        tensors(range(4, 8)) | {"extra": torch.zeros(4)},
    ):
        store.write(1, wrong)
        with pytest.raises(StoreError, match=r"00001\.safetensors: holds .* per row, and shard 0"):
            store.read()


# ---------------------------------------------------------------- wrong arguments


def test_wrong_tensors(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    with pytest.raises(ValueError, match=r"'g' must have 2 rows, as shard 2 has; got shape \(4, 3\)"):
        store.write(2, {"g": torch.zeros(4, 3)})
    with pytest.raises(ValueError, match=r"'g' must have 2 rows, as shard 2 has; got shape \(\)"):
        store.write(2, {"g": torch.tensor(1.0)})
    with pytest.raises(ValueError, match="at least one tensor"):
        store.write(0, {})
    for shard in (-1, 3):
        with pytest.raises(IndexError, match=f"shard must be from 0 to 2; got {shard}"):
            store.write(shard, tensors(range(0, 4)))
        with pytest.raises(IndexError):
            store.read(shard)


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ids must all be different; 'a' occurs twice"):
        store_in(tmp_path, ids=["a", "b", "a"])
    with pytest.raises(ValueError, match="at least one id"):
        store_in(tmp_path, ids=[])
    with pytest.raises(TypeError, match="ids must be a sequence of strings"):
        store_in(tmp_path, ids="abc")
    with pytest.raises(ValueError, match="shard_size must be at least 1"):
        store_in(tmp_path, shard_size=0)
    with pytest.raises(ValueError, match=r"settings\.a\[1\] must be finite; got nan"):
        store_in(tmp_path, settings={"a": [1.0, float("nan")]})
    with pytest.raises(TypeError, match=r"settings\.a\.b must be plain JSON .*; got tuple"):
        store_in(tmp_path, settings={"a": {"b": (1, 2)}})
    with pytest.raises(TypeError, match=r"settings\.a must have strings as keys; got 1"):
        store_in(tmp_path, settings={"a": {1: 2}})
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="Choose another folder"):
        store_in(tmp_path / "file")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON_VALUES, JSON_VALUES)
def test_settings_survive_json_and_differ_only_where_they_do(value: JSON, other: JSON) -> None:
    assert list(differences(json.loads(json.dumps(check_json(value, "x"))), value, "x")) == []
    found = list(differences(value, other, "x"))
    assert bool(found) == bool(list(differences(other, value, "x")))
    if not found:  # equal, but for True and 1, which the comparison of Python can't tell apart
        assert value == other


def test_erasing_deletes_what_killed_writers_left_and_says_what_there_was(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path, {}, [str(i) for i in range(7)], shard_size=3)
    for shard in range(3):
        store.write(shard, {"g": torch.zeros(len(store.rows(shard)), 2)})
    left = store.path(1).with_name(f"{store.path(1).name}.99999-abcdef00.tmp")
    left.write_bytes(b"tokens")
    assert store.erase([4, 3, 4]) == [1]
    assert not left.exists()
    assert store.missing() == [1]
    assert store.erase([4]) == [], "there was none any more"


@pytest.mark.parametrize("change", [{"shard_size": 0}, {"shard_size": -1}, {"ids": {"number": -5, "sha256": ""}}])
def test_a_manifest_that_can_not_be_is_damaged(tmp_path: Path, change: dict) -> None:
    EmbeddingStore(tmp_path, {}, ["a", "b"])
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(StoreError, match="is damaged"):
        EmbeddingStore.existing(tmp_path)


def test_a_lock_is_one_threads_and_may_come_and_go(tmp_path: Path) -> None:
    """Threads make the folder, lock it, and remove it again: each is told that another holds it, or has it alone."""
    folder, inside, most, others = tmp_path / "f", [0], [0], []

    def work() -> None:
        for _ in range(300):
            try:
                with locked(folder), locked(folder):
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    time.sleep(1e-4)  # the others' turn
                    inside[0] -= 1
            except StoreError as error:
                if "another process is changing" not in str(error):
                    others.append(error)
            except Exception as error:
                others.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert others == []
    assert most == [1]
    assert not folder.exists(), "nothing came of it"
    (tmp_path / "nowhere").symlink_to(tmp_path / "absent" / "deep")
    for wrong in (tmp_path / "nowhere", tmp_path / "file"):
        (tmp_path / "file").write_text("")
        with pytest.raises(StoreError, match="can't be written"), locked(wrong):
            pass
