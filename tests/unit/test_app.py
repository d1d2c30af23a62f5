"""``carrot explore``: every route, what is refused, what a decision does, and what two people at once see."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

pytest.importorskip("starlette", reason="pip install '.[app]'")
pytest.importorskip("httpx", reason="pip install '.[dev]'")

from starlette.testclient import TestClient

from carrot import Carrot, RidgeHead, cli
from carrot._display import extras
from carrot.app import server, versions
from carrot.app.bounded import Bounded
from carrot.app.decisions import Decision, Decisions
from carrot.app.guard import is_loopback
from carrot.app.held import Asked, key_of
from carrot.app.serving import AddressError, listening
from carrot.app.versions import next_name
from carrot.data.toy import ToyBirds
from carrot.errors import DataError
from carrot.store.files import locked

HOST = "http://127.0.0.1:7860"
BIRDS = ToyBirds(n_train_per_class=6, n_test_per_class=2, n_species=4, wrong_labels=0.15)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures, and a model of it with its tokens and those of the held-out pictures."""
    root = tmp_path_factory.mktemp("app")
    for place, record in enumerate(BIRDS.records):
        folder = root / "birds" / record.split / BIRDS.classes[record.label]
        folder.mkdir(parents=True, exist_ok=True)
        BIRDS.image(place).save(folder / f"{place}.png")
    model = Carrot("toy", regions="tiles:2@0", lam=0.1)
    model.fit(root / "birds", tokens=root / "model" / "tokens")
    model.save(root / "model")
    assert cli.main(["audit", str(root / "model")]) == 0
    return root / "model"


@pytest.fixture
def folder(fitted: Path, tmp_path: Path) -> Path:
    """A model of its own."""
    return Path(shutil.copytree(fitted, tmp_path / "model"))


class Asking:
    """A browser: it knows the token of the page that it has seen."""

    def __init__(self, folder: Path, **more: Any) -> None:
        self.explorer = server.Explorer(Asked(folder), "127.0.0.1", {"carrot": "test"}, **more)
        self.client = TestClient(self.explorer.app, base_url=HOST, raise_server_exceptions=True)
        self.state = self.explorer._held.state

    def get(self, path: str, **more: Any) -> Any:
        return self.client.get(path, follow_redirects=False, **more)

    def post(self, path: str, body: dict[str, str] | bytes = b"", **headers: str) -> Any:
        content = body if isinstance(body, bytes) else json.dumps({"state": self.state, **body}).encode()
        ours = {"X-Carrot-Token": self.explorer.token, "Origin": HOST}
        return self.client.post(path, content=content, headers={**ours, **headers})

    def key(self, place: int = 0) -> str:
        return str(self.get("/desk/api/progress").json()["queue"][place]["key"])


@pytest.fixture
def asking(folder: Path) -> Asking:
    return Asking(folder)


@pytest.fixture(scope="module")
def reading(fitted: Path) -> Asking:
    """For tests that change nothing."""
    return Asking(fitted)


def png(size: tuple[int, int] = (64, 48), colour: str = "olive", **more: Any) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, more.pop("format", "PNG"), **more)
    return out.getvalue()


def test_the_gallery(reading: Asking) -> None:
    page = reading.get("/")
    assert page.status_code == 200
    assert page.text.count('class="card ') == 24
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["cache-control"] == "no-store"
    assert not re.findall(r"(?:src|href|action)=[\"'](?:https?:)?//", page.text)
    assert not re.search(r"<script(?! src)|\sstyle=|\son[a-z]+=", page.text)
    loo = Carrot.load(reading.explorer.asked.folder).fitted
    wrong = int((loo.head.loo_predict().argmax(1) != loo.labels).sum())
    assert reading.get("/?show=errors").text.count('class="card wrong') == wrong
    first = BIRDS.classes[0]
    of_class = reading.get("/", params={"label": first}).text
    assert of_class.count('class="card ') == int((loo.labels == loo.classes.index(first)).sum())
    margins = [float(x) for x in re.findall(r"margin ([-+][0-9.]+)", reading.get("/?sort=margin").text)]
    assert margins == sorted(margins)
    close = re.findall(r"margin ([-+][0-9.]+)", reading.get("/?show=low&below=0.3").text)
    assert close
    assert all(abs(float(x)) <= 0.3 for x in close)
    names = re.findall(r'<span class="file">(?:<bdi[^>]*>)?([^<]+)<', page.text)
    assert len(names) == 24
    assert all(name.endswith(".png") for name in names)
    flagged = reading.get("/?show=suspects").text.count('class="card ')
    assert flagged == len(Carrot.load(reading.explorer.asked.folder).audit().doubtful)


def test_a_card_shows_the_number_that_it_is_sorted_by(reading: Asking) -> None:
    numbers = {"doubt": r"doubt (.[0-9.]+), its label", "margin": r"margin (.[0-9.]+)", "sure": r"margin (.[0-9.]+)"}
    numbers["leverage"] = r"leverage ([0-9.]+)"
    for sort, number in numbers.items():
        for show in ("all", "low", "suspects"):
            page = reading.get("/", params={"sort": sort, "show": show, "below": "1"}).text
            found = [float(x) for x in re.findall(number, page)]
            assert len(found) == page.count('class="card ') > 0
            assert found == sorted(found, reverse=sort in ("doubt", "sure", "leverage"))
    held_out = reading.get("/?of=test&sort=leverage").text
    assert 'value="leverage"' not in held_out
    assert re.findall(numbers["doubt"], held_out), "they have no leverage, so the most doubtful come first"


