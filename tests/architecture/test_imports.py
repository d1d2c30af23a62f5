"""The structure: imports run one way, timm stays behind one door, importing is light, main.py is short."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from carrot._display.extras import EXTRAS

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "carrot"

# Each module may import those of its own line and of the lines before; a package stands for all that is in it.
LAYERS = [
    ["errors", "utils", "_ambient", "_progress", "_lazy", "_choices", "_display"],
    ["_images"],
    ["engine"],
    ["regions"],
    ["graph"],
    ["laplacian"],
    ["operator"],
    ["readout"],
    ["lift"],
    ["_ridge"],
    ["head"],
    ["influence", "removal", "edits"],
    ["attribution"],
    ["_vit"],
    ["tiling"],
    ["backbone"],
    ["data"],
    ["store"],
    ["evaluation"],
    ["embedding"],
    ["explanation"],
    ["classifier"],
    ["overview"],
    ["model"],
    ["protocol", "export", "report", "estimators", "referee"],
    ["app"],
    ["cli"],
]
RANK = {name: place for place, line in enumerate(LAYERS) for name in line}
# Imported for their type alone, by what is made for them: a method that returns a view, a mixin that returns its user.
TYPES_ONLY = {
    *(
        (f"_ridge/{name}.py", "head")
        for name in (
            *("again", "asked", "best", "conformal", "edit", "edited", "logit", "pool", "questions", "replacement"),
            *("settled", "streamed", "vouching"),
        )
    ),
    ("classifier/hub.py", "model"),
}
HEAVY = (
    "timm",
    "torchvision",
    "matplotlib",
    "gradio",
    "scipy",
    "sklearn",
    "PIL",
    "rich",
    "pandas",
    "starlette",
    "uvicorn",
)


def imports(path: Path) -> set[str]:
    """Return every module that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path.name}: relative import"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def place(path: Path) -> str:
    """Return the module's name in ``LAYERS``: its own, or that of its package."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


THEORY = [p for p in modules() if place(p) in RANK and RANK[place(p)] <= RANK["attribution"]]
THEORY = [
    p for p in THEORY if place(p) not in ("errors", "_progress", "_lazy", "_choices", "_images", "_display", "engine")
]


def upward(path: Path) -> set[str]:
    """Return what a module imports from the lines after its own."""
    ours = {m.split(".")[1] for m in imports(path) if m.startswith("carrot.")} - {"__version__"}
    assert ours <= set(RANK), f"{path.name}: {ours - set(RANK)} has no place in LAYERS"
    return {name for name in ours if RANK[name] > RANK[place(path)]}


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_imports_run_one_way(path: Path) -> None:
    name = path.relative_to(PACKAGE).as_posix()
    if name in ("__init__.py", "__main__.py"):  # the face of all, and the door of the command
        return
    assert place(path) in RANK, f"{name}: has no place in LAYERS"
    assert {(name, other) for other in upward(path)} <= TYPES_ONLY


def test_what_is_imported_upwards_is_imported_for_its_type_alone() -> None:
    for name, other in TYPES_ONLY:
        tree = ast.parse((PACKAGE / name).read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                node.body = [ast.Pass()]
        assert f"carrot.{other}" not in ast.unparse(tree)


def test_the_folder_is_the_paper() -> None:
    """What lies flat is the theory, the model, and what all of it stands on; anything else has a package."""
    flat = {p.stem for p in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    theory = {place(p) for p in THEORY} - {"_ridge", "edits", "_ambient", "utils"}
    under = {"errors", "utils", "_ambient", "_choices", "_images", "_lazy", "_progress"}
    assert flat == theory | under | {"backbone", "model", "report", "tiling"}
    assert len(flat) <= 21


@pytest.mark.parametrize("path", THEORY, ids=lambda p: p.stem)
def test_theory_touches_no_file_picture_or_progress_bar(path: Path) -> None:
    outside = {m.split(".")[0] for m in imports(path)}
    ours = {m.split(".")[1] for m in imports(path) if m.startswith("carrot.")}
    assert not ours & {"_images", "_progress"}
    assert not outside & {
        "os",
        "pathlib",
        "io",
        "PIL",
        "rich",
        "tqdm",
        "safetensors",
        "timm",
        "torchvision",
        "matplotlib",
    }


def test_there_are_no_gradients_and_no_optimisers_in_the_theory() -> None:
    assert len(THEORY) > 15
    for path in THEORY:
        text = path.read_text()
        for word in ("torch.optim", "nn.Module(", "backward(", "requires_grad", "autograd"):
            assert word not in text, f"{path.name}: {word}"


def test_only_the_backbone_imports_timm() -> None:
    theirs = {
        p.relative_to(PACKAGE).as_posix() for p in modules() if any(m.split(".")[0] == "timm" for m in imports(p))
    }
    assert theirs == {"backbone.py", "_vit/transform.py"}


def test_class_attention_reads_a_model_that_it_is_given() -> None:
    """No timm, and nothing of the theory."""
    found = imports(PACKAGE / "_vit" / "class_attention.py")
    assert {m.split(".")[1] for m in found if m.startswith("carrot.")} == {"errors", "_vit"}
    assert not {m.split(".")[0] for m in found} & {"timm", "os", "pathlib", "io", "PIL"}


def test_nothing_unpickles() -> None:
    for path in modules():
        assert not imports(path) & {"pickle", "joblib", "dill", "shelve"}, path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert keywords.get("weights_only") == "True", path


def test_main_is_under_150_lines() -> None:
    assert len((ROOT / "main.py").read_text().splitlines()) < 150


def test_main_is_the_guide() -> None:
    """Every stage of the theory is named in it, and nothing that chooses settings or draws."""
    found = {
        node.attr for node in ast.walk(ast.parse((ROOT / "main.py").read_text())) if isinstance(node, ast.Attribute)
    }
    stages = "TimmViTPatchBackbone RegionSet RegionGraphBuilder DiffusionOperator GraphReadout RidgeHead"
    answers = "region_contribution remove_each_region training_contribution label_contribution removal_effect"
    assert found >= {*stages.split(), *answers.split(), "pair_contribution"}
    assert not imports(ROOT / "main.py") & {"itertools", "matplotlib", "carrot.model", "carrot.evaluation.select"}


def test_modules_hold_one_idea() -> None:
    long = {p.name: n for p in modules() if (n := len(p.read_text().splitlines())) > 350}
    assert not long


def test_importing_carrot_is_light() -> None:
    """A fresh interpreter: torch, yes; timm, torchvision, matplotlib, scipy and the rest only where they are used."""
    script = f"import sys, carrot, carrot.attribution; print([m for m in {HEAVY!r} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == "[]"


def test_importing_the_package_alone_loads_no_torch() -> None:
    script = "import sys, carrot; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    script = "import carrot; print([n for n in carrot.__all__ if not hasattr(carrot, n)])"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error() -> None:
    import carrot

    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = carrot.nothing_of_the_kind


def test_the_page_on_the_house_is_true() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    layers = page.split("```\n")[1].strip().splitlines()
    assert [line.split() for line in layers] == LAYERS
    for path in set(re.findall(r"`([a-z_/0-9]+\.py)`", page)) - {"main.py"}:
        assert (PACKAGE / path).exists() or (ROOT / path).exists(), path
    for folder in set(re.findall(r"`([a-z_]+)/`", page)):
        assert (PACKAGE / folder).is_dir(), folder
    packages = {p.parent.name for p in PACKAGE.glob("*/__init__.py")}
    assert packages <= set(re.findall(r"`([a-z_]+)/`", page))


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([\w./-]+)[)#]", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_extras_are_those_of_the_package_and_no_message_names_a_package_that_is_nowhere() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra, packages in EXTRAS.items():
        assert set(packages.values()) <= {re.split("[<>=]", line)[0] for line in declared[extra]}, extra
    for path in (*modules(), ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        text = path.read_text().replace("\n", " ")
        assert not re.search(r"pip install ['\"]?carrot-attribution", text), f"{path}: it is on no index"
        if path.suffix == ".py" and path.name != "extras.py":
            assert "pip install '.[" not in path.read_text(), f"{path}: carrot._display.extras says how"
