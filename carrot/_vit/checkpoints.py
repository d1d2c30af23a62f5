"""Where weights come from: a file on this machine, read as data and never run; or the hub, if it answers."""

import argparse
import hashlib
import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from torch import Tensor, nn

from carrot.errors import BackboneError, CheckpointError, HubUnreachableError

WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")  # what training scripts put a state dict under
PREFIXES = ("_orig_mod.", "module.", "_orig_mod.")  # what torch.compile and DDP put before every name
_WRAPPED = ("_orig_mod", "module")  # the only child of such a wrapper
POSITION_TABLE = re.compile(r"pos_embed|rel_pos|relative_position")
TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".tar", ".ckpt")


def weights_file(path: str | Path) -> Path:
    """Return a file of weights: the one that is named, or that of a folder as the hub has them.

    Raises:
        CheckpointError: There is no such file, or the folder has none or several.
    """
    path = Path(path)
    if not path.is_dir():
        return path  # whether it is one is said where it is read
    named = [path / name for name in ("model.safetensors", "pytorch_model.bin") if (path / name).is_file()]
    files = sorted(
        file for file in path.iterdir() if file.suffix in (".safetensors", *TORCH_SUFFIXES) and file.is_file()
    )
    if named or len(files) == 1:
        return (named or files)[0]
    found = f"several: {_first_few([file.name for file in files])}" if files else "none"
    raise CheckpointError(
        f"`checkpoint` = {path}: is a folder, and must hold one file of weights; it has {found}. Give the file itself."
    )


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict from a safetensors file, or from a torch file without running any code in it.

    A state dict that a training script wrapped (``{"model": ...}``, ``{"state_dict": ...}``) is unwrapped, its averaged
    weights (EMA) first, as timm does; the name prefixes of DDP and ``torch.compile`` are taken off.

    Args:
        path: ``.safetensors``, or ``.pth``, ``.pt``, ``.bin``, ``.tar``, ``.ckpt`` as ``torch.save`` writes them.

    Raises:
        CheckpointError: No such file; another format; truncated or damaged; anything in it but tensors by name; code
            to be run; NaN or infinity.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"`checkpoint` must be a file; there is none at {path}.")
    if path.suffix != ".safetensors" and path.suffix not in TORCH_SUFFIXES:
        raise CheckpointError(
            f"`checkpoint` must end in .safetensors or one of {', '.join(TORCH_SUFFIXES)}; got {path}."
        )
    try:
        content = _read(path)
    except Exception as error:  # the readers raise half a dozen kinds for one damaged file
        raise CheckpointError(
            f"{path} can't be read as {path.suffix} weights: it is damaged or cut short, or it holds objects that "
            f"would run code when loaded, which is refused. Save plain weights as .safetensors. ({_first_line(error)})"
        ) from error
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{path} must hold a state dict, tensors by name; got {type(content).__name__}.")
    state = {}
    for name, value in content.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(
                f"{path} must hold tensors by name; under {name!r} is a {type(value).__name__}. "
                f"A state dict inside a larger file must be under one of {', '.join(WRAPPERS)}."
            )
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise CheckpointError(f"{path} holds NaN or infinity in {name!r}: the weights are damaged.")
        for prefix in PREFIXES:
            name = name.removeprefix(prefix)
        state[name] = value
    return state


