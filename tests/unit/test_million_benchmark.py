"""The benchmark of a million pictures runs, at a small size: answers are checked, jobs say what they took."""

from pathlib import Path

from benchmarks.million import Made, check, job


def test_it_checks_itself_and_each_job_says_what_it_took(tmp_path: Path) -> None:
    assert check(tmp_path / "few") < 1e-9
    made = Made(600, 12, 5)
    found = {which: job(which, tmp_path / "model", made) for which in ("fit", "load", "audit")}
    for row in found.values():
        assert row["seconds"].keys() == row["cpu_seconds"].keys()
        assert row["own_GiB"] > 0
    assert found["fit"]["files_bytes"].keys() == {"rows", "model", "records", "config.json"}
    assert found["load"]["accuracy"] > 0.5
    assert found["audit"]["planted"] == 6
    assert found["audit"]["left_out"] == []
