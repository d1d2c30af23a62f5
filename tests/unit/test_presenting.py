"""Results show themselves: a line, a card or page with nothing taken for markup, files by ending, frames, figures."""

import dataclasses
import importlib
import inspect
import json
import pkgutil
import re
import stat
import sys
import types
import webbrowser
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

import carrot
from carrot import Carrot, RegionGraph, RegionGraphBuilder, RegionSet, RidgeHead, StoreError
from carrot._display.brief import brief, one_line
from carrot._display.html import MOST_CELLS, heat
from carrot.attribution import dirichlet_energy
from carrot.classifier.arguing import Argument, Speaker
from carrot.classifier.audit import Audit
from carrot.classifier.certificate import Certificate
from carrot.classifier.flip import FlipStep, SmallestFlip
from carrot.classifier.hidden import HiddenRegion, HiddenRegions
from carrot.classifier.label_sets import LabelSets
from carrot.classifier.selection import Selection
from carrot.classifier.suspects import Suspect
from carrot.classifier.top_training import Leaning, Missed, TopTraining
from carrot.classifier.twins import Duplicates, Group
from carrot.classifier.what_if import WhatIf
from carrot.data.counts import Counts
from carrot.embedding.pooling import Pooling
from carrot.embedding.setting import Setting
from carrot.embedding.tokens import Tokens
from carrot.embedding.trace import Trace
from carrot.explanation.presenting import Presented
from carrot.regions import grid_positions
from tests.unit import test_page
from tests.unit.test_explanation import HOSTILE, explanation

F64 = torch.float64
ENDINGS = {"explanation": ("html", "json", "png", "svg", "pdf")}


def name(word: str) -> str:
    return f"{word}\n{HOSTILE}"


def audit(n: int = 25) -> Audit:
    """All labels contradicted, all pictures alike, and some held out."""
    suspects = tuple(
        Suspect(name(f"picture {i}"), name("jay"), name("wren"), -0.5, 0.01 * i, 0.25, True) for i in range(n)
    )
    pairs = tuple(Duplicates(name(f"a{i}"), name(f"b{i}"), 0.99, False, (name("jay"), name("wren"))) for i in range(n))
    held = (dataclasses.replace(suspects[0], leverage=None, split="test"),)
    groups = tuple(Group((name("a"), name("b")), name("jay"), name("wren"), 0.1, True, 2) for _ in range(n))
    return Audit(suspects, pairs, 0.95, held, Counts(1), groups, pairs)


def argument() -> Argument:
    suspect = audit(1).suspects[0]
    one = Speaker(name("y"), name("jay"), 0.5, True, "row 0", "row 1", ((0.0, 0.0, 0.5, 0.5), None))
    images: dict[str, Image.Image | str] = {suspect.id: Image.new("RGB", (8, 6)), name("y"): "gone"}
    return Argument(suspect, 9, 7, 0.1, (8, 0.05), (7, 0.06), (one,), (), None, (), images)


def flip(n: int = 12) -> SmallestFlip:
    steps = tuple(FlipStep(name(f"y{i}"), name("jay"), None, 0.5 - 0.1 * i, name("jay")) for i in range(n))
    small = Image.new("RGB", (8, 6))
    classes = (name("jay"), name("wren"))
    logits = torch.zeros(n + 1, 2, dtype=F64)
    return SmallestFlip(
        name("x"), "removal", classes, *classes, 0.6, steps, 3, 5, logits, (name("jay"),), True, 1e-15, small,
        ((small, "gone") * n)[: min(n, 10)],
    )  # fmt: skip


def label_sets(n: int = 25) -> LabelSets:
    p = torch.tensor([[0.5, 0.05], [0.05, 0.05], [0.5, 0.5]], dtype=F64).repeat(n, 1)[:n]
    pictures, classes = tuple(name(f"x{i}") for i in range(n)), (name("jay"), name("wren"))
    return LabelSets(pictures, classes, 0.1, True, p, p, torch.tensor([3, 30]))


