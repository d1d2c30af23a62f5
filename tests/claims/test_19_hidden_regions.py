"""Claim 19: a logit, had one tile of one training picture never been shown, for every tile of every picture."""

import numpy as np
import torch

from carrot import Carrot
from carrot.data.toy import ToyBirds
from tests import reference as ref
from tests.claims.world import relative

STATEMENT = (
    "Hiding any tile of any training picture, all at once, is showing the backbone that picture without it and "
    "refitting"
)
FORMULA = (
    "w (k(g, z) (w c R + s R_z) - k(g, g_i) ((1 + w q) R - w c R_z)) / (s (1 + w q) + (w c)^2), "
    "z = sum_{m != k} pi_im(k) phi(h_im), c = k(g_i, z), q = k(z, z)"
)
ASSUMPTION = "lam held; tiles, each seen alone (patch tokens: without the backbone running again)"
BIRDS = ToyBirds(n_train_per_class=3, n_test_per_class=1, n_species=3)
POWER, LAM = 8.0, 0.01
ALONE = Carrot("toy", regions="tiles:1", dtype="float32")  # sees one whole picture: the tile that it is given


def features(picture: int, kept: list[int]) -> np.ndarray:
    """Return the backbone's features of some of the 2 x 2 tiles of a picture, each cut and shown alone."""
    boxes = [(0, 0, 107, 107), (53, 0, 160, 107), (0, 53, 107, 160), (53, 53, 160, 160)]  # overlapping by half
    image = BIRDS.image(picture)
    return np.stack([ALONE.trace(image.crop(boxes[k])).H[0].numpy() for k in kept])


def embedding(H: np.ndarray) -> np.ndarray:
    """Return the mean of tiles, each as it weighs by its own norm among those that are there."""
    r = (np.linalg.norm(H, axis=1) / np.linalg.norm(H, axis=1).max()) ** POWER
    return r @ H / r.sum()


def measure() -> float:
    """Return the largest error relative to the largest value of the brute-force answer."""
    n, test = 9, len(BIRDS) - 1
    weights = np.linspace(0.5, 2.0, n)
    worst = 0.0
    for intercept in (True, False):
        settings = {"regions": "tiles:2", "power": POWER, "lift": "identity", "dtype": "float32"}
        model = Carrot("toy", **settings, lam=LAM, fit_intercept=intercept)
        model.fit(BIRDS, sample_weight=weights.tolist())
        found = model.hidden_regions(BIRDS.image(test), 2, 0, verify=True)
        H = [features(picture, [0, 1, 2, 3]) for picture in range(n)]
        G, Y = np.stack([embedding(h) for h in H]), np.eye(3)[[record.label for record in BIRDS.records[:n]]]
        g = embedding(features(test, [0, 1, 2, 3]))

        expected = np.zeros((n, 4))
        for i, k in np.ndindex(n, 4):
            others = G.copy()
            others[i] = embedding(features(i, [m for m in range(4) if m != k]))
            before, after = (ref.predict(rows, Y, LAM, intercept, g, weights) for rows in (G, others))
            expected[i, k] = (after - before) @ [-1.0, 0.0, 1.0]
        worst = max(worst, relative(found.effects, torch.tensor(expected)))
        assert found.difference is not None
        worst = max(worst, found.difference / float(np.abs(expected).max()))
    return worst


def test_claim() -> None:
    assert measure() <= 1e-5  # float32 rounding of the backbone, which is run again for each picture without a tile
