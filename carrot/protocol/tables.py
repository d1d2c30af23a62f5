"""The protocol's answer for people: lines for the terminal, and Markdown tables that a paper can paste."""

from collections.abc import Iterator, Mapping
from typing import Any

from carrot._display.words import counted, percent
from carrot.data.counts import Counts
from carrot.embedding.setting import AXES, Setting
from carrot.evaluation.tables import Measured, markdown_table
from carrot.evaluation.verdict import beside, honest, how_often, of_maps
from carrot.protocol.metrics import METRICS

Answer = Mapping[str, Any]


def lines_of(answer: Answer, phase: str | None = None) -> Iterator[str]:
    """Yield the answer in short: one of the phases of ``carrot.protocol``, or all that are there."""
    lines = {"accuracy": _accuracy, "baselines": _baselines, "checks": _checks, "explanations": _explanations}
    for name in lines if phase is None else [phase]:
        if name in answer:
            yield from lines[name](answer)


def short_lines(answer: Answer, phase: str) -> Iterator[str]:
    """Yield what to know if nothing else is read: accuracy when it is there, and at the end what it all comes to."""
    if phase == "accuracy":
        accuracy = answer["accuracy"]
        yield measured_line(answer)
        yield how_often(accuracy["top1"], accuracy["n"], "picture") + (
            f"; mean over the classes {percent(accuracy['mean_per_class'])}"
        )
        yield honest(accuracy, answer["calibration"])
        for pair in answer["confusions"][:1]:
            times = "once" if pair["count"] == 1 else f"{pair['count']} times"
            yield f"what it confuses most: {pair['true']} taken for {pair['predicted']}, {times}"
        yield from _warned(answer)
    if phase == "explanations":
        yield from verdict(answer)


def verdict(answer: Answer) -> Iterator[str]:
    """Yield what the answer comes to, in plain sentences; what was not measured is said."""
    measured = answer.get("baselines", {})
    without = next((row["not_measured"] for row in measured.values() if "not_measured" in row), "")
    left_out = f"Not compared with other ways to classify: {without or 'carrot evaluate --baselines does that'}."
    yield beside(answer["accuracy"], measured) or left_out
    yield of_maps(answer["explanations"]) or "Its maps were not measured: --explained says of how many pictures."


def _accuracy(answer: Answer) -> Iterator[str]:
    data, calibration = answer["data"], answer["calibration"]
    yield f"{measured_line(answer)}; crop {data['crop']!r}"
    yield from map(_accuracy_line, _accuracies({"accuracy": answer["accuracy"]}))
    yield from _warned(answer)
    yield (
        f"calibration: expected error {calibration['expected_calibration_error']:.3f} ({calibration['bins']} bins), "
        f"negative log likelihood {calibration['negative_log_likelihood']:.3f}, "
        f"temperature {calibration['temperature']:.3g}"
    )
    yield honest(answer["accuracy"], calibration)
    for pair in answer["confusions"][:3]:
        yield f"  {pair['true']} taken for {pair['predicted']}: {counted(pair['count'], 'time')}"


def _warned(answer: Answer) -> Iterator[str]:
    """Yield what takes from the worth of an accuracy."""
    if answer["unknown_classes"]:
        yield "classes that the model doesn't know: " + ", ".join(
            f"{name} ({n})" for name, n in answer["unknown_classes"].items()
        )
    absent = [row["name"] for row in answer["classes"] if not row["n"]]
    if absent:
        some = ", ".join(map(str, absent[:5])) + ", ..." * (len(absent) > 5)
        counts = f"{len(absent)} of {counted(len(answer['classes']), 'class', 'classes')}"
        have = "has no picture here, and doesn't" if len(absent) == 1 else "have no picture here, and don't"
        yield f"{counts} {have} count in the mean per class: {some}"
    leaks = answer["leaks"]
    if leaks["test_pictures"]:
        without = leaks["accuracy_without"]
        rest = "" if without is None else f"; top-1 without them {without['top1']:.3f} ± {without['top1_se']:.3f}"
        near = f"(cosine >= {leaks['threshold']:g})"
        n = leaks["test_pictures"]
        are = "is a training picture" if n == 1 else "are training pictures"
        yield f"{counted(n, 'test picture')} {are} over again {near}{rest}"