@dataclass(frozen=True)
class Difference:
    """How a file's names and shapes differ from a model's."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[str, ...]

    @property
    def is_fatal(self) -> bool:
        """Whether no translation of names can help: shapes are wrong, or nothing is left to become what is missing."""
        return bool(self.reshaped or (self.missing and not self.unexpected))

    def __str__(self) -> str:
        kinds = {"missing": self.missing, "unexpected": self.unexpected, "of another shape": self.reshaped}
        parts = [f"{kind}: {_first_few(names)}" for kind, names in kinds.items() if names]
        return "; ".join(parts) or "all names and shapes agree"


def compare(state: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]) -> Difference:
    """Return how a state dict differs from the names and shapes a model wants.

    Position tables may have another shape (timm resamples them), and any tensor the same numbers in another layout.
    """
    return Difference(
        missing=tuple(name for name in shapes if name not in state),
        unexpected=tuple(name for name in state if name not in shapes),
        reshaped=tuple(
            name
            for name, shape in shapes.items()
            if name in state and state[name].numel() != shape.numel() and not POSITION_TABLE.search(name)
        ),
    )


def require_hub(repo_id: str, model_name: str) -> None:
    """Return at once if the hub's cache has files of the repository, or the hub answers within five seconds.

    The hub's own client tries again for the better part of a minute before it gives up.

    Raises:
        HubUnreachableError: Neither; or the hub is switched off (``HF_HUB_OFFLINE``) and nothing is cached.
    """
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"models--{repo_id.split('@')[0].replace('/', '--')}" / "snapshots"
    if any(folder.glob("*/*")):
        return
    if constants.HF_HUB_OFFLINE:
        raise hub_unreachable(model_name, "HF_HUB_OFFLINE is set")
    url = urlsplit(constants.ENDPOINT)
    proxies = getproxies()
    if url.scheme in proxies or "all" in proxies:
        return  # whether the proxy reaches it only the client can tell
    try:
        socket.create_connection((url.hostname, url.port or 443), timeout=5).close()
    except OSError as error:
        raise hub_unreachable(model_name, f"{url.hostname} does not answer: {error}") from error


def hub_unreachable(model_name: str, cause: str) -> HubUnreachableError:
    """Return the error that says which ways on there are."""
    return HubUnreachableError(
        f"The weights of {model_name} are not on this machine, and the hub can't be reached ({cause}). Give a file of "
        'them with `checkpoint=` FILE, or take the small one that comes along and needs no network: `backbone=` "toy".'
    )


def is_network_failure(error: BaseException | None) -> bool:
    """Tell whether an exception, or what caused it, is a network that failed, whichever client reported it."""
    while error is not None:
        library = type(error).__module__.partition(".")[0]
        names = {kind.__name__ for kind in type(error).__mro__}
        if isinstance(error, ConnectionError | TimeoutError | socket.gaierror):
            return True
        if names & {"LocalEntryNotFoundError", "OfflineModeIsEnabled", "URLError"}:
            return True
        if library in {"httpx", "httpx2", "requests", "urllib3"} and names & {"TransportError", "ConnectionError"}:
            return True
        error = error.__cause__ or error.__context__
    return False


def unwrapped(model: nn.Module) -> nn.Module:
    """Return what ``torch.compile``, ``DataParallel``, DDP and kin were put around: the model with its own names."""
    while True:
        children = dict(model.named_children())
        name = next((name for name in _WRAPPED if list(children) == [name]), None)
        if name is None:
            return model
        model = children[name]


def named_weights(name: str, model: nn.Module, keys: Sequence[str]) -> list[tuple[str, Tensor]]:
    """Return the weights that a model was built with, by name.

    Raises:
        BackboneError: One is no longer there.
    """
    state = model.state_dict()
    lost = [key for key in keys if key not in state]
    if lost:
        raise BackboneError(
            f"`model` must be the {name} that the backbone was built with; it lacks {_first_few(lost)}. Change weights "
            "before they are saved as a checkpoint, and build the backbone from that."
        )
    return [(key, state[key]) for key in keys]


def version_of(tensors: Iterable[tuple[str, Tensor]]) -> object:
    """Return what changes whenever one of the tensors does; None where torch doesn't count changes (inference mode)."""
    values = [tensor for _, tensor in tensors]
    if any(x.is_inference() for x in values):
        return None
    return tuple((x.data_ptr(), x._version, x.dtype) for x in values)


def digest(tensors: Iterable[tuple[str, Tensor]], context: str) -> str:
    """Return the SHA-256, in hex, of names, types, shapes and every byte of the tensors, and of a text."""
    sha = hashlib.sha256(context.encode())
    for name, tensor in tensors:
        sha.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def _read(path: Path) -> object:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    with torch.serialization.safe_globals([argparse.Namespace]):  # training scripts store their options: plain data
        return torch.load(path, map_location="cpu", weights_only=True)


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:200]}" if text else type(error).__name__


def _first_few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