def top_training(n: int = 25) -> TopTraining:
    fall = (Missed(name("a"), name("jay"), 0.25, name("wren")), Missed(name("b"), name("jay"), 0.125))
    answers = [Leaning(name(f"x{i}"), name("jay"), name("wren") if i else None, fall, ()) for i in range(n)]
    return TopTraining(2, (*answers[:-1], Leaning(name("last"), name("jay"), None, (), ())))


def hidden() -> HiddenRegions:
    effects = torch.randn(2, 3, dtype=F64)
    top = (
        HiddenRegion(name("first"), name("jay"), 1, "row 0, column 1", (0.0, 0.0, 4.0, 4.0), -0.5, "tile 1"),
        HiddenRegion(name("second"), name("wren"), 2, "that is the whole picture", None, -0.25, "all"),
    )
    ids = (name("first"), name("second"))
    return HiddenRegions(name("x"), name("jay"), name("wren"), 0.5, ids, effects, top, "tile", {name("gone"): "why"})


def what_if(C: int = 9) -> WhatIf:
    logits = torch.linspace(0, 1, C, dtype=F64)
    return WhatIf(name("x"), tuple(name(f"c{c}") for c in range(C)), logits, logits.flip(0), 0.1, (name("y"),))


def graph(N: int = 6) -> RegionGraph:
    return RegionGraphBuilder().build(RegionSet(torch.randn(N, 5, dtype=F64), grid_positions(1, N, F64)))


def trace(grid: tuple[int, int] = (3, 4), share: float = 0.0) -> Trace:
    H = torch.randn(1, grid[0] * grid[1], 5)
    tokens = Tokens(H, grid, torch.randn(1, 5) if share else None)
    return Pooling(Setting("identity", t=2.0, global_share=share)).trace(tokens)


LINES = tuple({"lift": name(f"l{i}"), "t": float(i), "loo_mse": 0.1 * i, "loo_accuracy": 0.5} for i in range(30))
PRESENTED: dict[type, Callable[[], Any]] = {
    Argument: argument,
    Audit: audit,
    HiddenRegions: hidden,
    LabelSets: label_sets,
    SmallestFlip: flip,
    TopTraining: top_training,
    WhatIf: what_if,
    carrot.Explanation: lambda: explanation(hostile=f"\n{HOSTILE}"),
}
SHOWN: dict[str, Callable[[], Any]] = {
    **{kind.__name__: make for kind, make in PRESENTED.items()},
    "Selection": lambda: Selection(LINES),
    "no Selection": lambda: Selection(()),
    "RegionGraph": graph,
    "one region": lambda: graph(1),
    "batch of graphs": lambda: RegionGraphBuilder().build(RegionSet(torch.randn(2, 4, 5), grid_positions(2, 2))),
    "Trace": trace,
    "Trace with a global region": lambda: trace(share=0.25),
    "Trace of one region": lambda: trace((1, 1)),
}
PLAIN_ATTRIBUTES = {"style", "scope", "alt", "src", "width", "height", "srcdoc", "sandbox", "loading"}
PLAIN_TAGS = {"div", "strong", "small", "table", "caption", "thead", "tbody", "tr", "th", "td"}
PLAIN_TAGS |= {"figure", "figcaption", "img", "iframe", "wbr"}


@pytest.fixture(autouse=True)
def _void(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_page, "VOID", {*test_page.VOID, "img", "wbr"})


def test_all_that_presents_itself_is_looked_at_here() -> None:
    assert set(Presented.__subclasses__()) == set(PRESENTED)


