"""Write the table of docs/claims.md: run every claim's brute-force check and put down the error that it measures.

Usage: python -m docs.measure_claims     (from the repository's root; claim 24 needs node)
"""

import importlib
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def table() -> str:
    """Return the claims as a Markdown table."""
    lines = ["| # | claim | formula | assumption | test | measured error |", "| --- | --- | --- | --- | --- | --- |"]
    for path in sorted((ROOT / "tests" / "claims").glob("test_*.py")):
        claim = importlib.import_module(f"tests.claims.{path.stem}")
        formula = claim.FORMULA.replace("|", r"\|")
        test = f"[{path.name}](../tests/claims/{path.name})"
        number = int(re.sub(r"\D", "", path.stem))
        lines.append(
            f"| {number} | {claim.STATEMENT} | `{formula}` | {claim.ASSUMPTION} | {test} | {claim.measure():.0e} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Replace what lies between the two markers."""
    page = ROOT / "docs" / "claims.md"
    text = page.read_text()
    head, rest = text.split(BEGIN)
    page.write_text(f"{head}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
