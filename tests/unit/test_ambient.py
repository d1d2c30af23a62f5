"""Torch's ambient state x everything that computes: the plain answer, bit for bit, and the state left as it was."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from carrot import (
    Carrot,
    DiffusionOperator,
    GraphReadout,
    RegionGraphBuilder,
    RegionSet,
    RidgeHead,
    TimmViTPatchBackbone,
)
from carrot._ambient import pinned
from carrot._vit.checkpoints import unwrapped
from carrot.attribution import dirichlet_energy, node_energy, pair_contribution, region_contribution
from carrot.data.toy import ToyBirds
from carrot.embedding.encoder import Encoder
from carrot.errors import BackboneError
from carrot.influence import (
    group_removal_effect,
    label_contribution,
    relabel_effect,
    removal_effect,
    training_contribution,
)
from carrot.lift import lift_from
from carrot.readout import cosine_source
from carrot.regions import grid_positions
from carrot.removal import remove_each_region


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def matmul_precision(name: str) -> Iterator[None]:
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("highest")


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def default_device(name: str) -> Iterator[None]:
    torch.set_default_device(name)
    try:
        yield
    finally:
        torch.set_default_device(None)


AMBIENT: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "autocast to bfloat16": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast to float16": lambda: torch.autocast("cpu", torch.float16),
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "default type float64": lambda: default_dtype(torch.float64),
    "default type float16": lambda: default_dtype(torch.float16),
    "default type bfloat16": lambda: default_dtype(torch.bfloat16),
    "device meta, as a block": lambda: torch.device("meta"),
    "device meta, for good": lambda: default_device("meta"),
    "products of 8 bits": lambda: matmul_precision("medium"),
    "deterministic": deterministic,
}
LIVED = [  # a whole life takes a second: one of each kind
    "autocast to bfloat16",
    "autocast to float16",
    "inference mode",
    "default type float64",
    "default type float16",
    "device meta, for good",
    "products of 8 bits",
]
ambient = pytest.mark.parametrize("ambient", AMBIENT.values(), ids=AMBIENT.keys())


def theory(dtype: torch.dtype, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every object of the theory once, each called bare, from inputs that were made outside."""
    H, G, other = (given[name].to(dtype) for name in ("H", "G", "other"))
    regions = RegionSet(H, grid_positions(4, 4, dtype), (4, 4))
    graph, r, operator = (
        RegionGraphBuilder(0.5, 1.0).build(regions),
        GraphReadout().weights(16, dtype),
        DiffusionOperator(1.0),
    )
    pi = operator.pull_back(r, graph)
    found = {
        "W": graph.W,
        "L": graph.L,
        "pi": pi,
        "coarse": regions.coarsen(2).features,
        "H_prime": operator.forward(H, graph.L),
    }
    found |= {m: DiffusionOperator(1.0, method=m).forward(H, graph.L) for m in ("expm", "eigh", "chebyshev")}
    for name in ("identity", "quadratic", "relu:32", "fourier:32", "sketch:32"):
        lift = lift_from(name)
        scores = lift.scores(H, given[name].to(dtype))
        found |= {f"{name} g": lift.embed(H, pi), f"{name} k": lift.kernel(H, other), f"{name} scores": scores}
    for centred in (False, True):
        head = RidgeHead(0.5, centred).fit(G, given["y"])
        ours = {
            "W_star": head.W_star,
            "logits": head.predict(H),
            "loo": head.loo_predict(),
            "leverage": head.leverage,
            "training": training_contribution(H, G, head.alpha),
            "labels": label_contribution(head, H),
            "removal": removal_effect(head, H),
            "group": group_removal_effect(head, H, [1, 2]),
            "relabel": relabel_effect(head, H, 1, 2),
            "regions": region_contribution(H, pi, head.W_star),
            "pairs": pair_contribution(H, pi, other.unsqueeze(0), pi.unsqueeze(0), head.alpha[:1]),
            "each region": remove_each_region(H, graph, operator, GraphReadout(), head),
            "grown": RidgeHead.from_state(head.state(), 0.5, centred)
            .add(G[:2] * 2, given["y"][:2])
            .remove([0, 5])
            .W_star,
        }
        found |= {f"{name}, intercept {centred}": value for name, value in ours.items()}
    return found | {"node": node_energy(H, pi), "edges": dirichlet_energy(H, graph), "cosine": cosine_source(H, H[0])}


@pytest.fixture(scope="module")
def given() -> dict[str, Tensor]:
    torch.manual_seed(1)
    weights = {
        s: torch.randn(lift_from(s).dim(8), 3) for s in ("identity", "quadratic", "relu:32", "fourier:32", "sketch:32")
    }
    rows = {"H": torch.randn(16, 8), "G": torch.randn(20, 8), "other": torch.randn(16, 8), "y": torch.arange(20) % 3}
    return weights | rows


