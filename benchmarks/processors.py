"""How far apart are embeddings that unlike processors compute? Instruction sets are switched off, one by one.

The same pictures are extracted by processes that may use what the processor has, AVX2 at most, or SSE4 at most (torch,
oneDNN and MKL are told by the environment): their products are summed in other orders. Each is held against the first:
the largest difference of a number of g, relative to the largest number of a token, for tokens rounded to float16 and
float32.

A number of a token that was rounded to float16 may come out one step away where its float32 value moved across the
middle of two: by 2^-10 of its size, at most. g is here the mean of tokens (lift identity, tau 0, t 0), and moves by no
more than that; where its weights are those of attention or of a graph, these move too.

Usage: python -m benchmarks.processors [--name FILE]
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.harness import write
from carrot import Carrot
from carrot.classifier.fitting import training_set
from carrot.data.toy import ToyBirds
from carrot.embedding.extracted import Extracts
from carrot.embedding.extracting import ExtractShard, extract
from carrot.engine import Here

SETS: dict[str, dict[str, str]] = {
    "all that there is": {},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "SSE4": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
}
BOUND = 2.0**-10
BIRDS = ToyBirds(n_train_per_class=11, n_test_per_class=0, n_species=6)


def compute(folder: Path, dtype: str) -> None:
    """Extract 66 toy birds."""
    torch.set_num_threads(1)
    model = Carrot("toy", lift="identity", tau=0.0, dtype=dtype)  # type: ignore[arg-type]
    train, _ = training_set(BIRDS, None)
    extract(ExtractShard.of(train, model.encoder, model.setting_, folder), Here())


def main(argv: Sequence[str] | None = None) -> int:
    """Run a process for each set of instructions; write how far apart they are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", default="processors")
    parser.add_argument("--compute", nargs=2, metavar=("FOLDER", "DTYPE"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.compute:
        compute(Path(options.compute[0]), options.compute[1])
        return 0
    torch.set_num_threads(1)
    rows: list[dict[str, object]] = []
    largest = float(Carrot("toy").encoder.tokens([BIRDS.image(i) for i in range(len(BIRDS.records))]).H.abs().max())
    with tempfile.TemporaryDirectory() as root:
        for dtype in ("float16", "float32"):
            first = None
            for place, (name, environment) in enumerate(SETS.items()):
                folder = Path(root) / f"{dtype}-{place}"
                command = [sys.executable, "-m", "benchmarks.processors", "--compute", str(folder), dtype]
                subprocess.run(command, env={**os.environ, **environment}, check=True)
                G = torch.cat(list(Extracts.of([folder]).blocks()))
                first = G if first is None else first
                apart = float((G - first).abs().max()) / largest
                if apart > BOUND:
                    raise SystemExit(f"FAILED: {name}, {dtype}: {apart:.1e} apart, and the bound is {BOUND:.1e}")
                rows.append({"tokens": dtype, "instructions": name, "same bits": torch.equal(G, first), "apart": apart})
                print(rows[-1])
    write(options.name, rows, pictures=66, bound=BOUND)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
