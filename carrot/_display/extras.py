"""Packages that only some of CARROT needs, by the extra that brings them, and what to write to have them."""

from importlib.util import find_spec

EXTRAS: dict[str, dict[str, str]] = {  # module: distribution; as in pyproject.toml
    "app": {"starlette": "starlette", "uvicorn": "uvicorn"},
    "big": {"pyarrow": "pyarrow", "fsspec": "fsspec"},
    "export": {"pyarrow": "pyarrow"},
    "frames": {"pandas": "pandas"},
    "onnx": {"onnx": "onnx", "onnxscript": "onnxscript", "onnxruntime": "onnxruntime"},
    "ray": {"ray": "ray[data]"},
    "sklearn": {"sklearn": "scikit-learn"},
}


def missing(extra: str) -> list[str]:
    """Return the modules of an extra that are not installed."""
    return [name for name in EXTRAS[extra] if find_spec(name) is None]


def how_to_install(extra: str, *more: str) -> str:
    """Return what to write to have an extra, and ``more`` with it: the packages by their own names, or the extra."""
    own, named = " ".join([*EXTRAS[extra].values(), *more]), " ".join([f"'.[{extra}]'", *more])
    return f"pip install {own}, or in CARROT's checkout: pip install {named}"