@ambient
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_theory_is_moved_by_none(
    dtype: torch.dtype, ambient: Callable[[], AbstractContextManager[Any]], given: dict[str, Tensor]
) -> None:
    """At d8bafd7 autocast gave half of W and L, meta no numbers; a head fitted in inference mode could not forget."""
    plain = theory(dtype, given)
    with ambient():
        found = theory(dtype, given)
    for name, value in plain.items():
        assert found[name].device.type == "cpu", name
        assert found[name].dtype == value.dtype, name
        assert torch.equal(found[name], value), name
        assert not found[name].is_inference(), name


def whole_life(birds: ToyBirds, folder: Path, pictures: list[Any]) -> dict[str, Any]:
    """Fit, predict, explain, audit, add, forget, save and load: numbers of each."""
    model = Carrot("toy", t=1.0).fit(birds)
    e = model.explain(pictures[0])
    found: dict[str, Any] = {
        "fingerprint": model.encoder.fingerprint,
        "logits": model.decision_function(pictures),
        "probabilities": model.predict_proba(pictures),
        "explained": e.parts.logits.numpy(),
        "residuals": np.array(list(e.parts.sums.values())),
        "pairs": torch.stack([e.pair_maps[row] for row in e.shown if row in e.pair_maps]).numpy(),
        "trace": model.trace(pictures[1]).pi.numpy(),
        "suspects": str(model.audit()),
        "boxes": e.picture.boxes.numpy(),
    }
    model.add(pictures[:2], [birds.classes[0]] * 2)
    model.forget(model.records_[0].id)
    found["changed"] = model.head_.W_star.numpy()
    model.save(folder)
    loaded = Carrot.load(folder)
    return found | {"loaded": loaded.decision_function(pictures), "loaded weights": loaded.head_.W_star.numpy()}


@pytest.fixture(scope="module")
def birds() -> ToyBirds:
    return ToyBirds(n_train_per_class=3, n_test_per_class=1, n_species=3)


@pytest.fixture(scope="module")
def pictures(birds: ToyBirds) -> list[Any]:
    made = [birds.image(i) for i in range(9, 12)]
    return [*made, torch.rand(3, 40, 50).requires_grad_()]


