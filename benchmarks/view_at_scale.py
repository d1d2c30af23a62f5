"""Does looking at a model stay quick as its training set grows? Pages, the explorer and the desk, at 100 to 50,000.

Usage: python -m benchmarks.view_at_scale [SIZE ...] [--only PART ...] [--folder FOLDER]   (index: if asked for)

What is real: the commands, each in a process of its own; the server, asked over HTTP; Chromium; the embedded backbone
with 3 x 3 tiles under the quadratic lift (M = 2,080), 20 classes; the fit, lam by leave-one-out. What is synthetic: toy
birds; of a training set larger than 500 pictures, files are hard links to 500 drawn ones, and each picture's kept
tokens are a blend of two birds' of its species, with noise, so that no embedding comes twice. Every fiftieth label is
another one.

Answers are checked before they are timed: a page's logits are Python's, an explanation's parts sum to the logit, and
what the desk says of a decision is what a real fit says.

Needs the extras `app` and `browser`, and a Chromium. Writes benchmarks/results/view_at_scale.json.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import quote

import torch
from playwright.sync_api import sync_playwright

from benchmarks.harness import RESULTS, facts, write
from benchmarks.page import STATE, TIMED
from carrot import Carrot, RidgeHead
from carrot.classifier.classifier import Classifier
from carrot.classifier.files import save
from carrot.classifier.fitted import Fitted
from carrot.data import split_indices
from carrot.data.folder import ImageFolder
from carrot.data.inputs import content_sha256
from carrot.data.records import Subset
from carrot.data.toy import ToyBirds
from carrot.embedding.cache import TokenCache
from carrot.embedding.encoder import Encoder
from carrot.embedding.kept import KeptTokens
from carrot.store.shards import EmbeddingStore

SIZES = (100, 3_000, 50_000)
SPECIES, DRAWN, SEED = 20, 25, 0  # pictures drawn of each species, at most
MOVED = 50  # every so many labels one is another species'
INDEXED = 3_000  # pictures of a folder
ROUNDS = 4
APART = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
took = {"s": time.perf_counter() - start, "cpu_s": used.ru_utime + used.ru_stime, "peak_MiB": used.ru_maxrss / 1024}
print(json.dumps(took))
sys.exit(status)
"""  # a small process between: the system counts a parent's memory as its child's, until that is another program


# ---- a model of so many pictures