def test_sliders_narrow_a_view_in_its_link_and_without_script(reading: Asking) -> None:
    suspects = Carrot.load(reading.explorer.asked.folder).audit().doubtful
    least = sorted(s.probability for s in suspects)[1]
    page = reading.get("/", params={"show": "suspects", "p": f"{least + 1e-9:.9f}"}).text
    assert page.count('class="card ') == 2
    form = re.findall(r"<form class=.filters.*?</form>", page, re.S)[0]
    assert re.findall(r'type="range" name="(\w+)"', form) == ["p"]
    assert 'method="get" action="/"' in form
    assert "<button>" in form
    low = reading.get("/?show=low&p=0.3&below=0.2&label=").text
    assert re.findall(r'type="range" name="(\w+)"[^>]* value="([0-9.]+)"', low) == [("below", "0.2")]
    assert '<input type="hidden" name="p" value="0.3">' in low, "the other view's stays as it is"
    assert 'href="/?show=suspects&amp;below=0.2&amp;p=0.3"' in low
    assert 'type="range"' not in reading.get("/").text
    assert reading.get("/?show=suspects&p=-4").text.count('class="card ') == sum(
        s.probability <= 0.01 for s in suspects
    )


@pytest.mark.parametrize(
    "query", ["page=99999999999", "page=-1", "page=٣", "below=nan", "p=inf", "p=x", "sort=x", "show=<b>", "of=../"]
)
def test_a_link_that_says_something_wrong_is_a_link(reading: Asking, query: str) -> None:
    page = reading.get(f"/?{query}")
    assert page.status_code == 200
    assert '<b>"' not in page.text


def test_pages_turn(reading: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carrot.app.gallery.PAGE", 10)
    pages = [reading.get(f"/?page={n}").text for n in (1, 2, 3)]
    keys = [re.findall(r"/picture/([0-9a-f]+)", page) for page in pages]
    assert [len(found) for found in keys] == [10, 10, 4]
    assert len({key for found in keys for key in found}) == 24
    assert 'rel="next" href="/?page=2"' in pages[0]
    assert 'rel="next"' not in pages[2]


def test_held_out_pictures_are_shown_where_their_tokens_are_kept(asking: Asking) -> None:
    page = asking.get("/?of=test")
    assert page.text.count('class="card ') == 8
    key = re.findall(r"/picture/([0-9a-f]+)", page.text)[0]
    assert asking.get(f"/thumb/{key}").headers["content-type"] == "image/jpeg"
    answer = asking.get(f"/picture/{key}")
    assert answer.headers["location"] == f"/picture/{key}/page"
    assert "was not fitted on it" in asking.get(answer.headers["location"]).text
    assert asking.get(f"/desk/api/look/{key}").status_code == 404


def test_without_their_tokens_the_backbone_does_not_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in (folder / "tokens").iterdir():
        if len(list(part.rglob("embeddings-*"))) < 3:
            shutil.rmtree(part)
    monkeypatch.setattr("carrot.embedding.encoder.Encoder.encode", lambda *_: pytest.fail("the backbone ran"))
    shutil.rmtree(folder / "tokens")
    page = Asking(folder).get("/?of=test").text
    assert "carrot audit" in page
    assert 'class="card ' not in page


def test_a_training_pictures_page_begins_without_it(reading: Asking) -> None:
    key = reading.key()
    held = reading.explorer._held
    entry = held.by_key[key]
    e = held.carrot.explain(held.picture(entry), label=entry.suspect.label)
    assert e.counterfactuals is not None
    place = e.counterfactuals.rows.index(entry.place)
    answer = reading.get(f"/picture/{key}")
    assert answer.status_code == 303
    state = f"c={held.fitted.classes.index(entry.said)}&o={place}"
    assert answer.headers["location"] == f"/picture/{key}/page#{state}", "what it says without it is explained"
    page = reading.get(f"/picture/{key}/page")
    assert "was fitted on this picture" in page.text
    assert f"without it, it says {entry.said}" in page.text
    assert f'href="#{state.replace("&", "&amp;")}"' in page.text
    stated = re.search(r'Content-Security-Policy" content="([^"]*)"', page.text)
    assert stated is not None
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert page.text.count('class="explore-bar"') == 1
    other = BIRDS.classes[-1]
    asked = reading.get(f"/picture/{key}/page", params={"target": other}).text
    assert f'href="#c={held.fitted.classes.index(other)}&amp;o=' in asked, "what is asked for stays what is explained"
    assert reading.get(f"/picture/{key}").headers["location"].endswith(state)
    assert reading.get(f"/picture/{key}/page?target=nobody").status_code == 400


TRICKS = [
    *(
        "/thumb/../../etc/passwd",
        "/thumb/..%2f..%2fetc%2fpasswd",
        "/static/..%2f__init__.py",
        "/static/%2e%2e/guard.py",
    ),
    *("/image/%00", "/picture/config.json", "/thumb/train%2f0.png", "/desk/..%5c..", "/yours/..%2fconfig.json"),
    *(
        "/static//etc/passwd",
        "/picture/" + "a" * 5000,
        "/model/config.json",
        "/thumb/\ud800".encode("utf-8", "ignore").decode(),
    ),
]


@pytest.mark.parametrize("path", TRICKS)
def test_nothing_is_served_that_the_index_does_not_name(reading: Asking, path: str) -> None:
    answer = reading.get(path)
    assert answer.status_code == 404
    assert b"root:" not in answer.content
    assert b"import " not in answer.content


def test_pictures_that_are_gone_or_changed_are_said_to_be(asking: Asking, tmp_path: Path) -> None:
    held = asking.explorer._held
    entry = held.training[0]
    record = held.fitted.records[entry.place]
    other = tmp_path / "other.png"
    other.write_bytes(png())
    changed = held.fitted.records[entry.place].__class__(**{**vars(record), "path": str(other)})
    records = tuple(changed if place == entry.place else r for place, r in enumerate(held.fitted.records))
    object.__setattr__(held.fitted, "records", records)
    assert "no longer the picture" in asking.get(f"/thumb/{entry.key}").text
    answer = asking.get(f"/picture/{entry.key}")
    assert answer.status_code == 404
    assert "no longer the picture" in answer.text


# ---- who may ask


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "192.0.2.7:7860", "", "[::2]:1"]
)
def test_another_host_is_refused(reading: Asking, host: str) -> None:
    assert reading.get("/", headers={"Host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost:7860", "127.0.0.1", "[::1]:7860", "127.0.0.1:1"])
