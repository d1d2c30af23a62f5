"""A model that was loaded knows where its rows lie: an engine goes over them, and says what one process says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.utils._python_dispatch
from torch import Tensor

from carrot import EngineError, RidgeHead, cli
from carrot import influence as inf
from carrot._ridge import blocks, factor, passes
from carrot.classifier.audit import Audit
from carrot.classifier.classifier import Classifier
from carrot.classifier.files import load, save
from carrot.classifier.merging import fit_rows
from carrot.classifier.records import TrainingRecord
from carrot.embedding.encoder import Encoder
from carrot.embedding.setting import Setting
from carrot.engine import use
from tests.unit.test_passes import Shuffled

N, D, C = 90, 6, 4
CLASSES = tuple(f"class {c}" for c in range(C))


def made(n: int = N, width: int = D) -> Classifier:
    """A model of numbers that were drawn, some of them with another's label."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(n) % C
    G = torch.randn(n, width, generator=generator) + 2 * torch.nn.functional.one_hot(y, width)
    y[[10, 40]] = (y[[10, 40]] + 1) % C
    records = [TrainingRecord(f"p{i}", int(c), f"{i:>064}") for i, c in enumerate(y)]
    return fit_rows(Encoder("toy"), Setting("identity"), CLASSES, "name", records, G)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "m"
    save(folder, made())
    return folder


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several groups of several blocks, none of them whole."""
    monkeypatch.setattr(passes, "GROUP", 25)
    monkeypatch.setattr(blocks, "ENTRIES", 10 * D)
    monkeypatch.setattr(blocks, "STRIP", 4)
    monkeypatch.setattr(factor, "STRIP", 4)


def everything(folder: Path) -> tuple[dict[str, Tensor], dict[str, object], dict[str, float], float]:
    """What is asked of a model that was read anew, of all its pictures."""
    fitted = load(folder).fitted
    head, g = fitted.head, torch.linspace(-1.0, 3.0, 7 * D, dtype=torch.float64).reshape(7, D)
    found = {"slack": head.slack, "S": head.statistics.S, "loo": torch.cat([x for _, x in fitted.left_out.blocks()])}
    for kind in ("removal", "label"):
        for values, indices in inf.supporters_and_opposers(head, g, 5, kind):  # type: ignore[arg-type]
            found |= {f"{kind} {len(found)}": values, f"{kind} {len(found)} of": indices}
    T = fitted.left_out.temperature()
    return found, Audit.of(fitted).to_dict(), fitted.left_out.figures(T), T


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("held", [True, False])
def test_an_engine_says_what_one_process_says(folder: Path, held: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leverages, moments, leave-one-out and its figures, audit, the best training pictures: the same bits."""
    if not held:
        monkeypatch.setattr("carrot._ridge.asked.HELD", 0)
    here = everything(folder)
    for workers in (3,):
        engine = Shuffled(workers, workers)
        with use(engine):
            there = everything(folder)
        assert engine.jobs >= (9 if held else 12)  # temperature, figures and suspects too, block by block
        for name, x in here[0].items():
            assert torch.equal(x, there[0][name]), name
        assert there[1:] == here[1:]


@pytest.mark.usefixtures("small")
def test_rows_of_the_first_format_are_opened_too() -> None:
    old = Path(__file__).parents[1] / "fixtures" / "model_v1"
    head = load(old).fitted.head
    opened = head._need_rows().open
    assert opened is not None
    assert torch.equal(opened(), head.G)


@pytest.mark.usefixtures("small")
def test_a_model_that_was_saved_anew_meanwhile_is_told(tmp_path: Path) -> None:
    save(tmp_path / "m", made())
    fitted = load(tmp_path / "m").fitted
    save(tmp_path / "m", made(80))
    with pytest.raises(EngineError, match=r"rows-.*load it again"), use(Shuffled(2)):
        fitted.head.leverage  # noqa: B018
    assert len(fitted.head.leverage) == N, "the rows are still this process's own"


@pytest.mark.usefixtures("small")
def test_the_command_audits_on_the_engine(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["audit", str(folder), "--no-held-out", "--json"]
    assert cli.main(words) == 0
    told, engine = capsys.readouterr().out, Shuffled(2)
    with use(engine):
        monkeypatch.setattr("carrot.cli.options.EngineOptions.at_work", lambda self: use(engine))
        assert cli.main(words) == 0
    assert engine.jobs > 1
    assert capsys.readouterr().out == told


class Longest(torch.utils._python_dispatch.TorchDispatchMode):
    """Remembers how many numbers the largest result had, however it lies in memory."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for x in result if isinstance(result, tuple | list) else [result]:
            self.numbers = max(self.numbers, x.numel() if isinstance(x, Tensor) else 0)
        return result


def test_of_one_question_nothing_of_the_size_of_the_training_set_is_worked_out(tmp_path: Path) -> None:
    """Of a model that was loaded, after its first question."""
    n, width = 5000, 24
    save(tmp_path / "m", made(n, width))
    head = load(tmp_path / "m").fitted.head
    g = torch.from_numpy(np.random.default_rng(1).normal(size=width))

    def asked(i: int) -> list[Tensor]:
        return [
            inf.group_removal_effect(head, g, [i]),
            inf.edit_effect(head, g, [i], {i + 1: 1}),
            inf.relabel_effect(head, g, i, 2),
            inf.replacement_effect(head, g, i, g),
            head.logit(1).predict(g),
        ]

    asked(7)
    with Longest() as longest:
        found = asked(17)
    assert longest.numbers < n
    assert isinstance(head, RidgeHead)
    torch.testing.assert_close(found[0], head.predict(g) - head.without(17).predict(g), rtol=1e-8, atol=1e-12)