def built(root: Path, n: int) -> Path:
    """Return the folder of a model of n training pictures, made if it isn't there."""
    model, pictures = root / f"model-{n}", root / f"pictures-{n}"
    if model.exists():
        return model
    drawn = min(DRAWN, n // SPECIES)
    birds = ToyBirds(n_train_per_class=drawn, n_test_per_class=2, n_species=SPECIES)
    files: dict[tuple[str, int], list[Path]] = {}
    (root / f"drawn-{n}").mkdir(parents=True)
    for place, record in enumerate(birds.records):
        file = root / f"drawn-{n}" / f"{place}.png"
        birds.image(place).save(file)
        files.setdefault((record.split, record.label), []).append(file)
    for split, count in (("train", n), ("test", SPECIES * 2)):
        for i in range(count):
            own = i % SPECIES
            label = (own + 1 + i // MOVED) % SPECIES if split == "train" and i % MOVED == MOVED - 1 else own
            of = files[split, own]
            place = pictures / split / birds.classes[label] / f"{i:05d}_{own}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            os.link(of[i // SPECIES % len(of)], place)
    carrot = Carrot("toy", regions="tiles:3")
    fit(carrot, ImageFolder(pictures), pictures, model)
    return model


def fit(carrot: Carrot, data: ImageFolder, pictures: Path, model: Path) -> None:
    """Fit a model as ``Carrot.fit`` does, on tokens that were made up, and write it."""
    setting, train = carrot.setting_, Subset(data, split_indices(data, "train"))
    encoder = carrot.encoder.of(setting)
    cache = tokens_of(encoder, train, model / "tokens" / "made_up")
    rows, labels = cache.rows, torch.tensor([record.label for record in train.records])
    own = torch.ones(len(rows), dtype=torch.float64)
    head = RidgeHead("loo", fit_intercept=True).fit(cache.embed(rows, setting), labels, own)
    (store,) = cache.stores
    kept = KeptTokens((str(store.folder),), (store.key,), cache.layout)
    fitted = Fitted.of(head, setting, train, rows, own, cache, kept, data=str(pictures))
    save(model, Classifier(encoder, fitted))


def tokens_of(encoder: Encoder, train: Subset, folder: Path) -> TokenCache:
    """Return the kept tokens of a training set, made up from those of its distinct files."""
    generator = torch.Generator().manual_seed(SEED)
    digests = [content_sha256(record) for record in train.records]
    species = [int(Path(record.id).stem.partition("_")[2]) for record in train.records]
    first = {digest: place for place, digest in reversed(list(enumerate(digests)))}
    H = {digest: encoder.tokens([train.image(place)]).H[0].float() for digest, place in first.items()}
    alike: dict[int, list[str]] = {}
    for digest, place in first.items():
        alike.setdefault(species[place], []).append(digest)
    spread = torch.stack(list(H.values())).std()
    view = encoder.view
    ids = [record.id for record in train.records]
    store = EmbeddingStore(folder, {"tokens": "made up", "seed": SEED}, ids, view.parts[0].shard)
    for shard in store.missing():
        rows, made = store.rows(shard), []
        for row in rows:
            others = alike[species[row]]
            other = H[others[int(torch.randint(len(others), (1,), generator=generator))]]
            share = 0.4 * float(torch.rand(1, generator=generator))
            noise = 0.2 * spread * torch.randn(other.shape, generator=generator)
            made.append((1.0 - share) * H[digests[row]] + share * other + noise)
        sha256 = torch.tensor([list(bytes.fromhex(digests[row])) for row in rows], dtype=torch.uint8)
        store.write(shard, {"H": torch.stack(made).to(view.dtype), "sha256": sha256})
    return TokenCache([store], view.layout, {})


# ---- what is measured


def command(*words: object) -> dict[str, float]:
    """Run Python in a process of its own; return its seconds, those of the processor, and the most memory it held."""
    inner = [sys.executable, "-W", "ignore", *map(str, words)]
    run = subprocess.run([sys.executable, "-c", APART, *inner], capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"{words} ended with {run.returncode}: {run.stderr[-2000:]}")
    found: dict[str, float] = json.loads(run.stdout)
    return found


def milliseconds(run: Callable[[], object], processor: Callable[[], float] = time.process_time) -> dict[str, float]:
    """Return the first time, the median and the most of the next ones, and what these took of the processor, in ms.

    Args:
        run: What is timed.
        processor: Seconds of the process that does it, on all its threads.
    """
    times, busy = [], []
    for _ in range(1 + ROUNDS):
        start, before = time.perf_counter(), processor()
        run()
        times.append(1e3 * (time.perf_counter() - start))
        busy.append(1e3 * (processor() - before))
    found = {"first": times[0], "first_cpu": busy[0], "median": median(times[1:]), "most": max(times[1:])}
    return found | {"cpu": sum(busy[1:]) / ROUNDS}


def in_python(model: Path, pictures: list[Path], page: Path) -> tuple[dict[str, Any], torch.Tensor]:
    """Return what an explanation takes in a process that has the model, and its logits."""
    start, before = time.perf_counter(), time.process_time()
    carrot = Carrot.load(model)
    found: dict[str, Any] = {"load_ms": 1e3 * (time.perf_counter() - start)}
    found["load_cpu_ms"] = 1e3 * (time.process_time() - before)
    turn = iter(pictures * ROUNDS)
    found["explain_ms"] = milliseconds(lambda: carrot.explain(next(turn)))
    e = carrot.explain(pictures[0])
    if max(map(abs, e.residual.values())) > 1e-6:
        raise AssertionError(f"the parts of the logit don't sum to it: {e.residual}")
    found["page_ms"] = milliseconds(lambda: e.to_html(page))
    found["page_bytes"] = page.stat().st_size
    return found, e.parts.logits


def in_chromium(page: Path, logits: torch.Tensor | None) -> dict[str, Any]:
    """Return how soon a page is there and answers."""
    chromium = next(
        found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        opened = []
        for _ in range(ROUNDS):
            shown = browser.new_page(viewport={"width": 1200, "height": 900})
            start = time.perf_counter()
            shown.goto(page.as_uri())
            if logits is not None:
                shown.evaluate(TIMED)  # until a first change is drawn
            opened.append(1e3 * (time.perf_counter() - start))
            if len(opened) < ROUNDS:
                shown.close()
        found: dict[str, Any] = {"open_ms": median(opened)}
        if logits is not None:
            shown.evaluate("location.hash = ''")
            here = torch.tensor(shown.evaluate(STATE)["logits"], dtype=torch.float64)
            if float((here - logits).abs().max()) > 1e-6:
                raise AssertionError("the page says something else than Python")
            times = [float(shown.evaluate(TIMED)) for _ in range(40)]
            found |= {"interaction_ms": {"median": median(times), "most": max(times)}}
        browser.close()
    return found


class Explorer:
    """``carrot explore`` in a process of its own."""

    def __init__(self, model: Path) -> None:
        start = time.perf_counter()
        words = [sys.executable, "-W", "ignore", "-m", "carrot", "explore", str(model), "--port", "0", "--no-open"]
        self.child = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        assert self.child.stderr is not None
        address = None
        while address is None:
            line = self.child.stderr.readline()
            if not line:
                raise RuntimeError("carrot explore ended")
            address = re.search(r"http://(127\.0\.0\.1:\d+)/", line)
        self.host = address[1]
        page = self.get("/").decode()
        self.cold, self.cold_cpu = time.perf_counter() - start, self.processor()
        self.token = re.search(r'name="carrot-token" content="([^"]+)"', page)[1]  # type: ignore[index]
        self.state = json.loads(self.get("/desk/api/progress"))["state"]

    def get(self, path: str) -> bytes:
        """Return what is answered, after a redirection."""
        return self._asked("GET", path)

    def post(self, path: str, **given: str) -> Any:
        """Return what is answered to a page of ours."""
        body = json.dumps({"state": self.state, **given}).encode()
        return json.loads(self._asked("POST", path, body))

    def _asked(self, method: str, path: str, body: bytes | None = None) -> bytes:
        connection = HTTPConnection(self.host, timeout=600)
        connection.request(method, path, body, {"X-Carrot-Token": self.token} if body else {})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        if answer.status == 303:
            return self.get(answer.headers["Location"].partition("#")[0])
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status} {content[:500]!r}")
        return content

    def processor(self) -> float:
        """Return the seconds that its threads have run."""
        tasks = Path(f"/proc/{self.child.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9

    @property
    def peak(self) -> float:
        """The most memory that it held, MiB."""
        status = Path(f"/proc/{self.child.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]

    def close(self) -> None:
        """End it."""
        self.child.terminate()
        self.child.wait()


def explored(model: Path, n: int) -> dict[str, Any]:
    """Return what the explorer and the desk take."""
    shutil.rmtree(model / "desk", ignore_errors=True)
    server = Explorer(model)
    try:
        some = json.loads(server.get("/desk/api/progress"))["queue"]
        found: dict[str, Any] = {"cold_s": server.cold, "cold_cpu_s": server.cold_cpu, "queue": len(some)}
        key, label, keys = some[0]["key"], quote(some[0]["label"]), iter([one["key"] for one in some] * 9)
        asked: dict[str, Callable[[], str]] = {
            "list": lambda: "/",
            "a far page": lambda: f"/?page={n // 60}",
            "errors": lambda: "/?show=errors",
            "low margin": lambda: "/?show=low&sort=margin",
            "of one class, by name": lambda: f"/?label={label}&sort=name",
            "held out": lambda: "/?of=test",
            "explanation page": lambda: f"/picture/{next(keys)}",
            "explanation page, again": lambda: f"/picture/{key}",
            "thumbnail": lambda: f"/thumb/{next(keys)}",
            "desk": lambda: "/desk",
            "where the desk stands": lambda: "/desk/api/progress",
            "desk, one picture": lambda: f"/desk/api/look/{next(keys)}",
            "desk, its pair of tiles": lambda: f"/desk/api/pair/{next(keys)}",
        }
        found["ms"] = {
            name: milliseconds(lambda path=path: server.get(path()), server.processor)  # type: ignore[misc]
            for name, path in asked.items()
        }
        found["ms"] |= decided(server, some, model)
        found["peak_MiB"] = server.peak
    finally:
        server.close()
        shutil.rmtree(model / "desk", ignore_errors=True)
    return found


def decided(server: Explorer, queue: list[dict[str, Any]], model: Path) -> dict[str, Any]:
    """Make decisions, look at the next ones on top of them, and take them back; all is held against a real fit."""
    waiting = iter([*queue[5 * (1 + ROUNDS) :], *queue])  # those that were not looked at yet, as far as they go
    said, fitted = dict[str, Any](), Carrot.load(model).fitted
    made: dict[int, int | None] = {}

    def look() -> None:
        said.update(json.loads(server.get(f"/desk/api/look/{next(waiting)['key']}")))

    def decide(action: str) -> None:
        label = said["suggested"] if action == "relabel" else ""
        now = server.post(f"/desk/api/look/{said['key']}", action=action, label=label)["now"]
        made[fitted.places[said["id"]]] = fitted.classes.index(label) if label else None
        if now["right"] != said["effects"][action]["right"]:
            raise AssertionError("a decision did something else than the desk had said before it")
        said["now"] = now

    def turn(action: str) -> None:
        look()
        decide(action)

    found = {
        f"look and {action}": milliseconds(lambda a=action: turn(a), server.processor)
        for action in ("relabel", "forget")
    }  # type: ignore[misc]
    found["desk, one picture, on top"] = milliseconds(look, server.processor)
    edited = refitted(fitted, made)
    if edited != said["now"]["right"]:
        raise AssertionError(f"{said['now']['right']} pictures are right by the desk, {edited} by a real fit")
    found["undo"] = milliseconds(lambda: server.post("/desk/api/undo"), server.processor)
    return found


def refitted(fitted: Fitted, made: dict[int, int | None]) -> int:
    """Return how many pictures are told right without themselves, by a fit of the edited ones."""
    labels, head = fitted.labels.clone(), fitted.head
    stay = torch.tensor([row for row in range(len(labels)) if made.get(row, 0) is not None])
    for row, label in made.items():
        labels[row] = -1 if label is None else label
    again = RidgeHead(head.lam, head.fit_intercept).fit(head.G[stay], labels[stay])
    return int((again.loo_predict().argmax(1) == labels[stay]).sum())


def in_processes(model: Path, pictures: list[Path], out: Path) -> dict[str, Any]:
    """Return what the commands take, and what Python takes for what they import."""
    return {
        "torch, torchvision and timm": command("-c", "import torch, timm, torchvision"),
        "explain": command("-m", "carrot", "explain", model, pictures[0], "--out", out / "page.html"),
        "audit": command("-m", "carrot", "audit", model),
        "report": command("-m", "carrot", "report", model, "--out", out / "report.html"),
    }


def page(model: Path, pictures: list[Path], out: Path) -> dict[str, Any]:
    """Return what an explanation and its page take, and the model's size."""
    found, logits = in_python(model, pictures[:3], out / "page.html")
    head = Carrot.load(model).fitted.head
    found |= {"n": head.G.shape[0], "M": head.G.shape[1], "classes": head.Y.shape[1], "lam": head.lam}
    found["model_MB"] = sum(f.stat().st_size for f in model.iterdir() if f.is_file()) / 1e6
    return found | in_chromium(out / "page.html", logits)


def index(model: Path, root: Path, out: Path) -> dict[str, Any]:
    """Return what an index of a folder of pictures takes, what it takes again, and how soon it is open."""
    folder = root / "indexed"
    if not folder.exists():
        birds = ToyBirds(n_train_per_class=1, n_test_per_class=INDEXED // SPECIES, n_species=SPECIES)
        folder.mkdir()
        for place in split_indices(birds, "test"):
            birds.image(place).save(folder / f"{place}.png")
    shutil.rmtree(out / "index", ignore_errors=True)
    words = ("-m", "carrot", "explain", model, folder, "--out", out / "index")
    found: dict[str, Any] = {"pictures": len(list(folder.iterdir())), "made": command(*words), "again": command(*words)}
    written = out / "index" / "index.html"
    return found | {"bytes": written.stat().st_size} | in_chromium(written, None)


PARTS: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    "commands": lambda root, n: in_processes(built(root, n), shown_ones(root, n), root / "out"),
    "page": lambda root, n: page(built(root, n), shown_ones(root, n), root / "out"),
    "explorer": lambda root, n: explored(built(root, n), n),
    "index": lambda root, n: index(built(root, n), root, root / "out"),
}


def shown_ones(root: Path, n: int) -> list[Path]:
    """Return pictures that were not fitted on."""
    return sorted((root / f"pictures-{n}" / "test").rglob("*.png"))


def main() -> None:
    """Measure, print, write: what was measured before of other sizes and parts stays, with its commit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", type=int, default=list(SIZES))
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[part for part in PARTS if part != "index"])
    parser.add_argument("--folder", type=Path, help="models stay there, and are found again")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = given.folder or Path(temporary)
        (root / "out").mkdir(parents=True, exist_ok=True)
        for n in given.sizes:
            built(root, n)
            for part in given.only:
                made = facts()
                row = {"training_pictures": n, "part": part, "commit": made["commit"], "date": made["date"]}
                row |= PARTS[part](root, n)
                print(json.dumps(row, indent=1), flush=True)
                path = RESULTS / "view_at_scale.json"
                rows = json.loads(path.read_text())["rows"] if path.exists() else []
                rows = [old for old in rows if (old["training_pictures"], old["part"]) != (n, part)]
                rows = sorted([*rows, row], key=lambda row: (list(PARTS).index(row["part"]), row["training_pictures"]))
                write("view_at_scale", rows, backbone="toy", setting="tiles:3, quadratic")


if __name__ == "__main__":
    main()
