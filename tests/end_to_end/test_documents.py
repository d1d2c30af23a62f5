"""The documents are true to the code: every Python block runs, every command is one, every link leads somewhere."""

import contextlib
import importlib.util
import io
import re
from pathlib import Path
from typing import Any

import pytest

from carrot import cli
from carrot.data.toy import ToyBirds
from docs import benchmark_tables

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"(?:^<!-- (?P<note>[^\n]*) -->\n)?^```(?P<kind>python|sh)\n(?P<code>.*?)^```$", re.M | re.S)
Block = tuple[str, str]  # the comment before it, the code


def blocks(page: Path, kind: str) -> list[Block]:
    """Return the blocks of a page, each with what the comment above it says."""
    return [(m["note"] or "", m["code"]) for m in BLOCK.finditer(page.read_text()) if m["kind"] == kind]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages speak of: ``my_pictures`` with robins and wrens, and ``new.jpg``."""
    folder, birds = tmp_path_factory.mktemp("documents"), ToyBirds(18, 1, n_species=4)
    for species, named in ((0, "robin"), (3, "wren")):
        (folder / "my_pictures" / named).mkdir(parents=True)
        for k in range(18):
            birds.image(18 * species + k).save(folder / "my_pictures" / named / f"{k + 1}.jpg")
    birds.image(72).save(folder / "new.jpg")
    return folder


@pytest.fixture
def at_work(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as a reader has it."""
    for path in pictures.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(page: Path) -> tuple[str, dict[str, Any]]:
    """Run the blocks of a page, one after the other, as one script; return what was printed, and its names.

    A comment above a block says why it isn't run: ``needs: NAMES``, packages that may be absent, or ``not run: WHY``;
    such a block is compiled.
    """
    out, names = io.StringIO(), dict[str, Any]()
    for note, code in blocks(page, "python"):
        compiled = compile(code, name(page), "exec")
        needs = note.removeprefix("needs: ").split(", ") if note.startswith("needs: ") else []
        if note.startswith("not run: ") or not all(map(importlib.util.find_spec, needs)):
            continue
        with contextlib.redirect_stdout(out):
            exec(compiled, names)
    return out.getvalue(), names


WITH_PYTHON = [page for page in PAGES if blocks(page, "python") and page.name not in ("by_hand.md", "tutorial.md")]


@pytest.mark.usefixtures("at_work")
@pytest.mark.parametrize("page", WITH_PYTHON, ids=name)
def test_every_python_block_runs(page: Path) -> None:
    run(page)


@pytest.mark.usefixtures("at_work")
def test_the_prediction_adds_up_again() -> None:
    out, names = run(ROOT / "docs" / "by_hand.md")
    logit, regions, training = (float(x) for x in re.findall(r"tensor\(([-.\d]+),", out)[:3])
    assert logit == pytest.approx(regions, abs=2e-4)  # printed to four digits
    assert logit == pytest.approx(training, abs=2e-4)
    assert len(names["by_region"]) == 100
    assert len(names["by_picture"]) == 60


def test_the_tutorial_does_what_it_says(at_work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = ROOT / "docs" / "tutorial.md"
    _, names = run(page)
    p, c = names["p"], names["c"]
    assert float(names["answer"].regions.sum()) + p.prior == pytest.approx(p.logit, abs=1e-12)
    others = names["model"].decision_function("new.png")[0]
    assert names["promised"].logits[c] == pytest.approx(others[c], abs=1e-10)
    assert len({s.id for s in names["suspects"]} & names["planted"]) >= 3
    assert (at_work / "new.html").stat().st_size > 10_000
    assert (at_work / "birds_model" / "config.json").is_file()
    (commands,) = [code for note, code in blocks(page, "sh") if note == "run"]
    for line in commands.splitlines():
        assert cli.main(line.split()[1:]) == 0, line
    assert "exact leave-one-out" in capsys.readouterr().out


def commands_of(page: Path) -> list[str]:
    return [line.split("#")[0].strip() for _, code in blocks(page, "sh") for line in code.splitlines() if line]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "sh")], ids=name)
def test_every_command_is_one(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for line in commands_of(page):
        program, *arguments = line.split()
        if program == "carrot":
            cli.app.parse_args(arguments, exit_on_error=False, print_error=False)
        elif program == "make":
            assert re.search(rf"^{arguments[0]}:", makefile, re.M), line
        elif program == "python":
            file = arguments[1].replace(".", "/") + ".py" if arguments[0] == "-m" else arguments[0]
            assert (ROOT / file).is_file(), line
        else:
            assert program == "pip", line


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        assert ":" in target or (page.parent / target).exists(), target


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().split()) < 700


@pytest.mark.parametrize("page", benchmark_tables.PAGES)
def test_tables_are_the_results(page: str) -> None:
    assert (ROOT / page).read_text() == benchmark_tables.rewritten(page)