@pytest.mark.parametrize("kind", SHOWN)
def test_html_holds_names_as_text_and_asks_for_nothing(kind: str) -> None:
    shown = SHOWN[kind]()
    html = shown._repr_html_()
    assert "<script" not in html
    page = test_page.Page(html.replace("<wbr>", ""))  # where a path may break
    for tag, a in page.tags:
        assert tag in PLAIN_TAGS, tag
        assert set(a) <= PLAIN_ATTRIBUTES, a
        assert re.match("data:image/(png|jpeg);base64,", a.get("src", "data:image/png;base64,"))
        assert "url(" not in a.get("style", "")
    frames = page.all("iframe")
    if frames:
        assert frames[0]["sandbox"] == "allow-scripts", "no way back to the notebook"
        assert frames[0]["srcdoc"] == shown.to_html(), "the page, to the letter"
        page = test_page.Page(frames[0]["srcdoc"])
    if kind in {k.__name__ for k in PRESENTED} | {"Selection"}:
        assert " ".join(HOSTILE.split()) in page.text


@pytest.mark.parametrize("make", PRESENTED.values(), ids=lambda make: type(make()).__name__)
def test_a_page_is_whole_and_ours(make: Callable[[], Any]) -> None:
    text = make().to_html()
    page = test_page.Page(text)
    assert {"name": "generator", "content": "CARROT"} in page.all("meta")
    assert any("default-src 'none'" in a.get("content", "") for a in page.all("meta"))
    assert len(page.all("title")) >= 1
    assert "<script>alert" not in text, "a name is no script"


def test_long_lists_are_cut_and_say_so() -> None:
    assert audit()._repr_html_().count("<tr>") == 4 + 20 + 20 + 1 + 20
    assert audit()._repr_html_().count("the first 20; `to_frame` has all") == 4
    assert "has all" not in audit(20)._repr_html_()
    assert "and 4 more" in what_if()._repr_html_()
    assert "more" not in what_if(5)._repr_html_()
    assert Selection(LINES)._repr_html_().count("<tr>") == 1 + 20


# ---- one line


