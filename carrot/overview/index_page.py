"""An index of a folder of pictures: one row a picture, what is doubtful first, and whole pages of the first few."""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from carrot import __version__
from carrot._display.words import counted
from carrot._progress import progress
from carrot.classifier.classifier import Classifier
from carrot.classifier.explaining import explain
from carrot.errors import StoreError
from carrot.explanation.drawing import name, number, short, text
from carrot.explanation.record import Explanation
from carrot.explanation.words import digits_for
from carrot.overview.marks import percent
from carrot.overview.report_page import styled
from carrot.overview.rows import Row, Rows, rows_of
from carrot.store.layout import GENERATOR
from carrot.store.outputs import check_folder, check_replaced, write_output

ON_A_PAGE = 200  # rows: about a megabyte
PAGES = "pages"  # the folder of whole pages, beside the index
_NOT_SHOWN = b'<meta name="carrot-not-shown" content="%s">'  # rows of training pictures that were not at hand
_ROWS = re.compile(rb'<meta name="carrot-not-shown" content="([0-9 ]+)">')
LISTED = 20  # pictures that were set aside, by name, before the list is folded


@dataclass(frozen=True)
class Index:
    """What was written.

    Attributes:
        page: The first page of the index.
        rows: Of all pictures.
        pages: Whole pages by picture, with how many of them were there already.
        again: How many rows and pages were there already.
    """

    page: Path
    rows: Rows
    pages: dict[str, Path]
    again: int

    def to_dict(self) -> dict[str, object]:
        """Return it as plain JSON, without pictures."""
        rows = [{key: value for key, value in vars(row).items() if key != "map"} for row in self.rows.doubtful_first]
        return {
            "index": str(self.page),
            "pictures": rows,
            "pages": {file: str(page) for file, page in self.pages.items()},
            "set_aside": dict(self.rows.aside),
            "found_again": self.again,
        }


def check_index(place: Path) -> None:
    """Refuse a place for an index before anything is computed.

    Raises:
        StoreError: It can't be written to, or holds an index.html that CARROT didn't write.
    """
    if place.is_file():
        raise StoreError(f"{place}: is a file. The index of a folder of pictures goes into a folder: --out FOLDER.")
    check_folder(place)
    check_replaced(place / "index.html")


def write_index(
    classifier: Classifier, folder: Path, place: Path, seal: str, whole: int, training: int = 4, model: str = "MODEL"
) -> Index:
    """Write the index of a folder of pictures, and whole pages of the first of it; what was made before is kept.

    Args:
        classifier: The model.
        folder: Of pictures, which are looked for at any depth.
        place: Where it goes.
        seal: What tells this model from any other.
        whole: How many whole pages to write, of the most doubtful pictures.
        training: How many training pictures those show.
        model: How the model is called in the command that makes a whole page.

    Raises:
        ValueError: The folder holds no picture that can be read.
        DataError, StoreError: As ``rows_of``.
    """
    found = rows_of(classifier, folder, place, f"{seal} {__version__}")
    if not found.rows:
        why = f" {len(found.aside)} can't be read." if found.aside else ""
        raise ValueError(f"{folder}: holds no picture that can be explained.{why} Give another folder.")
    order = found.doubtful_first
    pages, again = _whole_pages(classifier, folder, place / PAGES, order[:whole], f"{seal} {training}")
    blocks = [order[i : i + ON_A_PAGE] for i in range(0, len(order), ON_A_PAGE)]
    files = [_file(i) for i in range(len(blocks))]
    for i in reversed(range(len(blocks))):  # the first page comes last: where it is, all are
        write_output(place / files[i], _page(folder, found, blocks[i], i, files, pages, model).encode())
    for old in place.glob("index-*.html"):
        if old.name not in files and GENERATOR in old.read_bytes():
            old.unlink()
    return Index(place / "index.html", found, pages, found.found_again + again)


def index_place(model: Path, folder: Path) -> Path:
    """Return where a folder's index goes where nobody says: below the model, a place of its own for each path."""
    whole = hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()[:6]
    stem = folder.absolute().name.encode("ascii", "replace").decode().replace("?", "_")[:100]
    return model / "explanations" / f"{stem}-{whole}"


def _whole_pages(
    classifier: Classifier, folder: Path, place: Path, rows: Sequence[Row], seal: str
) -> tuple[dict[str, Path], int]:
    """Write the whole pages of some pictures; return them by picture, and how many were there already."""
    pages = {row.file: place / _page_name(row, seal) for row in rows}
    missing = [row for row in rows if not _is_whole(classifier, pages[row.file])]
    training = int(seal.rpartition(" ")[2])
    for row in progress(missing, "whole pages", len(missing), "pages"):
        explanation = explain(classifier, folder / row.file, k=training, label=row.label)
        write_output(pages[row.file], _marked(explanation))
    kept = set(pages.values())
    for old in place.glob("*.html") if place.is_dir() else ():
        if old not in kept and GENERATOR in old.read_bytes():
            old.unlink()  # of another model, or no longer among the first
    return pages, len(rows) - len(missing)


def _marked(explanation: Explanation) -> bytes:
    """Return the page, with the training pictures in its head that it would show, were they at hand."""
    page, e = explanation.to_html().encode(), explanation
    rows = e.shown if e.counterfactuals is None else dict.fromkeys([*e.shown, *e.counterfactuals.rows])
    gone = " ".join(str(row) for row in rows if row not in e.shown_pictures and row not in e.others)
    return page.replace(GENERATOR, GENERATOR + _NOT_SHOWN % gone.encode(), 1) if gone else page


