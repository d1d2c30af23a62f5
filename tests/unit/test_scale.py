"""The benchmarks of docs/scale.md run small, and its arithmetic is what it says."""

from pathlib import Path

import pytest

from benchmarks import gpu
from benchmarks import parts as measuring
from carrot.data.toy import ToyBirds
from docs import scale_table
from docs.scale_table import Assumed, a_picture, merging, plan

pytestmark = pytest.mark.usefixtures("surveyed_once")
WAY = ("ViT-S/16", "float32", "patches")


def test_the_gpu_benchmark_runs_on_a_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "SMALL", gpu.SMALL[-2:])
    rows, facts = gpu.run("cpu", 0, 100.0, quick=True)
    head, patches, tiles = rows
    assert head["off"] == 0.0, "the same device"
    assert 0.0 < patches["off"] < 0.05
    assert (patches["regions"], tiles["regions"]) == ("patches", "tiles:2")
    for row in (patches, tiles):
        for name in ("pictures_a_second", "decoded_a_second", "forward_a_second", "pooled_a_second"):
            assert row[name] > 0.0, name
    assert facts["left_out"] == []
    rows, facts = gpu.run("cpu", 0, -1.0, quick=True)
    assert len(rows) == 1
    assert len(facts["left_out"]) == 2, "no time is left for them: they are named"


def test_a_rate_is_that_of_what_comes_after_the_start() -> None:
    assert gpu.lists(10, 4) == [[0, 1, 2, 3], [4, 5, 6, 7]], "whole passes"
    assert gpu.steady(iter([4, 4, 4, 4]), 8) > 0.0
    assert gpu.steady(iter([4, 4]), 8) == 0.0, "all of it was the start"


def test_the_parts_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "D", 48)
    monkeypatch.setattr(measuring, "C", 5)
    birds = ToyBirds(n_train_per_class=1, n_test_per_class=1, n_species=2)
    for i in range(2):
        birds.image(i).save(tmp_path / f"{i}.jpg")
    rows = measuring.measured(tmp_path, [], quick=True)
    names = {row["part"] for row in rows}
    _, published = scale_table.parts()
    own = {name for name in names if not name.startswith("tests' ViT")}
    assert own <= published.keys(), "all that is measured is in the file of results"
    assert {
        f"{model} {precision}" for model in measuring.MODELS for precision in measuring.PRECISIONS
    } <= published.keys()
    assert all(row["seconds"] > 0.0 for row in rows)
    with pytest.raises(SystemExit, match="holds no JPEG"):
        measuring.measured(tmp_path / "nowhere", [], quick=True)


def test_time_cost_and_bottleneck() -> None:
    _, of = scale_table.parts()
    n, a = 1_000_000, Assumed(core_hour=0.1, read=100.0, kilobytes=50.0)
    each, end = a_picture(WAY, of), merging(n, 384, of)
    one = plan(n, WAY, 1, of, a)
    assert one.embedding == pytest.approx(n * sum(each.values()))
    assert one.time == pytest.approx(one.embedding + end)
    assert one.cost == pytest.approx(one.time / 3600 * 0.1)
    assert one.bottleneck.startswith("the backbone, ")
    many = plan(n, WAY, 512, of, a)
    assert many.embedding == pytest.approx(500.0), "50 GB at 100 MB/s, which more cores don't hasten"
    assert many.bottleneck.startswith("the disk, 100 MB/s, ")
    assert many.cost > one.cost, "512 cores wait"
    ample = plan(n, WAY, 10**9, of, Assumed(read=1e9))
    assert ample.bottleneck.startswith("the head's sums, one process, ")
    tiled = a_picture(("ViT-S/16", "float32", scale_table.TILES), of)
    assert tiled["the backbone"] == pytest.approx(25 * each["the backbone"])
    assert tiled["decoding"] == each["decoding"], "a picture is decoded once"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(3.0, "3 s"), (119.0, "119 s"), (150.0, "2.5 min"), (7300.0, "2.03 h"), (3e6, "34.7 days"), (1e9, "31.7 years")],
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert scale_table.told(seconds) == words


def test_what_limits_gpus() -> None:
    limits = {"the backbone": 100.0, "decoding": 150.0}
    assert scale_table.slowest_of(limits, 1, 1000.0) == (100.0, "the backbone")
    assert scale_table.slowest_of(limits, 8, 700.0) == (700.0, "the disk")
    assert scale_table.slowest_of({**limits, "decoding": 50.0}, 2, 700.0) == (100.0, "decoding")


def test_sizes_in_words() -> None:
    assert [scale_table.bytes_told(x) for x in (5e6, 5.04e9, 3.01e13)] == ["5 MB", "5.04 GB", "30.1 TB"]
