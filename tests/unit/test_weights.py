"""Reading weights: tensors by name and nothing else, and a hub that doesn't answer is noticed at once."""

import argparse
import os
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from carrot._vit.checkpoints import compare, digest, is_network_failure, read_state_dict, require_hub
from carrot.errors import CheckpointError, HubUnreachableError

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(1)}


def assert_same(state):
    assert state.keys() == STATE.keys()
    assert all(torch.equal(state[key], STATE[key]) for key in STATE)


def test_both_formats_and_every_wrapper(tmp_path):
    save_file(STATE, tmp_path / "w.safetensors")
    assert_same(read_state_dict(tmp_path / "w.safetensors"))
    assert_same(read_state_dict(str(tmp_path / "w.safetensors")))
    worse = {key: value + 1 for key, value in STATE.items()}
    for content in (
        STATE,
        {"model": STATE},
        {"state_dict": STATE, "epoch": 1, "args": argparse.Namespace(lr=0.1)},
        {"state_dict": worse, "state_dict_ema": STATE},
        {"model": worse, "model_ema": STATE},
        {"module." + key: value for key, value in STATE.items()},
        {"_orig_mod.module." + key: value for key, value in STATE.items()},
        {"module._orig_mod." + key: value for key, value in STATE.items()},
    ):
        torch.save(content, tmp_path / "w.pth")
        assert_same(read_state_dict(tmp_path / "w.pth"))


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_code_in_a_file_is_refused_and_not_run(tmp_path):
    mark = tmp_path / "ran"
    torch.save({**STATE, "c": Malicious(str(mark))}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="would run code"):
        read_state_dict(tmp_path / "w.pth")
    assert not mark.exists()
    torch.load(tmp_path / "w.pth", weights_only=False)  # the file is as bad as it was meant to be
    assert mark.exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_damaged_files(suffix, tmp_path):
    file = tmp_path / f"w{suffix}"
    save_file(STATE, file) if suffix == ".safetensors" else torch.save(STATE, file)
    whole = file.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:-1], b"", b"\0" * 100, b"<html>404</html>"):
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match="can't be read"):
            read_state_dict(file)


def test_files_that_are_not_weights(tmp_path):
    with pytest.raises(CheckpointError, match="there is none at"):
        read_state_dict(tmp_path / "absent.safetensors")
    with pytest.raises(CheckpointError, match="there is none at"):
        read_state_dict(tmp_path)
    (tmp_path / "w.npz").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match=r"must end in \.safetensors"):
        read_state_dict(tmp_path / "w.npz")
    for content, match in (
        ([1, 2], "got list"),
        ({}, "state dict"),
        ({"encoder": STATE}, "'encoder' is a dict"),
        ({"a": torch.tensor([1.0, float("inf")])}, "NaN or infinity in 'a'"),
    ):
        torch.save(content, tmp_path / "w.pt")
        with pytest.raises(CheckpointError, match=match):
            read_state_dict(tmp_path / "w.pt")


def test_compare():
    shapes = {"a": torch.Size([2, 3]), "pos_embed": torch.Size([1, 9, 3]), "c": torch.Size([4])}
    same = {"a": torch.zeros(2, 3), "pos_embed": torch.zeros(1, 4, 3), "c": torch.zeros(4)}
    assert str(compare(same, shapes)) == "all names and shapes agree"
    assert not compare(same, shapes).is_fatal  # the position table can be resampled
    assert not compare({**same, "a": torch.zeros(6)}, shapes).is_fatal  # the same numbers in another layout
    assert compare({**same, "a": torch.zeros(2, 4)}, shapes).reshaped == ("a",)
    assert compare({**same, "a": torch.zeros(2, 4)}, shapes).is_fatal
    assert compare({"a": same["a"]}, shapes).is_fatal
    renamed = compare({"a": same["a"], "pos_embed": same["pos_embed"], "d": same["c"]}, shapes)
    assert not renamed.is_fatal  # timm may know that "d" is "c"
    assert str(renamed) == "missing: c; unexpected: d"


def test_the_digest_sees_names_types_shapes_bytes_and_order():
    a = torch.arange(6.0)
    items = [("x", a), ("y", torch.tensor(3))]
    base = digest(items, "context")
    assert base == digest([("x", a.clone()), ("y", torch.tensor(3))], "context")
    assert base == digest([("x", torch.arange(12.0)[:6]), ("y", torch.tensor(3))], "context")
    nudged = a.clone()
    nudged[5] = torch.nextafter(nudged[5], torch.tensor(9.0))
    others = [
        digest(items, "other"),
        digest(items[::-1], "context"),
        digest([("z", a), items[1]], "context"),
        digest([("x", a.reshape(2, 3)), items[1]], "context"),
        digest([("x", a.view(torch.int32)), items[1]], "context"),
        digest([("x", nudged), items[1]], "context"),
        digest([("x", a.bfloat16()), items[1]], "context"),
    ]
    assert len({base, *others}) == 1 + len(others)


# The hub


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """An empty cache, no proxy, and a hub at a port where nothing listens."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("carrot._vit.checkpoints.getproxies", dict)
    return monkeypatch, constants, tmp_path


WAYS_ON = r"`checkpoint=` FILE.*`backbone=` \"toy\""


def test_a_silent_hub_is_noticed_at_once(hub):
    start = time.monotonic()
    with pytest.raises(HubUnreachableError, match=WAYS_ON) as caught:
        require_hub("timm/some_model", "some_model")
    assert time.monotonic() - start < 6  # the hub's client takes 47 seconds
    assert "127.0.0.1 does not answer" in str(caught.value)


def test_offline_cached_and_proxied(hub):
    monkeypatch, constants, cache = hub
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubUnreachableError, match=rf"HF_HUB_OFFLINE is set.*{WAYS_ON}"):
        require_hub("timm/some_model", "some_model")
    snapshot = cache / "models--timm--some_model" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(b"")
    require_hub("timm/some_model", "some_model")
    require_hub("timm/some_model@main", "some_model")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(HubUnreachableError):
        require_hub("timm/other_model", "other_model")
    monkeypatch.setattr("carrot._vit.checkpoints.getproxies", lambda: {"http": "http://proxy"})
    require_hub("timm/other_model", "other_model")  # only the client can tell what is behind a proxy


def test_a_hub_that_answers(hub):
    import socket

    monkeypatch, constants, _ = hub
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        require_hub("timm/some_model", "some_model")


def test_what_counts_as_a_network_failure():
    assert is_network_failure(ConnectionRefusedError())
    assert is_network_failure(TimeoutError())
    assert not is_network_failure(PermissionError())
    assert not is_network_failure(RuntimeError())
    assert not is_network_failure(None)
    wrapped = RuntimeError("the client gave up")
    wrapped.__cause__ = ConnectionResetError()
    assert is_network_failure(wrapped)


def test_no_file_is_written_by_reading(tmp_path):
    save_file(STATE, tmp_path / "w.safetensors")
    read_state_dict(tmp_path / "w.safetensors")
    assert [Path(p).name for p in tmp_path.iterdir()] == ["w.safetensors"]
