"""The accuracy benchmark on a few toy birds, against direct computation; the tables of the docs are its results."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import embeddings
from benchmarks.embeddings import Numbers, Pictures, mark_chosen, measure_all, plan
from carrot import TimmViTPatchBackbone
from carrot.data import split_indices
from carrot.data.toy import EMBEDDED_MODEL, ToyBirds, embedded_checkpoint
from carrot.embedding.cache import TokenCache
from tests import reference

pytestmark = pytest.mark.filterwarnings("ignore:lam = .* is the end of the path")
FEW = ["class token, ridge", "class token, kNN", "side by side", "tau 0.5", "cosine", "identity"]


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    data = ToyBirds(n_train_per_class=6, n_test_per_class=2, n_species=4)
    backbone = TimmViTPatchBackbone(EMBEDDED_MODEL, checkpoint=embedded_checkpoint(), crop="squash", attention=None)
    cache = TokenCache.of(data, backbone, tmp_path_factory.mktemp("tokens"))
    labels = torch.tensor([record.label for record in data.records])
    return Pictures(cache, split_indices(data, "train"), split_indices(data, "test"), labels)


@pytest.fixture(scope="module")
def rows(birds: Pictures, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Numbers]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embeddings, "default_grid", lambda: [(0.2, 0.7, 0.5), (0.5, 1.0, 2.0)])
        measured = measure_all(birds, plan(), tmp_path_factory.mktemp("rows") / "rows.json", "birds", FEW)
    mark_chosen(measured)
    return {str(row["name"]): row for row in measured}


def tokens(birds: Pictures, indices: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return patch tokens, class tokens and attention, a picture at a time."""
    pictures = [birds.cache.picture(i) for i in indices]
    found = [(p.H[0].double(), p.class_token[0].double(), p.attention[0].double()) for p in pictures]
    columns = zip(*found, strict=True)
    return tuple(np.stack([x.numpy() for x in column]) for column in columns)  # type: ignore[return-value]


def predict(G: np.ndarray, Y: np.ndarray, lam: float, g: np.ndarray) -> np.ndarray:
    """Ridge in its dual form, as short as it gets: the primal refits of a lifted embedding would take minutes."""
    mean, y_mean = G.mean(0), Y.mean(0)
    return y_mean + (g - mean) @ (G - mean).T @ np.linalg.solve(
        (G - mean) @ (G - mean).T + lam * np.eye(len(G)), Y - y_mean
    )


def ridge(birds: Pictures, G: np.ndarray, g: np.ndarray, lam: float) -> dict[str, float]:
    """Refit without each training picture in turn; then predict the test pictures."""
    y = birds.y[birds.train].numpy()
    Y = np.eye(4)[y]
    left_out = np.stack([predict(np.delete(G, i, 0), np.delete(Y, i, 0), lam, G[i]) for i in range(len(G))])
    return {
        "loo_mse": float(np.square(Y - left_out).mean()),
        "loo": float((left_out.argmax(1) == y).mean()),
        "test": float((predict(G, Y, lam, g).argmax(1) == birds.y[birds.test].numpy()).mean()),
    }


def check(birds: Pictures, row: Numbers, G: np.ndarray, g: np.ndarray) -> None:
    direct = ridge(birds, G, g, float(row["lam"]))  # type: ignore[arg-type]
    assert row["M"] == G.shape[1]
    assert {key: row[key] for key in direct} == pytest.approx(direct, rel=1e-7)  # lam >= 1e-7 of an eigenvalue
    for key, n in (("loo", len(G)), ("test", len(g))):
        assert row[f"{key}_se"] == pytest.approx(math.sqrt(direct[key] * (1 - direct[key]) / n))


