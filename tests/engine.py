"""The page's own arithmetic, run by node: states in, answers out."""

import json
import shutil
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="node isn't installed: the page's arithmetic can't be run")
ENGINE = Path(str(resources.files("carrot.explanation").joinpath("page/engine.js")))
RUN = """
const given = JSON.parse(require("fs").readFileSync(0));
const CARROT = require(given.engine), model = CARROT.load(given.payload), plain = (x) => (x ? Array.from(x) : x);
console.log(JSON.stringify(given.states.map((one) => {
  const state = typeof one === "string" ? CARROT.fromHash(one, model) : { ...CARROT.start(model), ...one };
  const a = CARROT.answer(model, state), hash = CARROT.toHash(model, state);
  if (a.refused) return { refused: a.refused, state, hash };
  return { ...a, logits: plain(a.logits), probabilities: plain(a.probabilities), contributions: plain(a.contributions),
           drops: plain(a.drops), training: a.training, others: a.others, state, hash };
})));
"""


def answers(payload: dict[str, Any], states: list[dict[str, Any] | str], engine: Path = ENGINE) -> list[dict[str, Any]]:
    """Return what the page answers in some states: each a part of one, the rest as at the start, or a link's."""
    assert NODE is not None
    given = json.dumps({"engine": str(engine), "payload": payload, "states": states})
    run = subprocess.run([NODE, "-e", RUN], input=given, capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stderr
    found: list[dict[str, Any]] = json.loads(run.stdout)
    return found
