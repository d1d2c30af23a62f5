"""The lifts: one battery for each, against phi written out; the kernels that the random ones converge to; bad input."""

import itertools
import math
from inspect import signature
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import carrot.lift
from carrot._choices import LIFTS
from carrot.lift import (
    DEFAULT_WIDTH,
    IDENTITY,
    KINDS,
    FourierLift,
    IdentityLift,
    Lift,
    QuadraticLift,
    ReluLift,
    SketchLift,
    lift_from,
)
from tests import contract

F32, F64 = torch.float32, torch.float64


class LiftContract:
    """What every lift owes. A subclass says its ``spec``."""

    spec: str

    @pytest.fixture(params=[2**24, 30, 1])
    def numbers(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
        """All at a time, a few pictures or tokens or classes at a time, one at a time."""
        monkeypatch.setattr(carrot.lift, "NUMBERS", request.param)
        return request.param

    @pytest.mark.parametrize("dtype", [F32, F64])
    @pytest.mark.parametrize(("N", "D"), [(1, 1), (1, 5), (7, 1), (6, 4), (3, 9)])
    def test_equals_phi_written_out(self, N: int, D: int, dtype: torch.dtype, numbers: int) -> None:
        contract.check_lift(carrot, self.spec, N, D, dtype)

    def test_batches_are_their_pictures(self, numbers: int) -> None:
        lift = lift_from(self.spec)
        H, other, pi = torch.randn(2, 3, 5, 4), torch.randn(2, 3, 2, 4), torch.randn(2, 3, 5)
        W_star = torch.randn(lift.dim(4), 3)
        answers = [
            (lift.features, (H,)),
            (lift.embed, (H, pi)),
            (lift.kernel, (H, other)),
            (lambda h: lift.scores(h, W_star), (H,)),
            (lambda h, p: lift.region_scores(h, p, W_star), (H, pi)),
        ]
        for answer, arguments in answers:
            whole = answer(*arguments)
            for a, b in itertools.product(range(2), range(3)):
                torch.testing.assert_close(whole[a, b], answer(*(x[a, b] for x in arguments)), rtol=1e-12, atol=1e-12)

    def test_a_batch_of_no_pictures(self) -> None:
        lift, H = lift_from(self.spec), torch.zeros(0, 3, 4)
        M = lift.dim(4)
        assert lift.features(H).shape == (0, 3, M)
        assert lift.embed(H, torch.zeros(0, 3)).shape == (0, M)
        assert lift.kernel(H, H).shape == (0, 3, 3)
        assert lift.scores(H, torch.zeros(M, 2)).shape == (0, 3, 2)

    def test_kernel_is_positive_semidefinite_and_that_of_embeddings(self) -> None:
        """MMD: sum_ij pi_i k(h_i, h_j) pi_j is |g|^2, however the kernel is computed."""
        lift = lift_from(self.spec)
        H, pi = torch.randn(8, 3, dtype=F64), torch.randn(8, dtype=F64)
        K = lift.kernel(H, H)
        assert torch.linalg.eigvalsh(K).min() >= -1e-13 * K.trace()  # 10 x eps x 8 x the largest eigenvalue
        torch.testing.assert_close(pi @ K @ pi, lift.embed(H, pi).square().sum(), rtol=1e-11, atol=1e-12)

    def test_no_pi_no_embedding_and_tokens_are_left_alone(self) -> None:
        lift, H = lift_from(self.spec), torch.randn(4, 3, dtype=F64)
        before = H.clone()
        assert not lift.embed(H, torch.zeros(4, dtype=F64)).any()
        lift.features(H), lift.kernel(H, H), lift.scores(H, torch.ones(lift.dim(3), 1, dtype=F64))
        assert torch.equal(H, before)

    def test_is_written_as_it_is_named(self) -> None:
        lift = lift_from(self.spec)
        assert isinstance(lift, Lift)
        assert str(lift) == self.spec
        assert lift.name == self.spec.partition(":")[0]
        again = lift_from(str(lift))
        H = torch.randn(3, 4)
        assert torch.equal(again.features(H), lift.features(H))

    @pytest.mark.usefixtures("as_user")
    def test_what_does_not_fit_is_refused(self) -> None:
        lift, H = lift_from(self.spec), torch.zeros(5, 4)
        M = lift.dim(4)
        for call in (
            lambda: lift.embed(H, torch.zeros(1)),
            lambda: lift.embed(H, torch.zeros(4)),
            lambda: lift.region_scores(H, torch.zeros(1), torch.zeros(M, 2)),
            lambda: lift.scores(H, torch.zeros(M + 1, 2)),
            lambda: lift.scores(H, torch.zeros(1, 2)),
            lambda: lift.kernel(H, torch.zeros(5, 3)),
            lambda: lift.kernel(H, torch.zeros(5, 1)),
        ):
            with pytest.raises(ValueError, match="must end in"):
                call()


class TestIdentity(LiftContract):
    spec = "identity"

    def test_is_no_lift(self) -> None:
        H, pi, W_star = torch.randn(5, 3, dtype=F64), torch.randn(5, dtype=F64), torch.randn(3, 2, dtype=F64)
        assert IDENTITY.features(H) is H
        torch.testing.assert_close(IDENTITY.embed(H, pi), H.mT @ pi)
        torch.testing.assert_close(IDENTITY.scores(H, W_star), H @ W_star)


class TestQuadratic(LiftContract):
    spec = "quadratic"

    def test_kernel_is_the_squared_inner_product(self) -> None:
        """To rounding of float64: a sqrt 2 of float32 would be off by 1e-8."""
        A, B = torch.randn(6, 7, dtype=F64), torch.randn(4, 7, dtype=F64)
        lift = QuadraticLift()
        torch.testing.assert_close(lift.features(A) @ lift.features(B).mT, (A @ B.mT).square(), rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(lift.kernel(A, B), (A @ B.mT).square(), rtol=1e-13, atol=1e-13)

    def test_scores_are_quadratic_forms(self) -> None:
        """<phi(h), w> = h^T W h with W symmetric, its off-diagonals w / sqrt 2."""
        D, w = 5, torch.randn(15, 1, dtype=F64)
        W, H = torch.zeros(D, D, dtype=F64), torch.randn(6, D, dtype=F64)
        for place, (a, b) in enumerate(itertools.combinations_with_replacement(range(D), 2)):
            W[a, b] = W[b, a] = float(w[place]) / (1.0 if a == b else math.sqrt(2.0))
        expected = torch.stack([h @ W @ h for h in H]).unsqueeze(-1)
        torch.testing.assert_close(QuadraticLift().scores(H, w), expected, rtol=1e-13, atol=1e-13)


def relu_kernel(a: np.ndarray, b: np.ndarray) -> float:
    """2 E max(0, <w, a>) max(0, <w, b>) = |a| |b| (sin x + (pi - x) cos x) / pi: Cho and Saul's, of degree 1."""
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    x = math.acos(min(1.0, max(-1.0, float(a @ b) / lengths)))
    return lengths * (math.sin(x) + (math.pi - x) * math.cos(x)) / math.pi


def gauss_kernel(a: np.ndarray, b: np.ndarray, gamma: float = 2.0) -> float:
    return math.exp(-gamma * np.sum((a / np.linalg.norm(a) - b / np.linalg.norm(b)) ** 2))


def square_kernel(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b) ** 2


class RandomContract(LiftContract):
    """What a lift with random numbers owes besides. A subclass says its class and the kernel that it estimates."""

    kind: type[Any]
    limit: Any

    def errors(self, M: int, seeds: int) -> np.ndarray:
        """Return (seeds, pairs): k - limit over 20 pairs of unit tokens."""
        rng = np.random.default_rng(1)
        A, B = rng.normal(size=(20, 6)), rng.normal(size=(20, 6))
        A, B = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (A, A + 0.7 * B))
        expected = np.array([self.limit(a, b) for a, b in zip(A, B, strict=True)])
        ours = [self.kind(M, seed=s).kernel(torch.tensor(A), torch.tensor(B)).diagonal().numpy() for s in range(seeds)]
        return np.stack(ours) - expected

    def test_kernel_is_unbiased(self) -> None:
        """The mean over 200 seeds is the named kernel, within 5 of its own standard errors for each pair."""
        errors = self.errors(32, 200)
        standard_errors = errors.std(axis=0, ddof=1) / math.sqrt(200)
        assert np.abs(errors.mean(axis=0) / standard_errors).max() < 5.0  # 20 pairs: 1e-5 by chance

    def test_error_falls_as_one_over_sqrt_of_the_width(self) -> None:
        """16 times as wide, a 16th of the squared error, within 5 standard errors over 200 seeds of the difference."""
        narrow, wide = (np.mean(self.errors(M, 200) ** 2, axis=1) for M in (32, 512))
        difference = narrow - 16.0 * wide
        assert abs(difference.mean()) < 5.0 * difference.std(ddof=1) / math.sqrt(200)
        assert 16.0 * wide.std(ddof=1) / math.sqrt(200) < 0.3 * narrow.mean()  # so that it says something

    def test_a_seed_names_the_map(self) -> None:
        H = torch.randn(4, 5)
        phi = self.kind(16, seed=3).features(H)
        carrot.lift._normal.cache_clear()
        carrot.lift._count_sketches.cache_clear()
        torch.manual_seed(99)  # the global generator plays no part, and isn't touched
        state = torch.get_rng_state()
        assert torch.equal(self.kind(16, seed=3).features(H), phi)
        assert torch.equal(torch.get_rng_state(), state)
        assert not torch.allclose(self.kind(16, seed=4).features(H), phi)
        assert str(self.kind(16, seed=3)) == f"{self.kind(16).name}:16, seed=3"

    @pytest.mark.usefixtures("as_user")
    def test_widths_are_checked(self) -> None:
        for width in (0, -2, 4.0, True, "8", None):
            with pytest.raises((TypeError, ValueError), match="`width` must be a whole number >= 1"):
                self.kind(width)


class TestRelu(RandomContract):
    spec, kind, limit = "relu:12", ReluLift, staticmethod(relu_kernel)

    def test_lengths_of_tokens_count(self) -> None:
        lift, H = ReluLift(16), torch.randn(4, 5, dtype=F64)
        torch.testing.assert_close(lift.features(3.0 * H), 3.0 * lift.features(H))
        assert not lift.features(torch.zeros(1, 5)).any()


class TestFourier(RandomContract):
    spec, kind, limit = "fourier:12", FourierLift, staticmethod(gauss_kernel)

    def test_only_directions_count_and_every_token_has_length_one(self) -> None:
        lift, H = FourierLift(16), torch.randn(4, 5, dtype=F64)
        torch.testing.assert_close(lift.features(1e-9 * H), lift.features(H), rtol=1e-12, atol=1e-12)
        phi = lift.features(torch.cat([H, torch.zeros(1, 5, dtype=F64)]))
        torch.testing.assert_close(phi.square().sum(-1), torch.ones(5, dtype=F64))

    @pytest.mark.parametrize("gamma", [0.3, 5.0])
    def test_gamma_is_the_bandwidth(self, gamma: float) -> None:
        a, b = torch.tensor([[1.0, 0.0]], dtype=F64), torch.tensor([[0.6, 0.8]], dtype=F64)
        ours = np.array([float(FourierLift(64, gamma, seed).kernel(a, b)) for seed in range(200)])
        expected = gauss_kernel(a[0].numpy(), b[0].numpy(), gamma)
        assert abs(ours.mean() - expected) < 5.0 * ours.std(ddof=1) / math.sqrt(200)
        assert str(FourierLift(64, gamma)) == f"fourier:64, gamma={gamma:g}"

    @pytest.mark.usefixtures("as_user")
    def test_odd_widths_and_bad_bandwidths_are_refused(self) -> None:
        with pytest.raises(ValueError, match="even, a cosine and a sine"):
            FourierLift(7)
        for gamma in (0.0, -1.0, math.nan, math.inf):
            with pytest.raises(ValueError, match="`gamma` must be a finite number > 0"):
                FourierLift(8, gamma)
        with pytest.raises(TypeError, match="`gamma` must be a number; got 'wide'"):
            FourierLift(8, "wide")


class TestSketch(RandomContract):
    spec, kind, limit = "sketch:12", SketchLift, staticmethod(square_kernel)

    def test_of_width_one_there_is_one_bucket(self) -> None:
        """All products land in it: phi(h) = (sum_a s_a h_a)(sum_b z_b h_b)."""
        contract.check_lift(carrot, "sketch:1", 3, 4)


@pytest.mark.parametrize("spec", contract.LIFTS)
@given(N=st.integers(1, 6), D=st.integers(1, 6), seed=st.integers(0, 2**31), gamma=st.floats(0.01, 20.0))
@settings(max_examples=10)
def test_of_any_size_seed_and_bandwidth(spec: str, N: int, D: int, seed: int, gamma: float) -> None:
    contract.check_lift(carrot, spec, N, D, seed=seed, gamma=gamma)


def test_every_lift_has_its_battery() -> None:
    tested = {cls.spec.partition(":")[0] for cls in (TestIdentity, TestQuadratic, TestRelu, TestFourier, TestSketch)}
    assert tested == set(LIFTS)


def test_the_list_is_that_of_the_classes() -> None:
    assert {
        name: (kind.__name__, choice.has_width)
        for (name, kind), choice in zip(KINDS.items(), LIFTS.values(), strict=True)
    } == {cls.name: (cls.__name__, "width" in signature(cls).parameters) for cls in Lift.__subclasses__()}
    assert list(KINDS) == list(LIFTS)


def test_specs() -> None:
    assert lift_from("identity") is IDENTITY
    assert isinstance(lift_from("identity"), IdentityLift)
    assert isinstance(lift_from("quadratic"), QuadraticLift)
    for name in ("relu", "fourier", "sketch"):
        assert lift_from(name).dim(7) == DEFAULT_WIDTH
        assert lift_from(f"{name}:6").dim(7) == 6


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("", "must be one of"),
        ("Quadratic", "must be one of"),
        ("cubic", "must be one of"),
        ("relu:", "must be one of"),
        ("relu:-4", "must be one of"),
        ("relu:4.0", "must be one of"),
        ("relu: 4", "must be one of"),
        ("relu:²", "must be one of"),
        ("relu:4:4", "must be one of"),
        ("fourier:8, gamma=3", "must be one of"),
        ("relu:0", "whole number >= 1"),
        ("fourier:7", "even"),
        ("quadratic:10", "the width that it has"),
        ("identity:3", "the width that it has"),
    ],
)
def test_bad_specs_are_refused(spec: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        lift_from(spec)


def test_a_lift_of_ones_own_needs_only_dim_and_features() -> None:
    """The base class does the rest, also where a picture's features are more than may exist at a time."""

    class Powers(Lift):
        name = "powers"

        def dim(self, D: int) -> int:
            return 2 * D

        def features(self, H: torch.Tensor) -> torch.Tensor:
            return torch.cat([H, H**2], dim=-1).double()

    H, pi, W_star = torch.randn(2, 5, 3), torch.randn(2, 5), torch.randn(6, 4)
    phi = torch.cat([H, H**2], dim=-1).double()
    torch.testing.assert_close(Powers().embed(H, pi), (phi.mT @ pi.double().unsqueeze(-1)).squeeze(-1))
    torch.testing.assert_close(Powers().scores(H, W_star), phi @ W_star.double())
    torch.testing.assert_close(Powers().region_scores(H, pi, W_star).sum(1), Powers().embed(H, pi) @ W_star.double())
    for call in (lambda: Lift().dim(3), lambda: Lift().features(H)):
        with pytest.raises(TypeError, match="its own"):
            call()
