"""What a user imports stays where it is; every list of names has one home that help, docs, tests and exports follow."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from carrot import cli
from carrot._choices import LIFTS, forms
from carrot.data.opening import KINDS
from carrot.embedding.setting import AXES
from carrot.export.onnx_file import OFFERED
from carrot.protocol.metrics import METRICS

ROOT = Path(__file__).resolve().parents[2]
FACES = {
    "carrot": "Carrot Explanation Logit RidgeHead RidgeStatistics RegionSet RegionGraphBuilder RegionGraph "
    "DiffusionOperator GraphReadout Lift lift_from TimmViTPatchBackbone TimmPooledBackbone PatchOutput CarrotError "
    "DataError EngineError ModelError StoreError",
    "carrot.attribution": "training_contribution label_contribution removal_effect group_removal_effect relabel_effect "
    "replacement_effect edit_effect top_training region_contribution node_energy dirichlet_energy remove_regions "
    "remove_each_region deletion_curve insertion_curve region_shapley region_interactions pair_contribution",
    "carrot.referee": "Question Truth training_scores write_truth",
    "carrot.estimators": "CarrotFeatures RidgeHeadClassifier RidgeHeadRegressor",
    "carrot.explanation": "Explanation Picture RegionPair TrainingPart LogitParts take_apart region_to_region "
    "strongest_pairs",
    "carrot.report": "Pair Panel accuracy_line check_line explanation_data explanation_figure explanation_lines "
    "explanation_page plot_explanation story_lines",
    "carrot.embedding": "Encoder Setting TokenCache Tokens Trace embed_dataset",
    "carrot.engine": "Engine current use",
    "carrot.store": "EmbeddingStore save_tensors",
    "carrot.protocol": "evaluate",
    "carrot.evaluation": "Accuracy Candidate candidate mean_per_class_accuracy select summary top_k_accuracy",
    "carrot.data": "ImageDataset ImageFolder Record open_dataset open_image split_indices",
}
# commands whose flags come from the lists
HELP = ("fit", "select")


@pytest.mark.parametrize("module", FACES)
def test_faces_keep_what_users_import(module: str) -> None:
    face = import_module(module)
    for name in FACES[module].split():
        assert getattr(face, name) is not None
        assert name in dir(face)


@pytest.mark.parametrize(
    "module",
    [
        *("carrot", "carrot.explanation", "carrot.embedding", "carrot.store", "carrot.protocol"),
        *("carrot.estimators", "carrot.referee"),
    ],
)
def test_a_face_loads_nothing_until_a_name_is_used(module: str) -> None:
    script = f"import sys, {module}; print([m for m in ('torch', 'numpy', 'PIL', 'rich') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = import_module(module).nothing_of_the_kind


def help_of(command: str) -> str:
    out = subprocess.run(
        [sys.executable, "-c", f"from carrot import cli; cli.main(['{command}', '--help'])"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return " ".join(out.stdout.replace("│", " ").split())


def test_help_runs_over_the_lists() -> None:
    for command in HELP:
        text = help_of(command)
        assert forms(LIFTS) in text
        for name, axis in AXES.items():
            assert f"--{name.replace('_', '-')} " in text
            assert axis.what in text
    text = help_of("select")
    for axis in AXES.values():
        assert f"[default: {' '.join(map(str, axis.grid))}]" in text


def test_info_lists_data_sets_and_lifts(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info"]) == 0
    told = capsys.readouterr().out
    assert all(kind.form in told for kind in KINDS.values())
    assert all(choice.what in told for choice in LIFTS.values())


def test_docs_and_exports_know_the_lists() -> None:
    notation = (ROOT / "docs" / "notation.md").read_text()
    lift = import_module("carrot.lift")
    for name in LIFTS:
        assert f"`{lift.KINDS[name].__name__}`" in notation
    assert set(OFFERED) <= set(LIFTS)
    house = (ROOT / "docs" / "architecture.md").read_text()
    for file in ("_choices.py", "data/opening.py", "protocol/metrics.py", "embedding/setting.py"):
        assert f"`{file}`" in house


def test_the_lines_of_an_evaluation_run_over_the_metrics() -> None:
    from carrot.protocol.tables import lines_of

    one = {"mean": 0.5, "standard_error": 0.1, "n": 3}
    figures = {kind: {f"{kind} of a map": one} for kind in METRICS}
    e = {
        "pictures": 3,
        "occluded": 1,
        "seconds": dict.fromkeys(METRICS, 1.0),
        "largest_residual": {"x": 0.0},
        **figures,
    }
    lines = "\n".join(lines_of({"explanations": e}, "explanations"))
    assert all(f"{kind} of a map" in lines for kind in METRICS)