def test_our_own_names_are_answered(reading: Asking, host: str) -> None:
    assert reading.get("/", headers={"Host": host}).status_code == 200


def test_listening_to_others_still_refuses_names_that_were_made_to_lead_here(folder: Path) -> None:
    explorer = server.Explorer(Asked(folder), "0.0.0.0", {})
    client = TestClient(explorer.app, base_url="http://192.0.2.7:7860")
    assert client.get("/upload").status_code == 200
    assert client.get("/upload", headers={"Host": "evil.example:7860"}).status_code == 421
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "10.0.0.1", "box")] == [
        *(True, True, True),
        *(False, False, False),
    ]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"X-Carrot-Token": "guessed"},
        {"X-Carrot-Token": ""},
        {"X-Carrot-Token": "\xe9"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_a_post_must_come_from_our_own_pages(reading: Asking, headers: dict[str, str]) -> None:
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = reading.post("/desk/api/undo", {}, **raw)  # type: ignore[arg-type]
    assert answer.status_code == 403
    assert reading.client.request("PUT", "/upload").status_code == 405
    assert reading.client.request("DELETE", "/desk/api/undo").status_code == 405


# ---- one's own picture


def test_ones_own_picture_is_explained_and_kept_for_a_while(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "UPLOADS", 3000)
    asking = Asking(folder)
    answer = asking.post("/upload?name=..%2F..%2Fmy%20%3Cb%3Ebird.png", png())
    assert answer.status_code == 200
    link = answer.json()["link"]
    page = asking.get(link)
    assert page.status_code == 200
    assert "my &lt;b&gt;bird.png" in page.text
    assert "../" not in page.text.split("<body")[0]
    assert asking.get(link).text == page.text
    noise = Image.effect_noise((60, 60), 90).convert("RGB")
    out = io.BytesIO()
    noise.save(out, "PNG")
    assert asking.post("/upload", out.getvalue()).status_code == 200
    gone = asking.get(link)
    assert gone.status_code == 404
    assert "no longer in memory" in gone.text
    assert not [path for path in folder.rglob("*") if "bird" in path.name]


def test_a_picture_under_another_name_has_that_name(reading: Asking) -> None:
    links = [reading.post(f"/upload?name={name}.png", png()).json()["link"] for name in ("one", "two", "one")]
    assert links[0] == links[2] != links[1]
    pages = [reading.get(link).text for link in links]
    assert ["one.png" in page for page in pages] == [True, False, True]
    assert ["two.png" in page for page in pages] == [False, True, False]


def test_a_part_of_ones_own_picture(reading: Asking) -> None:
    picture = Image.new("RGB", (64, 48), "olive")
    picture.paste(BIRDS.image(0).resize((32, 24)), (16, 12))
    out = io.BytesIO()
    picture.save(out, "PNG")
    link = reading.post("/upload?name=bird.png", out.getvalue()).json()["link"]
    assert "/part" not in link
    assert "parts of pictures" not in reading.get(link).text + reading.get("/upload").text
    assert f'href="{link}/part"' in reading.get(link).text
    assert f'action="{link}"' in reading.get(f"{link}/part").text
    assert reading.get(f"{link}/image").headers["content-type"] == "image/jpeg"
    part = reading.get(f"{link}?x=16&y=12&width=32&height=24").text
    assert "bird.png (box 16,12,32,24)" in part
    e = reading.explorer._held.carrot.explain(picture.crop((16, 12, 48, 36)))
    assert f'"logit": {e.parts.logit!r}' in part or f"{float(e.parts.logits.max()):.3f}" in part
    for wrong in ("x=1&y=1&width=0&height=4", "x=1", "x=a&y=1&width=2&height=2", "x=nan&y=1&width=2&height=2"):
        refused = reading.get(f"{link}?{wrong}")
        assert refused.status_code == 400
        assert "x, y, width and height in pixels, with an area" in refused.text
    assert reading.get(f"{link}?x=900&y=900&width=20&height=20").status_code == 422
    for missing in ("/yours/" + "0" * 64, "/yours/..%2f"):
        assert reading.get(f"{missing}/part").status_code == reading.get(f"{missing}/image").status_code == 404


def test_a_model_of_objects_says_that_it_is_given_a_whole_picture(tmp_path: Path) -> None:
    root = tmp_path / "boxed"
    root.mkdir()
    lines = ["image,label,split,bbox_x,bbox_y,bbox_width,bbox_height"]
    for place in range(24):
        BIRDS.image(place).save(root / f"{place}.png")
        lines.append(f"{place}.png,{BIRDS.classes[BIRDS.records[place].label]},train,8,8,48,40")
    (root / "labels.csv").write_text("\n".join(lines))
    Carrot("toy", regions="tiles:2@0", lam=0.1).fit(f"object:{root}").save(tmp_path / "model")
    asking, warning = Asking(tmp_path / "model"), "fitted on parts of pictures, such as the boxes of objects"
    assert warning in asking.get("/upload").text
    link = asking.post("/upload?name=bird.png", png()).json()["link"]
    assert link.endswith("/part"), "a box is asked for first"
    assert warning in asking.get(link).text
    whole = link.removesuffix("/part")
    assert warning in asking.get(whole).text
    assert warning not in asking.get(f"{whole}?x=8&y=8&width=48&height=40").text


def header_of(wide: int, high: int) -> bytes:
    """Return a PNG file that says to be so large, and holds nothing."""
    import struct
    import zlib

    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", wide, high, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"")),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (header_of(60000, 60000), 422, "it has far too many pixels, and the limit is 150,000,000"),
        (header_of(9000, 9000), 422, "9000 x 9000 pixels, more than 64,000,000. Give a smaller one"),
        (header_of(100, 100), 422, "can't be read as a picture"),
        (png(format="JPEG")[:400], 422, "can't be read as a picture"),
        (b"PK\x03\x04" + bytes(500), 422, "can't be read as a picture"),
        (b"", 422, "empty"),
        (b"not a picture", 422, "can't be read as a picture"),
        (png()[:60], 422, "can't be read as a picture"),
        (png((1, 1)), 422, "nothing to see"),
        (png((4000, 1)), 422, "nothing to see"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 422, "can't be read as a picture"),
    ],
)
def test_bad_pictures_are_refused_in_words(reading: Asking, content: bytes, status: int, words: str) -> None:
    answer = reading.post("/upload?name=it.png", content)
    assert answer.status_code == status
    assert words in answer.json()["error"]
    assert answer.json()["error"].startswith("it.png: ")


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "PIXELS", 1000)
    monkeypatch.setattr(server, "decode_image", lambda *_: pytest.fail("decoded"))
    answer = asking.post("/upload", png((40, 40)))
    assert answer.status_code == 422
    assert "40 x 40 pixels" in answer.json()["error"]


