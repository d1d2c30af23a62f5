"""What does CARROT add to the backbone? Three questions, each against its peer in one run; answers are checked first.

1. graph + diffusion + readout of one picture, or of a batch, against the backbone's own forward pass.
2. pi = exp(-tL) r alone, against the literal matrix exponential times H.
3. the drop of the logit for every region removed, against a loop that builds each sub-graph and exponentiates.

Usage: python -m benchmarks.forward [--rounds 15] [--quick] [--device cuda] [--batch 64]
Weights are random (timing does not depend on them); float32; t = 2; targets are those that the project set itself.
"""

import argparse

import torch

from benchmarks.harness import alternate, write
from carrot import (
    DiffusionOperator,
    GraphReadout,
    RegionGraph,
    RegionGraphBuilder,
    RegionSet,
    RidgeHead,
    TimmViTPatchBackbone,
)
from carrot.attribution import remove_each_region
from carrot.readout import embed

T = 2.0
OPERATOR, READOUT, BUILDER = DiffusionOperator(T), GraphReadout(), RegionGraphBuilder()
MODELS = {"vit_base_patch16_224": 0.005, "vit_small_patch14_dinov2": 0.02}  # target: share of the forward pass
PULL_BACK = {196: 8.0, 576: None, 1369: 50.0}  # target: times faster
REMOVAL = {196: 100.0, 576: 300.0}


def random_regions(N: int, D: int, device: str) -> RegionSet:
    """Clustered tokens on a square grid."""
    side = round(N**0.5)
    centres = 2 * torch.randn(5, D)
    H = centres[torch.randint(0, 5, (N,))] + torch.randn(N, D)
    y, x = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    return RegionSet(H.to(device), torch.stack([x.flatten(), y.flatten()], -1).to(device), (side, side))


def collapsed(regions: RegionSet) -> torch.Tensor:
    """Tokens to g by the fast path."""
    graph = BUILDER.build(regions)
    return embed(regions.features, OPERATOR.pull_back(READOUT.weights(regions.num_regions, torch.float32), graph))


def literal(H: torch.Tensor, L: torch.Tensor) -> torch.Tensor:
    """Tokens to g by the guide's formula."""
    return (torch.linalg.matrix_exp(-T * L) @ H).mean(dim=0)


def forward_row(name: str, target: float, rounds: int, device: str, batch: int) -> dict[str, object]:
    """Question 1."""
    backbone = TimmViTPatchBackbone(name, pretrained=False).to(device)
    x = torch.randn(batch, 3, *backbone.input_hw).to(device)
    patches = backbone(x)
    regions = RegionSet(patches.H, patches.P, patches.grid_hw)
    wide = RegionSet(patches.H[-1].double(), patches.P.double(), patches.grid_hw)
    expected = literal(wide.features, BUILDER.build(wide).L)
    error = float((collapsed(regions)[-1] - expected).norm() / expected.norm())
    if error > 1e-5:
        raise AssertionError(f"{name}: the fast path is off by {error:.1e}")
    times = alternate({"backbone": lambda: backbone(x), "carrot": lambda: collapsed(regions)}, rounds)
    share = times["carrot"]["median"] / times["backbone"]["median"]
    size = {"N": regions.num_regions, "D": regions.features.shape[-1]}
    return {
        "question": "graph + diffusion + readout / forward",
        "model": name,
        "batch": batch,
        **size,
        "error": error,
        "times": times,
        "ratio": share,
        "target": target,
    }