@pytest.fixture(scope="module")
def plain(birds: ToyBirds, pictures: list[Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return whole_life(birds, tmp_path_factory.mktemp("plain") / "model", pictures)


@pytest.mark.parametrize("ambient", [AMBIENT[name] for name in LIVED], ids=LIVED)
def test_a_model_is_moved_by_none(
    ambient: Callable[[], AbstractContextManager[Any]],
    plain: dict[str, Any],
    birds: ToyBirds,
    pictures: list[Any],
    tmp_path: Path,
) -> None:
    """At d8bafd7 autocast moved logits 5e-3, inference mode and meta stopped ``fit``, a default type moved tokens."""
    with ambient():
        found = whole_life(birds, tmp_path / "model", pictures)
    for name, value in plain.items():
        assert np.array_equal(found[name], value), name


def test_threads_move_tokens_by_rounding(pictures: list[Any]) -> None:
    encoder, before = Encoder("toy", dtype="float32"), torch.get_num_threads()
    expected = encoder.tokens(pictures).H
    torch.set_num_threads(1 if before > 1 else 2)
    try:
        found = encoder.tokens(pictures).H
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


@ambient
def test_a_backbone_is_moved_by_none(ambient: Callable[[], AbstractContextManager[Any]], pictures: list[Any]) -> None:
    """Built, asked and identified inside; and the picture made ready inside."""

    def answer() -> tuple[Tensor, Tensor, Tensor, str]:
        torch.manual_seed(3)
        backbone = TimmViTPatchBackbone("test_vit", pretrained=False)
        x = backbone.transform(pictures[0]).unsqueeze(0)
        out = backbone(x)
        return x, out.H, backbone.pixel_boxes(pictures[0].size), backbone.fingerprint()

    x, H, boxes, fingerprint = answer()
    with ambient():
        found = answer()
    assert found[0].dtype == found[1].dtype == torch.float32
    assert torch.equal(found[0], x)
    assert torch.equal(found[1], H)
    assert torch.equal(found[2], boxes)
    assert found[3] == fingerprint


@pinned()
def look_and_fail() -> None:
    assert torch.get_default_dtype() == torch.float32
    assert torch.get_default_device().type == "cpu"
    assert not torch.is_inference_mode_enabled()
    assert not torch.is_grad_enabled()
    assert not torch.is_autocast_enabled("cpu")
    raise KeyError("inside")


def test_the_callers_state_is_left_as_it_was() -> None:
    with (
        default_dtype(torch.float16),
        matmul_precision("medium"),
        torch.autocast("cpu", torch.bfloat16),
        torch.device("meta"),
        torch.inference_mode(),
    ):
        with pytest.raises(KeyError, match="inside"):
            look_and_fail()
        assert torch.get_default_dtype() == torch.float16
        assert torch.get_float32_matmul_precision() == "medium"
        assert torch.get_default_device().type == "meta"
        assert torch.is_inference_mode_enabled()
        assert torch.is_autocast_enabled("cpu")


def test_one_thread_does_not_unpin_another() -> None:
    """Two overlap: the first to enter leaves first.

    What is left must stay pinned, and the caller's own come back at the end.
    """
    entered, leave = Event(), Event()

    def first() -> None:
        with pinned():
            entered.set()
            leave.wait(10)

    with default_dtype(torch.float64):
        thread = Thread(target=first)
        thread.start()
        assert entered.wait(10)
        with pinned():
            leave.set()
            thread.join(10)
            assert torch.get_default_dtype() == torch.float32
        assert torch.get_default_dtype() == torch.float64


def test_gradients_are_the_callers() -> None:
    H = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    graph = RegionGraphBuilder(0.5, 1.0).build(RegionSet(H, grid_positions(2, 2, torch.float64), (2, 2)))
    DiffusionOperator(1.0).forward(H, graph.L).sum().backward()
    assert H.grad is not None


# ---- a model with something around it


class Parallel(nn.Module):
    """As DataParallel and DDP hold a model: one child called ``module``, and none of its methods."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "compile": torch.compile,
    "DataParallel": nn.DataParallel,
    "DDP's kin": Parallel,
    "both": lambda model: Parallel(torch.compile(model)),
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS.keys())
@pytest.mark.parametrize("inside", [nullcontext, torch.inference_mode], ids=["outside", "in inference mode"])
def test_what_is_put_around_a_model_changes_nothing(
    wrap: Callable[[Any], Any], inside: Callable[[], AbstractContextManager[Any]], pictures: list[Any], birds: ToyBirds
) -> None:
    """At d8bafd7 ``fingerprint`` of a compiled model failed on ``_orig_mod.``."""
    torch.manual_seed(3)
    backbone = TimmViTPatchBackbone("test_vit", pretrained=False, attention=None)
    x = backbone.transform(pictures[0]).unsqueeze(0)
    expected, fingerprint = backbone(x).H, backbone.fingerprint()
    bare = backbone.model
    with inside():
        backbone.model = wrap(backbone.model)
        assert unwrapped(backbone.model) is bare
        assert backbone.fingerprint() == fingerprint
        assert torch.equal(backbone(x).H, expected)
        assert backbone.has_class_token
        assert Carrot(backbone, lam=1.0).fit(birds).predict(pictures[0]).shape == (1,)


def test_weights_made_in_inference_mode_are_read_anew() -> None:
    """Their changes aren't counted: a fingerprint that was kept would go stale."""
    backbone = TimmViTPatchBackbone("test_vit", pretrained=False)
    before = backbone.fingerprint()
    with torch.inference_mode():
        for parameter in backbone.parameters():
            parameter.data = parameter.data.clone()
    assert backbone.fingerprint() == before
    with torch.inference_mode():
        next(backbone.parameters()).data.add_(1)
    assert backbone.fingerprint() != before


def test_a_model_that_lost_weights_is_refused() -> None:
    backbone = TimmViTPatchBackbone("test_vit", pretrained=False)
    backbone.model.norm = nn.Identity()
    with pytest.raises(BackboneError, match=r"test_vit.* lacks norm\.weight"):
        backbone.fingerprint()


def test_a_gpus_float32_convolution_is_one() -> None:
    """A picture enters a vision transformer through one, and torch's default for it is 11 bits."""
    before = torch.backends.cudnn.allow_tf32
    assert before, "torch's default, which this is about"
    with pinned():
        assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32 == before
    if not hasattr(torch.backends.cudnn, "conv"):  # before torch 2.9
        return
    conv: Any = torch.backends.cudnn.conv
    was, torch.backends.cudnn.rnn.fp32_precision = conv.fp32_precision, "ieee"
    try:
        with pinned():
            assert conv.fp32_precision == "ieee"
        assert conv.fp32_precision == was
    finally:
        torch.backends.cudnn.allow_tf32 = True
