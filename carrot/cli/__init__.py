"""The command ``carrot``. Help appears before torch is loaded: what a command needs is imported when it runs.

Exit status: 0 done; 1 it could not be done, and the message says why; 2 the command line is wrong; 3 pictures were set
aside, and ``--strict`` was given; 130 interrupted. What a command was asked for goes to standard output, everything
else to standard error.
"""

import errno
import os
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cyclopts

import carrot
from carrot.cli.answer import predict
from carrot.cli.ask import audit, explain, info
from carrot.cli.change import add, apply, forget, relabel
from carrot.cli.demonstrate import demo
from carrot.cli.explore import explore
from carrot.cli.give import export
from carrot.cli.grouped import Grouped
from carrot.cli.measure import bench, evaluate
from carrot.cli.options import POSITIONAL, UsageError, any_text, flags_of, printable
from carrot.cli.spread import extract, merge
from carrot.cli.suppose import flip, what_if
from carrot.cli.survey import report
from carrot.cli.train import fit, select
from carrot.errors import CarrotError

HELP = """An image classifier that can be held to account: every prediction comes apart exactly, into regions and \
training pictures.

A first look, without data or network:

    carrot demo

With pictures of your own, in one folder per class:

    carrot select my_pictures --out my_model
    carrot predict my_model new.jpg
    carrot explain my_model new.jpg
    carrot what-if my_model new.jpg --without robin/17.jpg
    carrot flip my_model new.jpg
    carrot evaluate my_model
    carrot report my_model
    carrot audit my_model
    carrot explore my_model
"""
EPILOGUE = (
    "Flags may also come from the environment (CARROT_FIT_LIFT=relu is carrot fit --lift relu), or from a YAML file "
    "by command: --config FILE. What is typed counts before the environment, and that before the file."
)

app = cyclopts.App(
    name="carrot",
    help=HELP,
    help_epilogue=EPILOGUE,
    help_format="markdown",
    version=carrot.__version__,
    exit_on_error=False,
    print_error=False,
    suppress_keyboard_interrupt=False,
    result_action="return_value",
)
COMMANDS: tuple[Any, ...] = (
    *(demo, select, fit, predict, explain, what_if, flip, evaluate, report, audit, explore),
    *(forget, relabel, add, apply, export, extract, merge, info, bench),
)
MEANT = {  # what others call it
    "train": "carrot select, which chooses the settings, or carrot fit",
    "test": "carrot evaluate",
    "serve": "carrot explore",
    "delete": "carrot forget",
    "unlearn": "carrot forget",
    "interpret": "carrot explain",
    "classify": "carrot predict",
}
BY_WORD = {command.__name__.replace("_", "-"): command for command in COMMANDS}
for _place, (_word, _command) in enumerate(BY_WORD.items()):
    app.command(_command, name=_word, sort_key=_place)