def test_of_a_moving_picture_the_first_frame_is_explained(reading: Asking) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    link = reading.post("/upload", out.getvalue()).json()["link"]
    assert "its first frame" in reading.get(link).text


def test_a_body_that_is_too_large_is_refused(folder: Path) -> None:
    asking = Asking(folder, most=4000)
    assert asking.post("/upload", b"x" * 5000).status_code == 413

    def pieces() -> Any:  # states no size
        yield from [b"x" * 1000] * 9

    headers = {"X-Carrot-Token": asking.explorer.token}
    answer = asking.client.post("/upload", content=pieces(), headers=headers)
    assert answer.status_code == 413
    assert "Give a smaller one" in answer.json()["error"]
    assert asking.post("/desk/api/undo", b"[" * 3000).status_code == 400
    assert asking.post("/desk/api/undo", b'["x"]').status_code == 400


# ---- the desk


def really(model: Carrot, edits: dict[str, str | None]) -> tuple[int, int]:
    """Return how many pictures real fits without each of them tell right, after edits, and of how many."""
    f = model.fitted
    labels = {r.id: edits.get(r.id, f.classes[r.label]) for r in f.records}
    stay = [row for row, r in enumerate(f.records) if labels[r.id] is not None]
    classes = list(dict.fromkeys([*f.classes, *(label for label in edits.values() if label)]))
    y = torch.tensor([classes.index(str(labels[f.records[row].id])) for row in stay])
    G, Y = f.head.G[stay], torch.nn.functional.one_hot(y, len(classes)).double()
    right = 0
    for i in range(len(stay)):
        others = [j for j in range(len(stay)) if j != i]
        head = RidgeHead(f.head.lam, f.head.fit_intercept).fit(G[others], Y[others])
        right += int(head.predict(G[i]).argmax() == y[i])
    return right, len(stay)


def test_the_desk_tells_what_a_decision_does_and_it_does(asking: Asking, folder: Path) -> None:
    model = Carrot.load(folder)
    assert asking.get("/desk").status_code == 200
    edits: dict[str, str | None] = {}
    for place, action in enumerate(("relabel", "forget", "relabel")):
        key = asking.key(place)
        seen = asking.get(f"/desk/api/look/{key}").json()
        for way, label in (("keep", seen["label"]), ("forget", None), ("relabel", seen["suggested"])):
            right, pictures = really(model, {**edits, seen["id"]: label})
            told = seen["effects"][way]
            assert (told["right"], told["pictures"]) == (right, pictures)
        other = next(name for name in model.classes_ if name not in (seen["label"], seen["suggested"]))
        told = asking.get(f"/desk/api/effect/{key}", params={"label": other}).json()
        assert (told["right"], told["pictures"]) == really(model, {**edits, seen["id"]: other})
        edits[seen["id"]] = seen["suggested"] if action == "relabel" else None
        done = asking.post(f"/desk/api/look/{key}", {"action": action, "label": seen["suggested"]})
        assert done.status_code == 200
        assert done.json()["done"] == place + 1
        assert (done.json()["now"]["right"], done.json()["now"]["pictures"]) == really(model, edits)
    assert asking.get(f"/desk/api/pair/{asking.key(3)}").json()["kind"] == "tiles"

    # it survives a kill, and the table is what `carrot apply` replays
    again = Asking(folder)
    assert again.get("/desk/api/progress").json()["done"] == 3
    made = again.post("/desk/api/apply", {})
    assert made.status_code == 200, made.text
    new = Path(made.json()["folder"])
    assert new == folder.parent / "model-2"
    certificate = json.loads(Path(made.json()["certificate"]).read_bytes())
    assert len(certificate["relabelled"]) == 2
    assert len(certificate["forgotten"]) == 1
    assert certificate["largest_difference"] < 1e-9
    old = Carrot.load(folder)
    assert len(old.records_) == 24
    assert all(path.exists() for path in (folder / "tokens").rglob("*"))
    replayed = folder.parent / "replayed"
    shutil.copytree(folder, replayed)
    assert cli.main(["apply", str(replayed), str(folder / "desk" / "edits.csv")]) == 0
    a, b = Carrot.load(new), Carrot.load(replayed)
    assert [record.id for record in a.records_] == [record.id for record in b.records_]
    assert torch.equal(a.head_.W_star, b.head_.W_star)
    gone = next(name for name, label in edits.items() if label is None)
    sha256 = next(record.sha256 for record in old.records_ if record.id == gone)
    import safetensors.torch

    left = [
        bytes(digest.tolist()).hex()
        for path in (new / "tokens").rglob("*.safetensors")
        for digest in safetensors.torch.load_file(path)["sha256"]
    ]
    assert left
    assert sha256 not in left
    assert a.explain(BIRDS.image(0)).residual  # and it goes on
    refused = again.post("/desk/api/apply", {"name": "model-2"})
    assert refused.status_code == 400
    assert "is there already" in refused.json()["error"]
    for name in ("../elsewhere", "/tmp/x", ".hidden", "a/b", "a\0b", "x" * 200):
        assert again.post("/desk/api/apply", {"name": name}).status_code == 400
    assert sorted(path.name for path in folder.parent.iterdir()) == ["model", "model-2", "replayed"]
    assert next_name(folder) == "model-3"
    assert next_name(new) == "model-3"