def arrays_of(kind: type) -> list[str]:
    fields = [f.type for f in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []
    return [str(t) for t in fields if re.search("Tensor|NDArray|Image", str(t)) and "Callable" not in str(t)]


ADAPTERS = ("carrot.referee.dattri", "carrot.referee.quanda")  # each imports the library it is for


def classes() -> list[type]:
    found = []
    for module in pkgutil.walk_packages(carrot.__path__, "carrot."):
        if module.name != "carrot.__main__" and module.name not in ADAPTERS:
            there = vars(importlib.import_module(module.name)).values()
            found += [c for c in there if isinstance(c, type) and c.__module__ == module.name]
    return found


def test_what_holds_arrays_says_so_in_a_line() -> None:
    holding = [c for c in classes() if arrays_of(c) and not c.__name__.startswith("_")]
    assert len(holding) > 20
    made = [(c.__name__, inspect.unwrap(c.__repr__).__code__.co_filename) for c in holding]
    dumps = [name for name, file in made if file == "<string>"]  # as dataclasses make them
    assert not dumps, f"their repr would be all of their numbers: give them `__repr__ = brief`: {dumps}"


def test_every_result_is_one_short_line() -> None:
    certificate = Certificate(({"id": name("x")},) * 9, 20, 11, 0.1, (), (), 1.0, None, 0, (), "scope " * 90, "now")
    head = RidgeHead(0.5, True).fit(torch.randn(9, 4, dtype=F64), torch.arange(9) % 3)
    e = PRESENTED[carrot.Explanation]()
    results = [
        *(make() for make in SHOWN.values()),
        *(certificate, head, RidgeHead(), head.logit(1), head.statistics, e.parts, e.picture, trace().regions),
        *(trace().readout, Pooling(Setting()), Carrot("toy").encoder),
    ]
    for result in results:
        line = repr(result)
        assert "\n" not in line
        assert len(line) < 220, line
        assert "tensor(" not in line
    assert repr(certificate) == "<Certificate: forgot 9; 20 training pictures before, 11 after>"
    assert repr(head) == "<RidgeHead lam 0.5, fitted on 9 embeddings: 4 features, 3 targets>"
    assert (
        repr(audit()) == "<Audit of 25 training pictures, 1 held out: 26 labels doubtful (26 look wrong), "
        "25 groups of hidden ones, 25 pairs nearly the same, 25 leaks>"
    )
    assert repr(graph()) == "<RegionGraph W (6, 6), degree (6,), is_kernel True>"
    assert repr(e.parts) == f"<LogitParts of class 1: logit {e.parts.logit:+.6f}; 12 regions, 9 training pictures>"


def test_a_line_keeps_both_ends_of_a_long_name() -> None:
    whole = f"/home/{'x' * 300}/robin/17.jpg"
    assert len(one_line(whole)) == 60
    assert one_line(whole).startswith("/home/xxx")
    assert one_line(whole).endswith("x/robin/17.jpg")
    assert one_line("a\n b") == "a b"


def test_brief_leaves_out_what_is_absent() -> None:
    tokens = Tokens(torch.randn(2, 12, 5), (3, 4))
    assert brief(tokens) == repr(tokens) == "<Tokens H (2, 12, 5), grid_hw (3, 4)>"


# ---- files


@pytest.mark.parametrize("kind", PRESENTED, ids=lambda kind: kind.__name__)
def test_it_is_saved_by_its_ending_and_again(kind: type, tmp_path: Path) -> None:
    result = PRESENTED[kind]()
    begins = {"html": b"<!DOCTYPE html>", "json": b"{", "png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    for form in ENDINGS.get(kind.__name__.lower(), ("html", "json")):
        path = tmp_path / "new" / f"x.{form.upper()}"
        assert result.save(str(path)) == path
        assert path.read_bytes().startswith(begins[form])
        result.save(path)  # a cell that runs again replaces its own
    data = json.loads((tmp_path / "new" / "x.JSON").read_text())
    assert data["format"] == f"carrot {kind._format}"  # type: ignore[attr-defined]
    assert data == json.loads(json.dumps(data | result.to_dict()))


def test_nothing_of_the_users_is_replaced(tmp_path: Path) -> None:
    e, own = explanation(), Figure()
    own.add_subplot().plot([1, 2])
    (tmp_path / "x.html").write_text("<!DOCTYPE html><p>CARROT</p>")
    (tmp_path / "x.json").write_text('{"format": "carrot explanation"}')  # not as it is written here
    for form in ("png", "svg", "pdf"):
        own.savefig(tmp_path / f"x.{form}")
    for path in sorted(tmp_path.iterdir()):
        before = path.read_bytes()
        with pytest.raises(StoreError, match="is there already, and no command wrote it"):
            e.save(path)
        assert path.read_bytes() == before
    (tmp_path / "empty.json").touch()
    e.save(tmp_path / "empty.json")


def test_other_endings_are_refused(tmp_path: Path) -> None:
    for path in ("x.jpg", "x", "x.html.txt", "html"):
        with pytest.raises(ValueError, match=r"`path` must end in .html, .json, .png, .svg or .pdf; got"):
            explanation().save(tmp_path / path)
    with pytest.raises(ValueError, match=r"`path` must end in .html or .json; got 'x.csv'"):
        audit().save(tmp_path / "x.csv")
    assert not list(tmp_path.iterdir())


# ---- show


def test_it_opens_in_the_browser(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    opened: list[str] = []
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(webbrowser, "open", lambda uri: opened.append(uri) or True)
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: object()))  # of a terminal
    explanation().show()
    (page,) = tmp_path.iterdir()
    assert opened == [page.as_uri()]
    assert page.read_text() == explanation().to_html()
    assert stat.S_IMODE(page.stat().st_mode) == 0o600, "pictures are nobody else's business"


def test_without_a_browser_it_says_where_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(webbrowser, "open", lambda uri: False)
    what_if().show()
    (page,) = tmp_path.iterdir()
    assert capsys.readouterr().out == f"There is no browser to open it with; the page lies at {page}\n"


def test_a_notebook_displays_it(monkeypatch: pytest.MonkeyPatch) -> None:
    displayed: list[object] = []
    shell = types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(display=displayed.append))
    monkeypatch.setattr(webbrowser, "open", lambda uri: pytest.fail("a browser beside the notebook"))
    found = audit()
    found.show()
    assert displayed == [found]