app.register_install_completion_command(help="Install completion for your shell.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if sys.stderr is None:  # closed: what isn't the result is not asked for
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if sys.stdout is None or sys.stdout.closed:
        return _say("standard output is closed. Give it somewhere to go, /dev/null say.", 1)
    try:
        with any_text(sys.stdout), any_text(sys.stderr):
            status = _run(words)
            sys.stdout.flush()
            return status
    except BrokenPipeError:  # who reads has seen enough
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        return 1
    except OSError as error:  # of the last flush
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        return _say(f"standard output can't be written: {error.strerror}.", 1)


def _run(words: list[str]) -> int:
    try:
        words, file = _configuration(words)
        sources: list[Any] = [cyclopts.config.Env("CARROT_", show=False)]
        if file is not None:
            sources.append(cyclopts.config.Yaml(file, must_exist=True))
        app.config = tuple(sources)
        _refuse_unknown_variables(words)
        with warnings.catch_warnings(), Grouped() as grouped:
            warnings.showwarning = grouped.show
            status = app(words)
        return status if isinstance(status, int) else 0
    except cyclopts.CycloptsError as error:
        if words and (meant := MEANT.get(words[0])):
            return _say(f"there is no carrot {words[0]}. Did you mean {meant}?\nTry `carrot --help`.", 2)
        return _say(f"{error}\nTry `carrot {_named(words)}--help`.", 2)
    except KeyboardInterrupt:
        is_index = words[:1] == ["explain"] and sum(os.path.isdir(word) for word in words[1:]) > 1
        goes_on = words[:1] and (words[0] in ("fit", "select", "evaluate", "extract") or is_index)
        rest = (
            "; what was finished is on the disk, and the same command goes on from there."
            if goes_on
            else ". Nothing was changed by halves."
        )
        return _say(f"interrupted{rest}", 130)
    except UsageError as error:
        return _say(f"{error}\nTry `carrot {_named(words)}--help`.", 2)
    except Exception as error:
        if (
            isinstance(error, OSError)
            and error.filename is None
            and error.errno in (errno.EPIPE, errno.ENOSPC, errno.EBADF)
        ):
            raise  # of a stream: files are named
        if os.environ.get("CARROT_DEBUG"):
            raise
        known = isinstance(error, CarrotError | ValueError | TypeError | OSError)
        text = str(error) if known else f"{type(error).__name__}: {error} (CARROT_DEBUG=1 shows where)"
        return _say(text, 1)


def run() -> None:
    """Run the command line of this process, and exit."""
    sys.exit(main())


def _say(message: str, status: int) -> int:
    if sys.stderr is not None and not sys.stderr.closed:
        print(printable(f"carrot: {_in_flags(message)}"), file=sys.stderr)
    return status


def _in_flags(message: str) -> str:
    """Return a message that names Python's arguments with the flags that they have here: `lam` becomes `--lam`."""
    own = set().union(*(flags_of(command) for command in COMMANDS)) - {*POSITIONAL, "out"}
    message = re.sub(r"classes=\[(.*?)\]", r"--class \1", message.replace("new_classes=True", "--new-class"))
    return re.sub(
        r"`([a-z_]+)=?`", lambda found: f"`--{found[1].replace('_', '-')}`" if found[1] in own else found[0], message
    )


def _refuse_unknown_variables(words: Sequence[str]) -> None:
    """Refuse a variable of the environment that no flag of the command has: a slip of the pen would be passed over."""
    command = BY_WORD.get(words[0]) if words else None
    if command is None:
        return
    start = f"CARROT_{command.__name__.upper()}_"
    own = flags_of(command)
    wrong = [name for name in os.environ if name.startswith(start) and name[len(start) :].lower() not in own]
    if wrong:
        raise UsageError(f"{wrong[0]}: `carrot {words[0]}` has no such flag. Unset the variable, or correct it.")


def _named(words: Sequence[str]) -> str:
    return f"{words[0]} " if words and words[0] in BY_WORD else ""


def _configuration(words: list[str]) -> tuple[list[str], Path | None]:
    """Take ``--config FILE`` out of the command line."""
    for place, word in enumerate(words):
        if word == "--":
            break
        if word.startswith("--config="):
            return words[:place] + words[place + 1 :], _file(word.partition("=")[2])
        if word == "--config":
            if place + 1 == len(words):
                raise UsageError("`--config` needs a file.")
            return words[:place] + words[place + 2 :], _file(words[place + 1])
    return words, None


def _file(name: str) -> Path:
    if not Path(name).is_file():
        raise UsageError(f"`--config` {name}: there is no such file.")
    import yaml

    try:
        found = yaml.safe_load(Path(name).read_bytes())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"`--config` {name}: is no YAML: {error}") from error
    known = {"given", *BY_WORD}
    if not isinstance(found, dict) or not known.issuperset(found):
        wrong = sorted(map(str, found.keys() - known)) if isinstance(found, dict) else [type(found).__name__]
        raise UsageError(
            f"`--config` {name}: must hold flags under the names of commands, fit: say; got {', '.join(wrong)}."
        )
    return Path(name)
