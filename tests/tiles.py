"""What tiles owe, as checks against loops, for the tests and for the damaged copies of ``test_tile_mutants.py``.

Each takes the package as it is at the moment of the call, so that a copy of a module can stand in its place.
"""

import itertools
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import torch
from PIL import Image

from tests import reference as ref

Array = np.ndarray
SIZE = (90, 61)  # width, height: not square, and no multiple of anything
GRIDS = (2, 3)
SPEC = "tiles:2@0.25,3@0.25"


def own(module: str) -> Any:
    """Return a module of the package, as it is now."""
    return import_module(f"carrot.{module}")


@cache
def backbone(side: int = 32) -> Any:
    """A tiny backbone with random weights: what is exact is so for any."""
    torch.manual_seed(3)
    return own("backbone").TimmViTPatchBackbone("test_vit", pretrained=False, img_size=side)


def noise(seed: int = 0, size: tuple[int, int] = SIZE) -> Image.Image:
    """A picture of random pixels."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def grid_shares(k: int, overlap: float) -> Array:
    """Boxes of a k x k grid, row-major, in shares of the sides: side b = 1 / (1 + (k - 1) (1 - overlap))."""
    b = 1.0 / (1.0 + (k - 1) * (1.0 - overlap))
    starts = [i * (1.0 - overlap) * b for i in range(k)]
    return np.array([[x, y, x + b, y + b] for y in starts for x in starts])


def shares_of(grids: tuple[int, ...]) -> Array:
    return np.concatenate([grid_shares(k, 0.25) for k in grids])


def whole_pixels(shares: Array, size: tuple[int, int]) -> Array:
    return np.round(shares * np.array([*size, *size])).astype(int)


def check_boxes() -> None:
    """What a view says that a tile is, is what was cut: by the formula, in pixels of the original."""
    view = own("embedding.view").TileView(backbone(), torch.float32, own("tiling").Tiling.from_spec(SPEC))
    expected = whole_pixels(shares_of(GRIDS), SIZE)
    np.testing.assert_array_equal(view.boxes(SIZE).numpy(), expected)
    image = noise()
    for x, (x0, y0, x1, y1) in zip(view.transform(image), expected, strict=True):
        alone = Image.fromarray(np.asarray(image)[y0:y1, x0:x1])  # cut by hand, then resized
        squashed = own("embedding.view").TileView(backbone(), torch.float32, own("tiling").Tiling(1)).transform(alone)
        assert torch.equal(x, squashed[0]), "a tile is not its box, cut and then resized"


def locality_error(has_whole: bool = False, head: Any = None) -> float:
    """Return how far a tile's feature moves, or its contribution to a sum, when every pixel outside is scrambled."""
    tiling = own("tiling").Tiling.from_spec(SPEC)
    view = own("embedding.view").TileView(backbone(), torch.float32, tiling, has_whole)
    setting = own("embedding.setting").Setting("quadratic", regions=SPEC, power=8.0, readout="sum")
    pooling = own("embedding.pooling").Pooling(setting)
    W = torch.randn(pooling.lift.dim(backbone().embed_dim), 2, dtype=torch.float64) if head is None else head
    image, worst = noise(), 0.0

    def found(picture: Image.Image) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = view.encode(view.transform(picture)[None])
        trace = pooling.trace(tokens)
        return tokens.H[0], own("attribution").region_contribution(trace.H, trace.pi, W, lift=trace.lift)

    H, brought = found(image)
    for r, (x0, y0, x1, y1) in enumerate(tiling.boxes(SIZE).tolist()):
        pixels = np.asarray(noise(seed=r + 1)).copy()
        pixels[y0:y1, x0:x1] = np.asarray(image)[y0:y1, x0:x1]
        H_r, brought_r = found(Image.fromarray(pixels))
        moved = [float((a[r] - b[r]).abs().max()) for a, b in ((H, H_r), (brought, brought_r))]
        assert not torch.equal(H, H_r), "nothing moved: the scrambled pixels were not seen at all"
        worst = max(worst, *moved)
    return worst


def check_locality() -> None:
    """Bit for bit."""
    for has_whole in (False, True):
        assert locality_error(has_whole) == 0.0, "a tile saw beyond its box"