# ---- frames


class Frame:
    """What stands for a data frame where pandas is not needed: columns, all of one length."""

    def __init__(self, columns: Mapping[str, list[Any]]) -> None:
        self.columns = dict(columns)
        assert len({len(values) for values in columns.values()}) == 1

    def __getitem__(self, name: str) -> np.ndarray:
        return np.array(self.columns[name])


@pytest.fixture
def pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", types.SimpleNamespace(DataFrame=Frame))


@pytest.mark.usefixtures("pandas")
@pytest.mark.parametrize("num_global", [0, 2])
def test_frames_of_an_explanation_add_up(num_global: int) -> None:
    e = explanation(num_global=num_global, against=4)
    p, regions = e.parts, e.to_frame()
    assert regions["token"].sum() + p.prior == pytest.approx(p.logit, abs=1e-12)
    assert regions["node"].tolist() == p.node.tolist()
    assert regions["drop"].tolist() == p.drop.tolist()
    assert regions.columns["x1"][: len(e.picture.boxes)] == e.picture.boxes[:, 2].tolist()
    assert regions.columns["x1"][len(e.picture.boxes) :] == [None] * num_global
    assert regions.columns["place"][5] == "row 1, column 1"
    training = e.to_frame("training")
    assert training["dual"].sum() + p.prior == pytest.approx(p.logit, abs=1e-12)
    assert training["label_part"].sum() == pytest.approx(p.logit, abs=1e-12)
    assert (np.diff(training["removal"]) <= 0).all()
    assert training["id"].tolist() == [e.training_ids[i] for i in training["row"]]
    assert set(training["row"][training["shown"]]) == set(e.shown)
    pairs = e.to_frame("pairs")
    for i, found in e.pair_maps.items():
        mine = pairs["training_id"] == e.training_ids[i]
        assert pairs["contribution"][mine].sum() == pytest.approx(float(p.dual[i]), abs=1e-12)
        here = pairs["region"][mine], pairs["training_region"][mine]
        assert pairs["contribution"][mine].tolist() == found.numpy()[here].tolist()
    assert (np.diff(pairs["contribution"]) <= 0).all()
    classes = e.to_frame("classes")
    assert (classes["class"].tolist(), classes["logit"].tolist()) == (list(e.classes), p.logits.tolist())


@pytest.mark.usefixtures("pandas")
def test_frames_of_other_results_have_all_of_them() -> None:
    found = audit()
    suspects = found.to_frame()
    assert suspects.columns["id"] == [s.id for s in (*found.suspects, *found.held_out)]
    assert suspects.columns["leverage"][-1] is None
    assert list(suspects.columns) == [f.name for f in dataclasses.fields(Suspect)]
    pairs = found.to_frame("duplicates")
    assert len(pairs["cosine"]) == 25
    assert pairs.columns["second_label"][0] == name("wren")
    assert found.to_frame("leaks").columns["first"] == pairs.columns["first"]
    groups = found.to_frame("groups")
    assert groups.columns["group"] == [k for k in range(25) for _ in range(2)]
    assert groups.columns["id"] == [name("a"), name("b")] * 25
    told = argument().to_frame()
    assert told.columns["side"] == ["for"]
    assert told.columns["effect"] == [0.5]
    regions = hidden()
    effects, top = regions.to_frame("effects"), regions.to_frame()
    assert effects["effect"].reshape(2, 3).tolist() == regions.effects.tolist()
    assert effects.columns["training_id"][4] == name("second")
    assert effects.columns["region"] == [0, 1, 2] * 2
    assert top.columns["x1"] == [4.0, None]
    asked = what_if()
    assert asked.to_frame()["after"].tolist() == asked.logits.tolist()
    assert asked.to_frame()["probability"].tolist() == asked.probabilities.tolist()
    assert Selection(({"t": 0.0}, {"t": 1.0, "power": 8})).to_frame().columns == {"t": [0.0, 1.0], "power": [None, 8]}