def _is_whole(classifier: Classifier, page: Path) -> bool:
    """Whether a page is there, and shows every training picture that it can show by now."""
    if not page.is_file():
        return False
    found, records = _ROWS.search(page.read_bytes()), classifier.fitted.records
    return found is None or all(isinstance(classifier.find(records[int(row)]), str) for row in found[1].split())


def _page_name(row: Row, seal: str) -> str:
    """Return a name of its own for each picture, content and model: a page that is there is the right one."""
    stem = Path(row.file).stem.encode("ascii", "replace").decode().replace("?", "_")[:80]
    own = hashlib.sha256(f"{row.file}\0{row.sha256}\0{seal}\0{__version__}".encode()).hexdigest()[:10]
    return f"{stem}-{own}.html"


def _file(number: int) -> str:
    return "index.html" if number == 0 else f"index-{number + 1}.html"


def _page(
    folder: Path, found: Rows, block: Sequence[Row], i: int, files: Sequence[str], pages: dict[str, Path], model: str
) -> str:
    n, first = len(found.rows), i * ON_A_PAGE + 1
    links = " ".join(
        f'<a href="{file}" {"aria-current=page" if k == i else ""}>{k + 1}</a>' for k, file in enumerate(files)
    )
    answer, *words = _words(found)
    if len(pages) < n:
        have = "has" if len(pages) == 1 else "have"
        words.append(
            f"{counted(len(pages), 'picture')} {have} a whole page, the most doubtful. Of another: "
            f"carrot explain {model} PICTURE; of more: --pages N."
        )
    return styled(
        "index.html",
        title=text(f"{folder.name}: {counted(n, 'picture')} explained"),
        made=text(f"The folder {folder}, as the model {model} sees it."),
        answer=text(answer),
        words="".join(f"<li>{text(line)}</li>" for line in words),
        aside=_aside(found),
        pages=f"Rows {first:,} to {first + len(block) - 1:,} of {n:,}. " + (f"Page: {links}" if len(files) > 1 else ""),
        order="What contradicts its folder first, then what the model is least sure of.",
        rows="".join(_row(row, pages.get(row.file)) for row in block),
    )


def _words(found: Rows) -> Iterator[str]:
    labelled = [row for row in found.rows if row.label is not None and not row.was_fitted_on]
    said: dict[str, int] = {}
    for row in found.rows:
        said[row.predicted] = said.get(row.predicted, 0) + 1
    most = sorted(said.items(), key=lambda one: -one[1])
    if labelled:
        agree = sum(not row.is_wrong for row in labelled)
        yield (
            f"The model agrees with the folder of {agree:,} of {counted(len(labelled), 'picture')} "
            f"({percent(agree / len(labelled))}) that lie in a folder named as a class and that it was not fitted on."
        )
    else:
        yield f"The model sees {most[0][0]} most often: in {most[0][1]:,} of {counted(len(found.rows), 'picture')}."
    some = ", ".join(f"{what} {n:,}" for what, n in most[:6])
    some += f", and {counted(len(most) - 6, 'other class', 'other classes')}" * (len(most) > 6)
    yield f"It says: {some}."
    unsure = sum(row.probability < 0.5 for row in found.rows)
    if unsure:
        yield f"Of {counted(unsure, 'picture')} it is less than half sure."
    known = sum(row.was_fitted_on for row in found.rows)
    if known:
        yield f"It was fitted on {counted(known, 'picture')} of these, marked: there it says what it was told."


def _aside(found: Rows) -> str:
    if not found.aside:
        return ""
    items = [f"<li>{name(file)}: {text(why)}</li>" for file, why in found.aside.items()]
    head = f"<strong>Set aside: {counted(len(items), 'picture')}</strong> that can't be read."
    if len(items) <= LISTED:
        return f'<div class="gap">{head}<ul>{"".join(items)}</ul></div>'
    return f'<div class="gap">{head}<details><summary>Which</summary><ul>{"".join(items)}</ul></details></div>'


def _row(row: Row, page: Path | None) -> str:
    alt = text(f"{row.file} with what each region brings to {row.predicted}")
    shot = f'<img class="shot" src="{row.map}" alt="{alt}" loading="lazy" decoding="async">'
    said = f"<strong>{name(row.predicted)}</strong>, {percent(row.probability)}"
    if row.is_wrong:
        said += f'<br><span class="flag">its folder says {name(row.label)}</span>'
    elif row.label is not None:
        said += '<br><span class="agrees small">as its folder says</span>'
    if row.was_fitted_on:
        said += '<br><span class="soft small">the model was fitted on it</span>'
    said += f'<br><span class="file">{short(row.file)}</span>'
    form = f"+.{digits_for([row.brings, row.score])}f"
    share = f"{number(row.brings, form)} of the score {number(row.score, form)}"
    region = f'{text(row.strongest).replace(" x ", "&nbsp;&times;&nbsp;")}<br><span class="soft small">{share}</span>'
    counts = f"{short(row.training)}, {name(row.training_label)}<br>"
    if row.doubtful is not None:
        counts += f"<span class='flag'>a doubtful label: the others say {name(row.doubtful)}</span><br>"
    counts += f"<span class='soft small'>without it the score falls by {number(row.falls, '.3g')}</span>"
    label = text(f"open the whole page of {row.file}")
    link = "" if page is None else f'<a href="{PAGES}/{quote(page.name)}" aria-label="{label}">open</a>'
    cells = f'<td data-head="strongest">{region}</td><td data-head="counts most">{counts}</td><td>{link}</td>'
    return f'<tr><td class="picture">{shot}</td><td>{said}</td>{cells}</tr>'
