"""Files that survive a kill: embeddings in shards, tokens, models, certificates, and what a user asked for.

Importing this package loads nothing: each name brings its module when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from carrot.store.embedding import embed_dataset
    from carrot.store.shards import EmbeddingStore
    from carrot.store.tokens import TokenCache
    from carrot.store.traces import save_tensors

_HOME = {"EmbeddingStore": "shards", "TokenCache": "tokens", "embed_dataset": "embedding", "save_tensors": "traces"}

__all__ = ["EmbeddingStore", "TokenCache", "embed_dataset", "save_tensors"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'carrot.store' has no attribute {name!r}")
    return getattr(import_module(f"carrot.store.{_HOME[name]}"), name)