def pull_back_row(N: int, target: float | None, rounds: int, device: str) -> dict[str, object]:
    """Question 2."""
    regions = random_regions(N, 768 if N == 196 else 384, device)
    H, graph = regions.features, BUILDER.build(regions)
    L, r = graph.L, READOUT.weights(N, torch.float32)
    expected = torch.linalg.matrix_exp(-T * L.double()).mean(dim=0)
    error = float((OPERATOR.pull_back(r, graph) - expected).norm() / expected.norm())
    if error > 1e-5:
        raise AssertionError(f"pi at N = {N} is off by {error:.1e}")
    runs = {"literal": lambda: torch.linalg.matrix_exp(-T * L) @ H, "pi": lambda: OPERATOR.pull_back(r, graph)}
    times = alternate(runs, rounds)
    ratio = times["literal"]["median"] / times["pi"]["median"]
    return {
        "question": "literal exp(-tL) H / pi",
        "N": N,
        "D": H.shape[1],
        "error": error,
        "times": times,
        "ratio": ratio,
        "target": target,
    }


def removal_row(N: int, target: float, rounds: int, device: str, looped: int = 4) -> dict[str, object]:
    """Question 3; the loop is timed on ``looped`` regions and multiplied up."""
    regions = random_regions(N, 768, device)
    H, graph = regions.features, BUILDER.build(regions)
    head = RidgeHead(1.0, fit_intercept=True).fit(torch.randn(50, 768).to(device), (torch.arange(50) % 5).to(device))
    W_star = head.W_star

    def one(i: int) -> torch.Tensor:  # the logits without region i, built again from W
        stay = torch.arange(N, device=device) != i
        W = graph.W[stay][:, stay]
        sub = RegionGraph(W, W.sum(dim=-1))
        return literal(H[stay], sub.L).double() @ W_star + head.bias

    whole = collapsed(regions).double() @ W_star + head.bias
    ours = remove_each_region(H, graph, OPERATOR, READOUT, head)
    expected = torch.stack([whole - one(i) for i in range(looped)])
    error = float((ours[:looped] - expected).abs().max() / whole.abs().max())
    if error > 1e-5:
        raise AssertionError(f"removals at N = {N} are off by {error:.1e} of the logit")
    runs = {
        "loop": lambda: [one(i) for i in range(looped)],
        "all at once": lambda: remove_each_region(H, graph, OPERATOR, READOUT, head),
    }
    times = alternate(runs, rounds)
    ratio = times["loop"]["median"] * N / looped / times["all at once"]["median"]
    note = f"loop timed on {looped} of {N} regions"
    return {
        "question": "loop over removals / all at once",
        "N": N,
        "D": 768,
        "error": error,
        "times": times,
        "ratio": ratio,
        "target": target,
        "note": note,
    }


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--quick", action="store_true", help="small sizes only, nothing written: checks that the benchmark runs"
    )
    parser.add_argument(
        "--device", default="cpu", help="another than cpu writes forward-DEVICE.json, or forward-DEVICE-batchBATCH.json"
    )
    parser.add_argument("--batch", type=int, default=1, help="pictures in a pass, of question 1")
    a = parser.parse_args()
    torch.manual_seed(0)
    rows = []
    with torch.no_grad():
        models = {} if a.quick else MODELS
        rows += [forward_row(name, target, a.rounds, a.device, a.batch) for name, target in models.items()]
        rows += [
            pull_back_row(N, target, a.rounds, a.device) for N, target in PULL_BACK.items() if N < 200 or not a.quick
        ]
        rows += [removal_row(N, target, a.rounds, a.device) for N, target in REMOVAL.items() if N < 200 or not a.quick]
    for row in rows:
        target = row["target"]
        print(
            f"{row['question']:<42} N {row['N']:>5}  D {row['D']:>4}  ratio {row['ratio']:>9.4g}  target {target}  "
            f"error {row['error']:.0e}"
        )
    if not a.quick:
        more = {} if a.device == "cpu" else {"device": torch.cuda.get_device_name(a.device)}
        name = "forward" + f"-{a.device}" * (a.device != "cpu") + f"-batch{a.batch}" * (a.batch > 1)
        print("written:", write(name, rows, seed=0, dtype="float32", t=T, **more).name)


if __name__ == "__main__":
    main()