def test_class_token_and_mean(birds: Pictures, rows: dict[str, Numbers]) -> None:
    (H, z, A), (h, x, a) = tokens(birds, birds.train), tokens(birds, birds.test)
    check(birds, rows["class token, ridge"], z, x)
    sizes = np.linalg.norm(z, axis=1).mean(), np.linalg.norm(H.mean(1), axis=1).mean()
    G, g = (np.hstack([c / sizes[0], p.mean(1) / sizes[1]]) for c, p in ((z, H), (x, h)))
    check(birds, rows["class token and mean side by side, ridge"], G, g)
    G, g = ((A[..., None] ** 0.5 * H).sum(1) / (A**0.5).sum(1)[:, None] for H, A in ((H, A), (h, a)))
    check(birds, rows["identity, tau 0.5"], G, g)


def test_regions_with_and_without_the_class_token(birds: Pictures, rows: dict[str, Numbers]) -> None:
    def lifted(indices: list[int], weigh) -> np.ndarray:  # type: ignore[no-untyped-def]
        return np.stack(
            [
                reference.mean_map(reference.quadratic(H), weigh(H, z, A))
                for H, z, A in zip(*tokens(birds, indices), strict=True)
            ]
        )

    def check_weights(name: str, weigh) -> None:  # type: ignore[no-untyped-def]
        check(birds, rows[name], lifted(birds.train, weigh), lifted(birds.test, weigh))

    check_weights("quadratic, tau 0.5", lambda H, z, A: A**0.5 / (A**0.5).sum())
    check_weights(
        "quadratic, cosine to the class token, tau 5",
        lambda H, z, A: reference.source_weights(reference.cosines(H, z), 5.0),
    )


def test_nearest_neighbours(birds: Pictures, rows: dict[str, Numbers]) -> None:
    (_, z, _), (_, x, _) = tokens(birds, birds.train), tokens(birds, birds.test)
    y = birds.y[birds.train].numpy()

    def guess(one: np.ndarray, others: list[int]) -> int:
        cosines = {j: one @ z[j] / np.linalg.norm(one) / np.linalg.norm(z[j]) for j in others}
        score = np.zeros(4)
        for j in sorted(cosines, key=cosines.__getitem__, reverse=True)[:20]:
            score[y[j]] += math.exp(cosines[j] / 0.07)
        return int(score.argmax())

    n = len(z)
    left_out = [guess(z[i], [j for j in range(n) if j != i]) == y[i] for i in range(n)]
    right = [guess(one, list(range(n))) == int(label) for one, label in zip(x, birds.y[birds.test], strict=True)]
    assert rows["class token, kNN"]["loo"] == pytest.approx(np.mean(left_out))
    assert rows["class token, kNN"]["test"] == pytest.approx(np.mean(right))


def test_what_is_chosen(birds: Pictures, rows: dict[str, Numbers]) -> None:
    chosen = [row for row in rows.values() if row.get("chosen")]
    assert {row["kind"] == "global region" for row in chosen} == {True, False}
    assert len(chosen) == 2
    for row in chosen:
        kinds = {"global region"} if row["kind"] == "global region" else {"guide", "regions"}
        others = [r for r in rows.values() if r["kind"] in kinds and "cosine" not in str(r["name"])]
        assert row["loo_mse"] == min(r["loo_mse"] for r in others)  # type: ignore[type-var]
    diffused = rows["quadratic, tau 0.5, diffused"]
    assert diffused["setting"]["t"] > 0  # type: ignore[index]
    assert rows["identity, diffused"]["chosen_from"] == diffused["chosen_from"] + 1  # type: ignore[operator]


def test_a_killed_run_goes_on(birds: Pictures, tmp_path: Path) -> None:
    kept, (one, two) = tmp_path / "rows.json", plan()[:3:2]

    def killed(_: Pictures) -> Numbers:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_all(birds, [one, replace(two, measure=killed)], kept, "a")
    first = measure_all(birds, [replace(one, measure=killed), two], kept, "a")
    assert [row["name"] for row in first] == [one.name, two.name]
    assert measure_all(birds, [replace(one, measure=killed), two], kept, "a") == first
    with pytest.raises(KeyboardInterrupt):  # other data, or another grid
        measure_all(birds, [replace(one, measure=killed), two], kept, "b")