class World:
    """Features of the tiles of one picture, of very different norms, and a head; every answer by loops beside it."""

    def __init__(self, power: float, readout: str, share: float, t: float, grids: tuple[int, ...] = GRIDS) -> None:
        rng = np.random.default_rng(4)
        spec = "tiles:" + ",".join(f"{k}@0.25" for k in grids)
        self.tiling, self.grids = own("tiling").Tiling.from_spec(spec), grids
        self.R, D = len(self.tiling), 6
        features = rng.normal(size=(self.R + 1, D)) * rng.uniform(0.6, 1.8, size=(self.R + 1, 1))
        self.features = torch.tensor(features, dtype=torch.float32)
        self.setting = own("embedding.setting").Setting(
            "quadratic", t=t, sigma_spatial=0.7, sigma_feature=0.9, global_share=share, regions=spec, power=power,
            readout=readout,
        )  # fmt: skip
        token = self.features[None, -1] if share else None
        tokens = own("embedding.tokens").Tokens(self.features[None, :-1], None, token, tiling=self.tiling)
        self.trace = own("embedding.pooling").Pooling(self.setting).trace(tokens)
        self.N = self.R + bool(share)
        M = self.trace.lift.dim(D)
        G = torch.tensor(rng.normal(size=(12, M)))
        self.head = own("head").RidgeHead(0.5, True).fit(G, torch.arange(12) % 3)
        self.coalitions = self.trace.coalitions(self.head)

    def shown(self, keep: Array) -> Array:
        """Return the logits of a picture that has these tiles alone, written out: nothing asks the others."""
        s, H = self.setting, self.features.double().numpy()
        places = shares_of(self.grids)
        P = places[:, :2] + places[:, 2:] - 1.0
        local, whole = np.flatnonzero(keep[: self.R]), bool(s.global_share and keep[self.R :].any())
        D = H.shape[1]
        weights = [float(np.linalg.norm(H[i]) / np.sqrt(D)) ** s.power for i in local]
        if s.readout == "sum":
            told = s.global_share if whole else 0.0
            r = np.array([w / self.R * (1.0 - s.global_share) for w in weights])
        else:
            told = 0.0 if not whole else 1.0 if not len(local) else s.global_share
            r = np.array([w / sum(weights) * (1.0 - told) for w in weights])
        if len(local):
            X = [H[i] / np.linalg.norm(H[i]) for i in local]
            places, reach = P[local], (2 * s.sigma_feature**2, 2 * s.sigma_spatial**2)
            W = np.ones((len(X), len(X)))
            for i, j in np.ndindex(W.shape):
                apart = np.sum((X[i] - X[j]) ** 2) / reach[0] + np.sum((places[i] - places[j]) ** 2) / reach[1]
                W[i, j] = np.exp(-apart)
            pi = ref.heat(ref.laplacian(W)[1], s.t) @ r
        else:
            pi = r
        phi = own("lift").lift_from(s.lift).features(torch.tensor(H)).numpy()
        g = sum((p * phi[i] for p, i in zip(pi, local, strict=True)), told * phi[-1])
        return g @ self.head.W_star.numpy() + self.head.bias.numpy()

    def error(self, subsets: int = 40) -> float:
        """Return the largest difference of a prediction from what is shown, over subsets, over the largest logit."""
        keep = np.random.default_rng(7).random((self.N, subsets)) < 0.5
        keep = np.concatenate([keep, np.ones((self.N, 1), bool), ~np.eye(self.N, dtype=bool)], axis=1)
        expected = np.stack([self.shown(column) for column in keep.T])
        found = self.coalitions.logits(torch.tensor(keep)).numpy()
        return float(np.abs(found - expected).max() / np.abs(expected).max())


WORLDS = list(itertools.product((0.0, 8.0), ("mean", "sum"), (0.0, 0.2), (0.0, 1.5)))  # power, readout, share, t


def check_shown() -> None:
    """Any subset, as if only that had been there: for every readout, share and time."""
    for power, readout, share, t in WORLDS:
        error = World(power, readout, share, t).error()
        assert error <= 1e-12, f"power {power:g}, {readout}, share {share:g}, t {t:g}: off by {error:.1e}"


def additive_errors(world: World) -> dict[str, float]:
    """Return how far a contribution is from the drop, the drop from the enumerated Shapley value, interactions from 0.

    Relative to the largest contribution.
    """
    logit = world.head.logit(1)
    parts = own("explanation.parts").take_apart(world.trace, logit)
    asked = world.trace.coalitions(logit)
    shapley = ref.shapley(lambda keep: world.shown(keep)[1:2], world.N)[:, 0]
    size = float(parts.token.abs().max())
    pairs = asked.interactions()[..., 0]
    return {
        "contribution and drop": float((parts.token - parts.drop).abs().max()) / size,
        "contribution and Shapley": float(np.abs(parts.token.numpy() - shapley).max()) / size,
        "interactions": float(pairs.abs().max()) / size,
        "sum and logit": abs(parts.sums["regions by token"] - parts.logit) / size,
        "dual and logit": abs(parts.sums["training pictures, dual"] - parts.logit) / size,
    }


def check_additive() -> None:
    """Under a sum at t = 0 three numbers are one."""
    for share in (0.0, 0.2):
        for what, error in additive_errors(World(8.0, "sum", share, 0.0, (2,))).items():
            assert error <= 1e-12, f"{what}: {error:.1e}"


def middle_shares(k: int, overlap: float) -> Array:
    """What each box of a grid is drawn on: as far around its centre as half the way to the next one."""
    boxes = grid_shares(k, overlap)
    centres, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (1.0 - overlap) * (boxes[0, 2] - boxes[0, 0]) / 2
    return np.concatenate([centres - half, centres + half], axis=1)


def check_map() -> None:
    """The map for the eye against a loop over pixels, and its sum."""
    tiling = own("tiling").Tiling.from_spec(SPEC)
    values = torch.tensor(np.random.default_rng(5).normal(size=len(tiling)))
    expected, (width, height) = np.zeros(SIZE[::-1]), SIZE
    drawn = np.concatenate([middle_shares(k, 0.25) for k in GRIDS]) * [width, height, width, height]
    for value, (x0, y0, x1, y1) in zip(values.tolist(), drawn, strict=True):
        for y in range(height):
            for x in range(width):
                covered = max(min(x1, x + 1) - max(x0, x), 0) * max(min(y1, y + 1) - max(y0, y), 0)
                expected[y, x] += value * covered / ((y1 - y0) * (x1 - x0))
    found = tiling.pixel_map(values, SIZE)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-15)
    np.testing.assert_allclose(float(found.sum()), float(values.sum()), rtol=0, atol=1e-12)


CHECKS = (check_boxes, check_locality, check_shown, check_additive, check_map)
