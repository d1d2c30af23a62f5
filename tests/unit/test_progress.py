"""Progress goes to standard error, and loses no piece."""

import pytest

from carrot import _progress as module
from carrot._progress import progress


def test_every_piece_comes_through_and_standard_output_stays_clean(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.0)
    assert list(progress("abc", "spelling", 3, "letters", size=4, most=10)) == ["a", "b", "c"]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "spelling: 4 of 10" in captured.err
    assert "spelling: 10 of 10" in captured.err
    assert list(progress([], "nothing", 0)) == []


def test_in_a_log_the_first_line_comes_soon_and_others_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 400, 4))
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(clock)))  # a piece takes 4 seconds
    assert len(list(progress(range(20), "counting", 20, "numbers"))) == 20
    assert [line.split(",")[0] for line in capsys.readouterr().err.splitlines()] == [
        "counting: 2 of 20",
        "counting: 10 of 20",
        "counting: 18 of 20",
    ]


def test_on_a_terminal_there_is_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert list(progress(range(5), "counting", 5, "numbers")) == list(range(5))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "counting" in captured.err
    assert "5/5" in captured.err


def test_a_brief_bar_goes_when_it_is_full(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    left = {}
    for brief in (False, True):
        assert list(progress(range(5), "counting", 5, "numbers", brief=brief)) == list(range(5))
        left[brief] = capsys.readouterr().err.rpartition("\x1b[2K")[2]  # what stands after the last line was wiped
    assert "5/5" in left[False]
    assert "counting" not in left[True]
