"""``carrot demo``: the toy birds from end to end."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from carrot.cli.options import Json, Whole, note, quoted, show, write_config


def demo(
    *,
    out: Path = Path("runs/toy"),
    pictures: Annotated[Whole, Parameter(help="Training pictures of each species.")] = 12,
    json: Json = False,
) -> int:
    """Show what CARROT does on toy birds, offline: fit, measure, explain, find planted wrong labels, forget a picture.

    ```
    carrot demo
    carrot demo --out somewhere --pictures 8
    ```

    Args:
        out: Folder for the model and the page.
        pictures: Training pictures of each species.
        json: Print the numbers as JSON.
    """
    from carrot._display.extras import how_to_install, missing
    from carrot._progress import progress
    from carrot.classifier.classifier import BATCH
    from carrot.classifier.selection_table import table_lines
    from carrot.data import ImageFolder, split_indices
    from carrot.data.records import Subset
    from carrot.data.toy import ToyBirds
    from carrot.evaluation import summary
    from carrot.explanation.written import write_figure
    from carrot.model import Carrot
    from carrot.store.layout import refuse_other_folder

    toy = ToyBirds(n_train_per_class=pictures, n_test_per_class=5, wrong_labels=0.05)
    refuse_other_folder(out)
    root, names = out / f"pictures-{pictures}", []  # files, so that every other command finds them
    for i, record in enumerate(progress(toy.records, "drawing", len(toy.records), "pictures")):
        names.append(f"{record.split}/{toy.classes[record.label]}/{i:04d}.png")
        (root / names[i]).parent.mkdir(parents=True, exist_ok=True)
        toy.image(i).save(root / names[i])
    birds = ImageFolder(root)
    train, test = (Subset(birds, split_indices(birds, split)) for split in ("train", "test"))
    sizes = f"{len(train.records)} training and {len(test.records)} test pictures of {len(birds.classes)} species"
    note(f"{sizes}; 1 in 20 training labels is wrong, on purpose")
    model = Carrot("toy")
    model.select(str(root), tokens=out / "tokens", show=False)
    model.save(out)
    write_config(out, "demo", {"out": out, "pictures": pictures})
    lines = ["", *table_lines(model.selection_, model.setting_, len(model.records_))]

    import torch

    images = [test.image(i) for i in range(len(test.records))]
    labels = torch.tensor([record.label for record in test.records])
    batches = [images[i : i + BATCH] for i in range(0, len(images), BATCH)]
    each = progress(batches, "predicting", len(batches), "pictures", BATCH, len(images))
    logits = torch.cat([model.classifier.logits(batch) for batch in each])
    accuracy = summary(logits, labels)
    loo = model.fitted.leave_one_out()
    lines += [
        "",
        f"accuracy on {accuracy.n} test pictures {accuracy.top1:.3f}; exact leave-one-out {loo['loo_accuracy']:.3f}",
    ]

    audit = model.audit()
    wrong = {names[i] for i in toy.wrong}
    first = [suspect.id for suspect in audit.suspects[: len(wrong)]]
    found = len(wrong & set(first))
    lines.append(f"of {len(wrong)} planted wrong labels, {found} are among the {len(first)} most suspicious")

    shown = int(logits.topk(2, dim=1).values.diff(dim=1)[:, 0].argmin())  # the one that it is surest of
    explanation = model.explain(images[shown], label=birds.classes[test.records[shown].label])
    page = out / "explanation.html"
    explanation.to_html(page)
    write_figure(explanation.plot(), page.with_suffix(".png"))
    lines += ["", str(explanation)]

    parts, c = explanation.parts, explanation.parts.target
    key = int(parts.removal.abs().argmax())
    promised = parts.logit - float(parts.removal[key])
    certificate = model.forget(explanation.training_ids[key])  # in memory only: the saved model keeps the picture
    measured = float(model.decision_function(images[shown])[0, c])
    lines += [
        "",
        str(certificate),
        f"  logit with it {parts.logit:+.6f}; promised without it {promised:+.6f}, measured {measured:+.6f}",
    ]
    absent = missing("app")
    lines += [
        "",
        f"look around in a browser: carrot explore {quoted(out)}"
        + (f" (which needs {' and '.join(absent)}: {how_to_install('app')})" if absent else ""),
        f"model: {out}",
        f"picture: {page.with_suffix('.png')}",
        f"page: {page}",
    ]
    numbers = {
        "accuracy": accuracy.top1,
        **loo,
        "planted": len(wrong),
        "found": found,
        "residual": explanation.residual,
        "promised": promised,
        "measured": measured,
        "page": str(page),
    }
    show(numbers, lines, json)
    return 0