def test_the_desk_says_what_the_others_say_by_now(asking: Asking, folder: Path) -> None:
    """The suggestion, the witnesses' labels and the probabilities are those of the model that the edits make."""
    key = asking.key()
    first = asking.get(f"/desk/api/look/{key}").json()
    held = asking.explorer._held
    others = [e for e in held.training if e.suspect.label == first["suggested"] and e.key != key]
    third = next(name for name in held.fitted.classes if name not in (first["label"], first["suggested"]))
    for entry in others[1:]:
        assert asking.post(f"/desk/api/look/{entry.key}", {"action": "relabel", "label": third}).status_code == 200
    seen = {key: asking.get(f"/desk/api/look/{key}").json() for key in (key, asking.key(1), asking.key(3))}
    assert seen[key]["suggested"] != first["suggested"]
    new = Carrot.load(Path(asking.post("/desk/api/apply", {}).json()["folder"]))
    audited = {s.id: s for s in new.audit().suspects}
    labels = {record.id: new.fitted.classes[record.label] for record in new.fitted.records}
    for look in seen.values():
        if look["decision"] is None:
            s = audited[look["id"]]
            assert (look["suggested"], look["flagged"], look["verdict"]) == (s.suggested, s.flagged, s.verdict)
            assert next(x["p"] for x in look["said"] if x["class"] == s.label) == pytest.approx(s.probability, abs=1e-6)
        for one in (*look["for"], *look["against"]):
            assert one["label"] == labels[one["id"]]
            assert look["decision"] or one["doubtful"] == audited[one["id"]].is_doubtful


def test_a_class_that_is_new_is_asked_for_told_and_made(asking: Asking, folder: Path) -> None:
    model, keys = Carrot.load(folder), [asking.key(place) for place in range(3)]
    ids = [asking.get(f"/desk/api/look/{key}").json()["id"] for key in keys]
    refused = asking.post(f"/desk/api/look/{keys[0]}", {"action": "relabel", "label": "owl"})
    assert refused.status_code == 400
    assert "must be asked for" in refused.json()["error"]
    for wrong in ("", "  ", "a\nb", "\0"):
        body = {"action": "relabel", "label": wrong, "new": "yes"}
        assert asking.post(f"/desk/api/look/{keys[0]}", body).status_code == 400
    edits: dict[str, str | None] = {}
    for key, name, is_alone in zip(keys, ids, (True, False, False), strict=True):
        told = asking.get(f"/desk/api/effect/{key}", params={"label": " owl "}).json()
        assert (told["label"], told["new"], told["alone"], told["twins"]) == ("owl", True, is_alone, [])
        assert told["near"] == []
        edits[name] = "owl"
        assert (told["right"], told["pictures"]) == really(model, edits)
        done = asking.post(f"/desk/api/look/{key}", {"action": "relabel", "label": "owl", "new": "yes"}).json()
        assert (done["now"]["right"], done["new"]) == (told["right"], ["owl"])
    twin = asking.get(f"/desk/api/effect/{asking.key(3)}", params={"label": "OWL"}).json()
    assert (twin["twins"], twin["near"]) == (["owl"], [])
    for typed in (BIRDS.classes[0][:5].upper(), "Ow", "oowl"):  # the first letters, or nearly the name
        near = asking.get(f"/desk/api/effect/{asking.key(3)}", params={"label": typed}).json()["near"]
        assert near == ([BIRDS.classes[0]] if len(typed) == 5 else ["owl"])
    again = Asking(folder)  # killed, and started again
    assert again.get("/desk/api/progress").json()["new"] == ["owl"]
    assert again.get("/desk/api/progress").json()["stale"] == 0
    made = Carrot.load(Path(again.post("/desk/api/apply", {}).json()["folder"]))
    assert made.fitted.leave_one_out()["loo_accuracy"] == pytest.approx(done["now"]["right"] / done["now"]["pictures"])
    table = str(folder / "desk" / "edits.csv")
    assert cli.main(["apply", str(folder), table]) == 1
    assert cli.main(["apply", str(folder), table, "--new-class"]) == 0
    assert torch.equal(made.head_.W_star, Carrot.load(folder).head_.W_star)
    assert Carrot.load(folder).fitted.classes == (*model.fitted.classes, "owl")


def test_undo_and_keep_and_another_mind(asking: Asking, folder: Path) -> None:
    first, second = asking.key(0), asking.key(1)
    start = asking.get("/desk/api/progress").json()["now"]
    asking.post(f"/desk/api/look/{first}", {"action": "forget"})
    asking.post(f"/desk/api/look/{second}", {"action": "keep"})
    asking = Asking(folder)  # killed, and started again
    seen = asking.get(f"/desk/api/look/{first}").json()
    assert seen["decision"]["action"] == "forget"
    assert asking.post("/desk/api/undo", {}).json()["key"] == second
    found = asking.post(f"/desk/api/look/{first}", {"action": "relabel", "label": seen["suggested"]}).json()
    assert (found["done"], found["edits"]) == (1, 1)
    assert found["now"]["right"] == seen["effects"]["relabel"]["right"]
    found = asking.post(f"/desk/api/look/{first}", {"action": "keep"}).json()
    assert (found["done"], found["edits"], found["now"]) == (1, 0, start)
    assert asking.post("/desk/api/undo", {}).json()["key"] == first
    empty = asking.post("/desk/api/undo", {}).json()
    assert (empty["key"], empty["done"]) == (None, 0)
    for body in (
        {"action": "burn"},
        {"action": "relabel", "label": "nobody"},
        {"action": "relabel", "label": seen["label"]},
    ):
        assert asking.post(f"/desk/api/look/{first}", body).status_code == 400
    assert asking.post("/desk/api/apply", {}).status_code == 400


