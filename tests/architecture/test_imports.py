"""The structure: imports run one way, timm stays behind one door, importing is light, main.py is short."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "carrot"

# Each module may import those before it. Modules of one concept stand on one line.
ORDER = [
    ["errors", "utils", "ambient"],
    ["regions"],
    ["graph"],
    ["laplacian", "operator"],
    ["readout"],
    ["lift"],
    ["blocks", "statistics", "rows", "gram", "ridge", "loo", "restored", "solution", "logit", "head"],
    ["removal", "influence", "attribution"],
]
THEORY = [name for line in ORDER for name in line]
HEAVY = ("timm", "torchvision", "matplotlib", "gradio", "scipy", "sklearn", "PIL", "rich", "pandas")


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


@pytest.mark.parametrize("name", THEORY)
def test_theory_imports_run_one_way(name: str) -> None:
    allowed, seen = set(), False
    for line in ORDER:
        allowed |= set(line)
        if name in line:
            seen = True
            break
    assert seen
    ours = {m.split(".")[1] for m in imports(PACKAGE / f"{name}.py") if m.startswith("carrot.")}
    assert ours <= allowed, f"{name} imports {ours - allowed}"


@pytest.mark.parametrize("name", THEORY)
def test_theory_touches_no_file_picture_or_progress_bar(name: str) -> None:
    outside = {m.split(".")[0] for m in imports(PACKAGE / f"{name}.py")}
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
    for name in THEORY:
        text = (PACKAGE / f"{name}.py").read_text()
        for word in ("torch.optim", "nn.Module(", "backward(", "requires_grad", "autograd"):
            assert word not in text, f"{name}: {word}"


def test_only_the_backbone_imports_timm() -> None:
    theirs = {
        p.relative_to(PACKAGE).as_posix() for p in modules() if any(m.split(".")[0] == "timm" for m in imports(p))
    }
    assert theirs == {"backbone.py"}


def test_class_attention_stands_beside_the_backbone() -> None:
    """It reads a model that it is given: no timm, and nothing of the theory."""
    found = imports(PACKAGE / "class_attention.py")
    assert {m.split(".")[1] for m in found if m.startswith("carrot.")} == {"errors", "token_map"}
    assert not {m.split(".")[0] for m in found} & {"timm", "os", "pathlib", "io", "PIL"}
    for name in THEORY:
        assert "carrot.class_attention" not in imports(PACKAGE / f"{name}.py")


def test_nothing_unpickles() -> None:
    for path in modules():
        assert not imports(path) & {"pickle", "joblib", "dill", "shelve"}, path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert keywords.get("weights_only") == "True", path


def test_main_is_under_200_lines() -> None:
    assert len((ROOT / "main.py").read_text().splitlines()) < 200


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
