"""Options that several commands share, and what they write beside their results."""

import json
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields, is_dataclass, make_dataclass
from datetime import UTC, datetime
from inspect import signature
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from carrot.embedding.setting import AXES, Axis, Setting
from carrot.store.versions import versions

BACKBONE = Group("Backbone", sort_key=10)
SETTING = Group("Embedding", sort_key=20)
ENGINE = Group("Engine", sort_key=30)
STRICT = 3
POSITIONAL = ("data", "model", "picture", "pictures", "folders")


def _whole(_: Any, tokens: Sequence[Any]) -> int:
    text = tokens[0].value
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"it must be a whole number; got {text!r}.") from None


Whole = Annotated[int, Parameter(converter=_whole)]  # 1.5 is refused; an ``int`` would be 2 then


@Parameter(name="*", group=BACKBONE)
@dataclass(frozen=True)
class BackboneOptions:
    """Which frozen vision transformer, and how pictures get into it."""

    backbone: str | None = None
    """timm's name of a vision transformer; "toy": the one in this package.
    [default: vit_small_patch14_reg4_dinov2.lvd142m]"""
    checkpoint: Path | None = None
    """Local weights of it, .safetensors or .pth, instead of a download."""
    img_size: Whole | None = None
    """Side of its input in pixels; default: its own."""
    crop: Literal["model", "squash", "border"] = "model"
    """"model": its own crop, which may cut the long side; "squash" or "border": the whole picture. The toy backbone
    always squashes, and tiles are cut from the whole picture."""
    device: str = "auto"
    """Where it runs: "auto", "cpu", "cuda"."""
    dtype: Literal["float16", "float32"] = "float16"
    """What tokens are rounded to, in the cache and everywhere."""
    precision: Literal["float32", "bfloat16"] | None = None
    """What the backbone computes in; bfloat16 is faster where the processor or the GPU has it, and moves tokens by its
    rounding. A model keeps it. [default: float32]"""
    compile: Annotated[bool | None, Parameter(negative="")] = None
    """Compile its blocks (torch.compile): seconds at the start, which may pay on a GPU; told where it can't be. Tokens
    move by rounding."""


@Parameter(name="*", group=ENGINE)
@dataclass(frozen=True)
class EngineOptions:
    """Who looks at pictures: this process, or the workers of an engine; the results are the same."""

    engine: Literal["ray"] | None = None
    """ray: its workers share the work, on this machine or on a cluster. [default: this process]"""
    address: str | None = None
    """Of a cluster that runs: auto or HOST:PORT. [default: RAY_ADDRESS, or one is started here]"""
    workers: Whole | None = None
    """How many work at a time. [default: one a GPU, or as there are processors]"""

    def require(self) -> None:
        """Refuse what costs nothing to know.

        Raises:
            EngineError: The engine isn't installed.
            UsageError: A flag is wrong, or goes with an engine only.
        """
        from carrot.engine import require

        try:
            require(self.engine, self.address, self.workers)
        except ValueError as error:
            raise UsageError(str(error)) from None

    def at_work(self) -> "AbstractContextManager[Engine]":
        """Return a block in which the engine works.

        Raises:
            EngineError: It can't be started or reached.
        """
        from carrot.engine import use

        return use(self.engine, self.address, self.workers)


def _flags(name: str, doc: str, flag: Callable[[Axis, Any], tuple[Any, Any, str]], **more: Any) -> Any:
    """Return a class of flags, one per setting of an embedding: ``flag`` gives the type, default and help of each."""
    columns = []
    for f in fields(Setting):
        kind: Any = float if f.type == float | int else Whole if f.type is int else f.type
        type_, default, help = flag(AXES[f.name], kind)
        columns.append((f.name, Annotated[type_, Parameter(group=SETTING, help=help, **more)], default))
    made = make_dataclass(name, columns, frozen=True)
    made.__doc__, made.__module__ = doc, __name__
    return Parameter(name="*", group=SETTING)(made)


def _one(axis: Axis, kind: Any) -> tuple[Any, Any, str]:
    if axis.asked is not None:
        return kind, axis.asked, f"{axis.what}."
    return kind | None, None, f"{axis.what}. [default: {axis.depends}]"


def _many(axis: Axis, kind: Any) -> tuple[Any, Any, str]:
    return tuple[kind, ...] | None, None, f"{axis.what}. [default: {' '.join(map(str, axis.grid))}]"


