"""What is mean pooling (t = 0) worth on a data set, and what the setting that leave-one-out chose? Runs main.py, keeps its numbers.

Usage: python -m benchmarks.accuracy NAME --data DIR --backbone MODEL --checkpoint FILE [other options of main.py]
Writes benchmarks/results/accuracy-NAME.json. A finished embedding in --out (default runs/NAME) is used again.
"""

import json
import sys
from pathlib import Path

import main as pipeline
from benchmarks.harness import write


def main(argv: list[str]) -> None:
    """Run, then write."""
    name, options = argv[0], argv[1:]
    a = pipeline.arguments(options)
    if a.out is None:
        a.out = Path("runs") / name
        options += ["--out", str(a.out)]
    pipeline.main(options)
    metrics = json.loads((a.out / "metrics.json").read_text())
    rows = [{"row": row, **numbers} for row, numbers in metrics.items()]
    chosen = {"backbone": a.backbone, "crop": a.crop or "model", "img_size": a.img_size}
    grid = {"sigma_spatial": a.sigma_spatial, "sigma_feature": a.sigma_feature, "times": a.times}
    print("written:", write(f"accuracy-{name}", rows, **chosen, grid=grid).name)


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    main(sys.argv[1:])