def _baselines(answer: Answer) -> Iterator[str]:
    yield "what would be picked instead, of the same backbone's whole pictures:"
    yield from map(_accuracy_line, _accuracies({"baselines": answer["baselines"]}))


def _accuracy_line(row: Mapping[str, Any]) -> str:
    top1: Measured = row["top-1"]
    figures = f"top-1 {top1.value:.3f} ± {top1.standard_error:.3f}   mean per class {row['mean per class']:.3f}"
    return f"  {row['what']:<40} {figures}"


def _checks(answer: Answer) -> Iterator[str]:
    for name, check in answer["checks"].items():
        yield f"check, {name}: {check['n']} against real fits, largest difference {check['largest']:.1e}"
    times = "   ".join(f"{name.strip()} {ms:.2f} ms" for name, ms in answer["milliseconds_a_picture"].items())
    yield f"a picture: {times}"


def _explanations(answer: Answer) -> Iterator[str]:
    e = answer["explanations"]
    if e["pictures"]:
        largest = max(e["largest_residual"].values())
        yield f"explanations of {counted(e['pictures'], 'picture')}: every sum is the logit to {largest:.1e}"
        spent = []
        for what, seconds in e["seconds"].items():
            fewer = f" (of {counted(e['occluded'], 'picture')})" if what in METRICS and METRICS[what].is_costly else ""
            if e.get(what, True):  # nothing was measured where the data set knows nothing to measure against
                spent.append(f"{what.replace('_', ' ')} {seconds:.1f} s{fewer}")
        yield f"  they took {sum(e['seconds'].values()):.1f} s: {', '.join(spent)}"
    for level, metric in METRICS.items():
        if e.get(level):
            yield metric.says
        for row in _rows(e.get(level, {})):
            mean = row["mean"]
            number = f"{mean.value:8.3f} ± {mean.standard_error:.3f}" if isinstance(mean, Measured) else f"{mean:8.3f}"
            yield f"  {row['what']:<52} {number}" + (f"   chance {row['chance']:.3f}" if "chance" in row else "")


def markdown_of(answer: Answer) -> str:
    """Return every table, with what each is about."""
    data, model, e = answer["data"], answer["model"], answer["explanations"]
    parts = [
        f"# {data['name']}: {counted(data['test_pictures'], 'test picture')}, crop {data['crop']!r}",
        f"{measured_line(answer)}.",
        "\n".join(f"- {sentence}" for sentence in verdict(answer)),
        f"Backbone {model['backbone']}; {Setting(**{name: model[name] for name in AXES})}, "
        f"lam {model['lam']:.3g}; {counted(model['training_pictures'], 'training picture')} of "
        f"{counted(model['classes'], 'class', 'classes')}. "
        "± is one standard error.",
        "## Accuracy",
        markdown_table(list(_accuracies(answer))),
        "## Calibration",
        markdown_table([answer["calibration"]]),
        "## Classes",
        markdown_table(list(answer["classes"])),
    ]
    if answer["confusions"]:
        parts += ["## Most frequent confusions", markdown_table(list(answer["confusions"][:20]))]
    if e["pictures"]:
        parts.append(f"## Explanations of the predicted class, {counted(e['pictures'], 'picture')}")
        for kind, metric in METRICS.items():
            if e.get(kind):
                parts += [metric.says, markdown_table(list(_rows(e[kind])))]
    return "\n\n".join(parts) + "\n"


def measured_line(answer: Answer) -> str:
    """Return how many pictures were measured, and what became of the others."""
    counts = answer["counts"]
    return Counts(counts["used"], counts["left_out"], counts["set_aside"]).line("measured", answer["data"]["given"])


def _accuracies(answer: Answer) -> Iterator[dict[str, Any]]:
    ours = {"CARROT": answer["accuracy"]} if "accuracy" in answer else {}
    for name, row in {**ours, **answer.get("baselines", {})}.items():
        if "top1" in row:
            top1 = Measured(row["top1"], row["top1_se"])
            yield {"what": name, "top-1": top1, "top-5": row["top5"], "mean per class": row["mean_per_class"]}


def _rows(group: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name, values in group.items():
        score = values.get("score", values)
        mean, error = score["mean"] or 0.0, score["standard_error"]
        row = {
            "what": name,
            "mean": mean if error is None else Measured(mean, error),
        }  # of one picture there is no error
        chance = {"chance": values["chance"]["mean"]} if "chance" in values else {}
        yield {**row, **chance, "n": score["n"]}