def test_a_class_is_never_left_empty(asking: Asking) -> None:
    held = asking.explorer._held
    of_class = [e for e in held.training if e.suspect.label == BIRDS.classes[1]]
    for entry in of_class[:-1]:
        assert asking.post(f"/desk/api/look/{entry.key}", {"action": "forget"}).status_code == 200
    last = asking.get(f"/desk/api/look/{of_class[-1].key}").json()
    assert "without a training picture" in last["effects"]["forget"]["refused"]
    assert asking.post(f"/desk/api/look/{of_class[-1].key}", {"action": "forget"}).status_code == 400


def test_taking_back_leaves_no_class_empty_either(asking: Asking, folder: Path) -> None:
    """One comes in, the only others go out: it can't be kept where it was, and not be taken back to there."""
    held = asking.explorer._held
    one = next(e for e in held.training if e.suspect.label == BIRDS.classes[0])
    of_class = [e for e in held.training if e.suspect.label == BIRDS.classes[1]]
    comes = {"action": "relabel", "label": BIRDS.classes[1]}
    assert asking.post(f"/desk/api/look/{one.key}", comes).status_code == 200
    for entry in of_class:
        assert asking.post(f"/desk/api/look/{entry.key}", {"action": "forget"}).status_code == 200
    keep = asking.get(f"/desk/api/look/{one.key}").json()["effects"]["keep"]
    assert "without a training picture" in keep["refused"]
    assert keep["pictures"] == len(held.training) - len(of_class)
    assert asking.post(f"/desk/api/look/{one.key}", {"action": "keep"}).status_code == 400
    assert asking.post(f"/desk/api/look/{one.key}", comes).status_code == 200, "the last by now"
    undone = asking.post("/desk/api/undo", {})
    assert undone.status_code == 400
    assert "without a training picture" in undone.json()["error"]
    assert asking.post("/desk/api/apply", {}).status_code == 200, "what is decided can be applied all the while"
    assert asking.post(f"/desk/api/look/{of_class[0].key}", {"action": "keep"}).status_code == 200
    assert asking.get(f"/desk/api/look/{one.key}").json()["effects"]["keep"]["refused"] is None


def test_what_others_wrote_is_not_replaced(asking: Asking, folder: Path) -> None:
    asking.post(f"/desk/api/look/{asking.key()}", {"action": "forget"})
    table = folder / "desk" / "edits.csv"
    mine = table.read_text() + f"{asking.explorer._held.training[5].suspect.id},forget,\n"
    table.write_text(mine)
    refused = asking.post(f"/desk/api/look/{asking.key(1)}", {"action": "forget"})
    assert refused.status_code == 409
    assert table.read_text() == mine
    assert len(Decisions(folder / "desk").all) == 2  # what somebody added is taken up after a reload
    table.write_text("id,action,label\nnew.png,add,x\n")
    with pytest.raises(DataError, match="adds pictures"):
        Decisions(folder / "desk")


def test_what_is_applied_is_what_the_desk_shows(asking: Asking, folder: Path) -> None:
    asking.post(f"/desk/api/look/{asking.key()}", {"action": "forget"})
    table = folder / "desk" / "edits.csv"
    table.write_text(table.read_text().replace(",forget,", ",relabel,x"))
    assert asking.post("/desk/api/apply", {}).status_code == 409
    assert not (folder.parent / "model-2").exists()


@pytest.mark.parametrize(
    ("name", "text"), [("edits.csv", "my own notes\n"), ("edits.csv", "\xff\xfe"), ("kept.csv", "a,b\n1,2\nmine,3\n")]
)
def test_a_table_that_no_desk_wrote_is_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "desk").mkdir()
    (tmp_path / "desk" / name).write_text(text, encoding="latin-1")
    with pytest.raises(DataError):
        Decisions(tmp_path / "desk")
    assert (tmp_path / "desk" / name).read_text(encoding="latin-1") == text


def test_two_who_apply_at_once_make_one_version(asking: Asking, folder: Path) -> None:
    asking.post(f"/desk/api/look/{asking.key()}", {"action": "forget"})
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: asking.post("/desk/api/apply", {"name": "new"}), range(4)))
    found = [one.status_code for one in made]
    assert sorted(found)[0] == 200
    assert set(sorted(found)[1:]) <= {400, 409}, "it is there already, or is being made"
    assert not list(folder.parent.glob(".new*"))


def test_decisions_that_are_done_are_put_away_and_kept(asking: Asking, folder: Path) -> None:
    asking.post(f"/desk/api/look/{asking.key()}", {"action": "forget"})
    table = (folder / "desk" / "edits.csv").read_bytes()
    assert cli.main(["apply", str(folder), str(folder / "desk" / "edits.csv")]) == 0
    again = Asking(folder)
    assert again.get("/desk/api/progress").json()["stale"] == 1
    assert again.post("/desk/api/tidy", {}).json()["stale"] == 0
    assert (folder / "desk" / "edits-1.csv").read_bytes() == table


def test_a_decision_that_was_cut_off_between_the_tables_is_one(tmp_path: Path) -> None:
    desk = Decisions(tmp_path / "desk")
    desk.decide(Decision("a", "forget"))
    before = desk.edits.read_bytes()
    desk.decide(Decision("b", "keep"))
    desk.decide(Decision("a", "keep"))
    desk.edits.write_bytes(before)
    assert {d.id: d.action for d in Decisions(tmp_path / "desk").all} == {"a": "keep", "b": "keep"}


# ---- copies that killed processes leave