@pytest.mark.usefixtures("pandas")
def test_an_unknown_table_is_refused() -> None:
    with pytest.raises(
        ValueError, match="`what` must be one of 'regions', 'training', 'pairs', 'classes'; got 'pixels'"
    ):
        explanation().to_frame("pixels")
    kinds = "'suspects', 'duplicates', 'groups', 'leaks'"
    with pytest.raises(ValueError, match=f"`what` must be one of {kinds}; got 'labels'"):
        audit().to_frame("labels")


def test_without_pandas_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    for make in (*PRESENTED.values(), lambda: Selection(LINES)):
        with pytest.raises(ImportError, match="pip install pandas, or in CARROT's checkout"):
            make().to_frame()


def test_they_are_data_frames() -> None:
    pd = pytest.importorskip("pandas", reason="pip install '.[frames]'")
    for make in (*PRESENTED.values(), lambda: Selection(LINES), lambda: Selection(())):
        assert isinstance(make().to_frame(), pd.DataFrame)
    assert dataclasses.replace(audit(), duplicates=()).to_frame("duplicates").columns.tolist()[-1] == "second_label"


# ---- figures


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_a_trace_is_drawn(share: float) -> None:
    found = trace(share=share)
    figure = found.plot()
    assert isinstance(figure, Figure)
    assert figure._repr_png_().startswith(b"\x89PNG"), "a notebook shows it, whatever backend is set"
    panels = {axis.get_title(): axis for axis in figure.axes if axis.get_title()}
    of_pi = next(title for title in panels if title.startswith("pi"))
    assert list(panels) == ["W", "degree", of_pi, "spectrum of L", "Dirichlet energy of each region"]
    assert ("the whole picture has" in of_pi) == bool(share)
    np.testing.assert_array_equal(panels["W"].images[0].get_array(), found.W.numpy())
    np.testing.assert_array_equal(panels[of_pi].images[0].get_array(), found.pi[:12].reshape(3, 4).numpy())
    np.testing.assert_array_equal(panels["degree"].images[0].get_array(), found.graph.degree[:12].reshape(3, 4))
    eigenvalues, left = (line.get_ydata() for line in panels["spectrum of L"].lines)
    np.testing.assert_allclose(eigenvalues, torch.linalg.eigvalsh(found.L.double()), atol=1e-6)
    np.testing.assert_allclose(left, np.exp(-2.0 * eigenvalues))
    before, after = (line.get_ydata() for line in panels["Dirichlet energy of each region"].lines)
    np.testing.assert_array_equal(before, dirichlet_energy(found.H, found.graph))
    np.testing.assert_array_equal(after, dirichlet_energy(found.H_prime, found.graph))
    assert after.sum() < before.sum()


def test_a_graph_is_drawn_and_a_batch_is_refused() -> None:
    one = graph()
    panels = {axis.get_title(): axis for axis in one.plot().axes}
    assert [bar.get_height() for bar in panels["degree"].patches] == one.degree.tolist()
    batch = RegionGraph(one.W.expand(2, 6, 6), one.degree.expand(2, 6))
    with pytest.raises(ValueError, match=r"`plot` needs the graph of one picture; W is \(2, 6, 6\)"):
        batch.plot()


def test_an_explanation_is_a_figure_that_notebooks_show() -> None:
    assert explanation().plot()._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]


def test_a_large_matrix_is_a_small_picture() -> None:
    assert len(heat(np.random.default_rng(0).random((1500, 1500)), "W")) < 4 * MOST_CELLS**2
    heat(np.zeros((1, 9)), "zeros")


def test_the_page_on_notebooks_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "notebooks.md").read_text()
    first, second = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(first, "notebooks.md", "exec"), names)
    assert {p.name for p in tmp_path.iterdir()} >= {"bird.html", "trace.png", "graph.png"}
    pytest.importorskip("pandas", reason="pip install '.[frames]'")
    exec(compile(second, "notebooks.md", "exec"), names)
