"""The README's code runs as printed and says what the README says."""

import contextlib
import io
import re
from pathlib import Path

import pytest

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()


def test_the_prediction_adds_up_again() -> None:
    _, code = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    out = io.StringIO()
    names: dict[str, object] = {}
    with contextlib.redirect_stdout(out):
        exec(compile(code, "README.md", "exec"), names)
    logit, regions, pictures = (float(x) for x in re.findall(r"tensor\(([-.\d]+),", out.getvalue())[:3])
    assert logit == pytest.approx(regions, abs=2e-4)  # printed to four digits
    assert logit == pytest.approx(pictures, abs=2e-4)
    assert len(names["by_region"]) == 100
    assert len(names["by_picture"]) == 60


def test_the_model_does_what_it_promised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, _ = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "README.md", "exec"), {})
    residuals = [float(x) for x in re.findall(r": ([-.\de]+)[,}]", out.getvalue())]
    assert len(residuals) >= 5
    assert max(map(abs, residuals)) < 1e-12
    measured, promised = (float(x) for x in re.findall(r"[-.\de]+", out.getvalue().splitlines()[-1])[-2:])
    assert measured == pytest.approx(promised, abs=1e-10)
    assert (tmp_path / "bird.html").stat().st_size > 10_000
    assert (tmp_path / "birds_model" / "config.json").is_file()


def test_every_file_that_it_names_is_there() -> None:
    root = Path(__file__).resolve().parents[2]
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (root / target).exists(), target