if TYPE_CHECKING:  # the flags are made at run time, from the settings themselves
    from carrot.engine import Engine

    SettingOptions = Any
    GridOptions = Any
else:
    SettingOptions = _flags("SettingOptions", "How pictures are embedded.", _one)
    GridOptions = _flags("GridOptions", "What to choose from.", _many, consume_multiple=True, negative="")


def flags_of(command: Callable[..., Any]) -> set[str]:
    """Return the names of a command's arguments, those of the classes of flags among them."""
    names: set[str] = set()
    for name, parameter in signature(command).parameters.items():
        names |= {f.name for f in fields(parameter.default)} if is_dataclass(parameter.default) else {name}
    return names


Json = Annotated[bool, Parameter(name="--json", negative="", help="Print the result as JSON on standard output.")]
Strict = Annotated[bool, Parameter(negative="", help="End with status 3 if a picture had to be set aside.")]
Extra = Annotated[bool, Parameter(negative="")]
Several = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="", show_default=False)]
Checkpoint = Annotated[Path | None, Parameter(help="The backbone's weights, if they are no longer where they were.")]
Device = Annotated[str, Parameter(help='Where the backbone runs: "auto", "cpu", "cuda".')]


class UsageError(ValueError):
    """The command line is wrong: exit status 2."""


def show(result: Mapping[str, object], lines: Iterable[str], as_json: bool) -> None:
    """Print a result: as JSON, or as lines for people."""
    if as_json:
        encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").replace("-", "").replace("_", "").lower()
        print(printable(json.dumps(result, indent=2, ensure_ascii=encoding != "utf8", allow_nan=False)))
    else:
        print(*map(printable, lines), sep="\n")


def printable(text: str) -> str:
    """Return text that any stream takes: what file names hold that is no Unicode is written out."""
    return text.encode("utf-8", "backslashreplace").decode()


@contextmanager
def any_text(stream: object) -> Iterator[None]:
    """Let a stream take any text, whatever its encoding: a character that it doesn't have is written as its number."""
    if not isinstance(stream, TextIOWrapper):
        yield
        return
    errors = stream.errors
    stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        stream.reconfigure(errors=errors)


def note(message: str) -> None:
    """Say something that is not the result."""
    print(printable(message), file=sys.stderr)


def quoted(path: object) -> str:
    """Return a path as a shell takes it."""
    return printable(shlex.quote(str(path)))


def write_config(folder: Path, command: str, arguments: Mapping[str, Any], beside: Path | None = None) -> None:
    """Write what a command was run with, as YAML that ``--config`` reads, with versions and time as comments.

    Nothing is written beside what is no regular file, nor over a file that no command wrote: that is told.

    Args:
        folder: Where; as ``COMMAND.yaml``.
        command: Its name.
        arguments: What it was run with.
        beside: The result that it belongs to, where a folder may hold several: the file is then ``RESULT.yaml``.
    """
    import yaml

    from carrot.store import outputs
    from carrot.store.layout import WRITTEN

    if beside is not None and not outputs.is_regular(beside):
        return
    place = folder / f"{command}.yaml" if beside is None else outputs.beside(beside, ".yaml")
    if place.is_file() and not WRITTEN.match(place.read_bytes()):
        note(f"{place} is left as it is: no command wrote it. What this one was run with is not written down.")
        return
    head = [
        f"# {datetime.now(UTC).isoformat(timespec='seconds')}",
        *(f"# {name} {text}" for name, text in versions().items()),
    ]
    text = yaml.safe_dump(as_config(command, arguments), sort_keys=False, allow_unicode=True, width=float("inf"))
    outputs.write_output(place, ("\n".join(head) + "\n" + text).encode())


def as_config(command: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags under the command's name, where ``--config`` looks; what has no flag stands under "given"."""
    plain = {name.replace("_", "-"): _plain(value) for name, value in arguments.items() if value is not None}
    given = {name: plain.pop(name) for name in POSITIONAL if name in plain}
    return {"given": given, command: plain}


def report_set_aside(errors: Mapping[str, str]) -> None:
    """Say which pictures could not be used, each by its name, and why."""
    for name, message in list(errors.items())[:10]:
        note(f"set aside: {message if name in message else f'{name}: {message}'}")
    if len(errors) > 10:
        note(f"set aside: {len(errors) - 10} more")


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