def killed_copy(folder: Path, monkeypatch: pytest.MonkeyPatch, asking: Asking) -> Path:
    """Return what a process that is killed while it makes a version leaves."""

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("carrot.app.versions.Carrot.load", killed)
        patch.setattr("carrot.app.versions.shutil.rmtree", lambda *_, **__: None)  # a killed one doesn't clear up
        with pytest.raises(KeyboardInterrupt):
            versions.new_version(folder, asking.explorer._desk.decisions.table(), "x", asking.explorer._held.seal, {})
    (found,) = folder.parent.glob(".x.*.tmp")
    return found


def test_the_copy_of_a_killed_process_goes_with_the_next_version(
    asking: Asking, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking.post(f"/desk/api/look/{asking.key()}", {"action": "forget"})
    left = killed_copy(folder, monkeypatch, asking)
    assert (left / "config.json").exists()
    spared = {
        "of another model": lambda path: (path / versions.MARK).write_bytes(b"carrot copy 1 of /elsewhere"),
        "unmarked": lambda path: (path / versions.MARK).unlink(),
        "with a file of somebody's": lambda path: (path / "notes.txt").write_text("mine"),
    }
    for number, spoil in enumerate(spared.values()):
        spoil(Path(shutil.copytree(left, folder.with_name(f".x.{number:08d}.tmp"))))
    living = Path(shutil.copytree(left, folder.with_name(".x.aaaaaaaa.tmp")))
    other_name = Path(shutil.copytree(left, folder.with_name("x.bbbbbbbb.tmp")))
    folder.with_name(".x.cccccccc.tmp").symlink_to(left)
    ready, done = threading.Event(), threading.Event()

    def lives() -> None:
        with locked(living):
            ready.set()
            done.wait(30)

    thread = threading.Thread(target=lives)
    thread.start()
    ready.wait(30)
    made = asking.post("/desk/api/apply", {})
    done.set()
    thread.join()
    assert made.status_code == 200, made.text
    assert not left.exists()
    assert len(list(folder.parent.glob(".x.0000000*.tmp"))) == len(spared)
    assert (living / "config.json").exists()
    assert (other_name / "config.json").exists()
    assert folder.with_name(".x.cccccccc.tmp").is_symlink()
    assert not (Path(made.json()["folder"]) / versions.MARK).exists()
    assert asking.post("/desk/api/apply", {}).status_code == 200
    assert not living.exists(), "its process is gone by now"


# ---- the model changed underneath, and two at once


def test_two_who_decide_on_one_picture_are_told(asking: Asking) -> None:
    key, other = asking.key(0), asking.key(1)
    suggested = asking.get(f"/desk/api/look/{key}").json()["suggested"]
    assert (
        asking.post(f"/desk/api/look/{key}", {"action": "relabel", "label": suggested, "seen": ""}).status_code == 200
    )
    late = asking.post(f"/desk/api/look/{key}", {"action": "forget", "seen": ""})
    assert late.status_code == 409
    assert f"somebody else decided on it: relabel {suggested}. Nothing was changed" in late.json()["error"]
    assert asking.get(f"/desk/api/look/{key}").json()["decision"]["action"] == "relabel"
    same = {"action": "relabel", "label": suggested, "seen": ""}
    assert asking.post(f"/desk/api/look/{key}", same).status_code == 200, "both say the same"
    after = asking.post(f"/desk/api/look/{key}", {"action": "forget", "seen": f"relabel {suggested}"})
    assert after.status_code == 200, "who has seen it may change it"
    mine = after.json()["last"]["id"]
    theirs = asking.post(f"/desk/api/look/{other}", {"action": "keep", "seen": ""}).json()["last"]["id"]
    late = asking.post("/desk/api/undo", {"seen": mine})
    assert late.status_code == 409
    assert f"the last is {theirs}: keep. Nothing was taken back" in late.json()["error"]
    assert asking.post("/desk/api/undo", {"seen": theirs}).json()["key"] == other
    assert asking.post("/desk/api/undo", {"seen": mine}).json()["key"] == key
    gone = asking.post(f"/desk/api/look/{key}", {"action": "keep", "seen": "forget"})
    assert "somebody else took the decision on it back" in gone.json()["error"]
    assert "nothing is decided any more" in asking.post("/desk/api/undo", {"seen": mine}).json()["error"]
    assert asking.post("/desk/api/undo", {"seen": ""}).json()["key"] is None


def test_two_servers_of_one_model_lose_nothing(asking: Asking, folder: Path) -> None:
    other = Asking(folder)
    first, second = asking.key(0), asking.key(1)
    assert asking.post(f"/desk/api/look/{first}", {"action": "forget", "seen": ""}).status_code == 200
    late = other.post(f"/desk/api/look/{second}", {"action": "forget", "seen": ""})
    assert (late.status_code, late.json()["changed"]) == (409, True)
    assert other.post("/reload", {}).status_code == 200
    assert other.get("/desk/api/progress").json()["done"] == 1
    assert other.post(f"/desk/api/look/{second}", {"action": "forget", "seen": ""}).status_code == 200
    assert asking.post("/desk/api/undo", {}).status_code == 409
    assert len(Decisions(folder / "desk").all) == 2
    both = [asking, other]
    assert asking.post("/reload", {}).status_code == 200
    keys = [asking.key(place) for place in range(2, 4)]
    with ThreadPoolExecutor(2) as pool:
        each = zip(both, keys, strict=True)
        found = list(
            pool.map(lambda one: one[0].post(f"/desk/api/look/{one[1]}", {"action": "keep"}).status_code, each)
        )
    assert sorted(found) in ([200, 409], [409, 409])
    assert len(Decisions(folder / "desk").all) == 2 + found.count(200)


@pytest.mark.parametrize("how", ["relabel", "apply", "overwritten", "damaged", "gone"])
def test_whatever_changes_the_model_it_is_told_and_nothing_is_served(asking: Asking, folder: Path, how: str) -> None:
    key, entry = asking.key(), asking.explorer._held.training[0]
    link = asking.post("/upload?name=it.png", png()).json()["link"]
    paths = ("/", "/desk", "/upload", link, f"{link}/part", f"{link}/image", f"/picture/{key}", f"/thumb/{key}")
    assert {asking.get(path).status_code for path in paths} <= {200, 303}, "and now they are kept in memory"
    if how == "relabel":
        assert cli.main(["relabel", str(folder), entry.suspect.id, entry.suspect.suggested, "--no-verify"]) == 0
    elif how == "apply":
        table = folder.parent / "edits.csv"
        table.write_text(f"id,action,label\n{entry.suspect.id},forget,\n")
        assert cli.main(["apply", str(folder), str(table), "--no-verify"]) == 0
    elif how == "overwritten":
        Carrot("toy", regions="tiles:2@0", lam=0.3).fit(BIRDS).save(folder)
    elif how == "damaged":
        (folder / "config.json").write_bytes((folder / "config.json").read_bytes()[:-20])
    else:
        shutil.rmtree(folder)
    for path in paths:
        answer = asking.get(path)
        assert answer.status_code == 409, path
        assert "changed by another program" in answer.text
    assert asking.post(f"/desk/api/look/{key}", {"action": "forget"}).status_code == 409
    assert asking.post("/upload?name=it.png", png()).status_code == 409
    assert not (folder / "desk").exists()
    again = asking.post("/reload", {})
    if how in ("damaged", "gone"):
        assert again.status_code == 409
        assert str(folder) in again.json()["error"]
        assert asking.get("/").status_code == 409
    else:
        assert again.status_code == 200
        known = asking.get(f"/thumb/{key}").status_code
        assert known == (200 if how == "relabel" else 404)


def test_a_model_that_changed_is_not_mixed(asking: Asking, folder: Path) -> None:
    key = asking.key()
    asking.get("/")
    gone = asking.explorer._held.training[-1].suspect.id
    assert cli.main(["forget", str(folder), gone, "--no-verify"]) == 0
    for path in ("/", "/desk", f"/picture/{key}", f"/thumb/{key}", f"/desk/api/look/{key}"):
        answer = asking.get(path)
        assert answer.status_code == 409
        assert "changed by another program" in answer.text
    assert asking.post(f"/desk/api/look/{key}", {"action": "keep"}).json()["changed"] is True
    assert not (folder / "desk").exists()
    assert asking.post("/reload", {}).status_code == 200
    assert asking.get("/").text.count('class="card ') == 23
    stale = asking.post(f"/desk/api/look/{key}", {"action": "keep"})  # the page is of the state before
    assert (stale.status_code, stale.json()["changed"]) == (409, True)


def test_many_at_once_get_what_one_gets(asking: Asking) -> None:
    held = asking.explorer._held
    keys = [entry.key for entry in held.training[:6]]
    alone = {key: asking.get(f"/desk/api/look/{key}").json() for key in keys}
    fresh = Asking(asking.explorer.asked.folder)
    paths = [f"/desk/api/look/{key}" for key in keys] * 4 + [f"/thumb/{key}" for key in keys] + ["/"] * 4
    pages = [f"/picture/{key}/page" for key in keys[:2]] * 2
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(fresh.get, [*paths, *pages]))
    assert {answer.status_code for answer in answers} == {200}
    for path, answer in zip(paths, answers, strict=False):
        if path.startswith("/desk"):
            assert answer.json() == alone[path.rpartition("/")[2]]
    assert answers[-1].text == answers[-3].text

    def decides(key: str) -> int:
        return int(fresh.post(f"/desk/api/look/{key}", {"action": "forget"}).status_code)

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(decides, keys)) == {200}
    assert {d.id for d in Decisions(asking.explorer.asked.folder / "desk").all} == {
        entry.suspect.id for entry in held.training[:6]
    }
    assert fresh.get("/desk/api/progress").json()["now"]["pictures"] == 18


