"""Embeddings on disk: sharded, resumable, verified; and the objects of the theory for single pictures."""

from carrot.store.embedding import embed_dataset
from carrot.store.shards import EmbeddingStore
from carrot.store.tokens import TokenCache
from carrot.store.traces import save_tensors

__all__ = ["EmbeddingStore", "TokenCache", "embed_dataset", "save_tensors"]