def test_memory_is_bounded() -> None:
    kept = Bounded(100)
    for n in range(50):
        kept.put(n, b"x" * 30)
        kept.get(0)
    assert kept._size <= 100
    assert kept.get(0) is not None  # asked for all along
    assert kept.get(1) is None
    kept.put("large", b"x" * 1000)
    assert kept.get("large") is not None


# ---- the command


def test_a_port_that_is_taken_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with listening("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert cli.main(["explore", str(folder), "--port", str(port), "--no-open"]) == 1
        assert f"port {port} is taken" in capsys.readouterr().err
    with pytest.raises(AddressError, match="no address of this machine"):
        listening("no such host.example.", 1)
    assert cli.main(["explore", str(folder), "--port", "99999"]) == 2
    assert cli.main(["explore", str(folder / "nothing")]) == 1


def test_a_missing_extra_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    assert cli.main(["explore", str(folder)]) == 2
    assert "pip install starlette uvicorn, or in CARROT's checkout: pip install '.[app]'." in capsys.readouterr().err


def test_it_listens_and_ends_by_an_interrupt(folder: Path) -> None:
    command = [sys.executable, "-m", "carrot", "explore", str(folder), "--port", "0", "--no-open"]
    root = Path(__file__).resolve().parents[2]
    env = {**os.environ, "PYTHONPATH": str(root)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env)
    guard = threading.Timer(60, process.kill)
    guard.start()
    try:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("reading ")
        line = process.stderr.readline()
        assert line.startswith("http://127.0.0.1:")
        import signal
        import urllib.request

        with urllib.request.urlopen(f"{line.split()[0]}upload") as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGINT)
        rest = process.communicate()[1]
        assert process.returncode == 0
        assert "Traceback" not in rest
        assert "stopped" in rest
    finally:
        guard.cancel()
        process.kill()


def test_keys_are_of_side_and_name() -> None:
    assert len({key_of("train", "a"), key_of("test", "a"), key_of("train", "b")}) == 3
