"""Write tests/fixtures/model_v1: a small model as format version 1 has it, and the logits that it must give for ever.

The backbone's weights of now lie beside it: the embedded ones may be trained anew, and a model knows its own.

Usage: python scripts/make_model_fixture.py     (once for each format version; older fixtures stay as they are)
"""

import json
import shutil
from pathlib import Path

from carrot import Carrot
from carrot.data.toy import ToyBirds, embedded_checkpoint
from carrot.store.layout import FORMAT_VERSION

ROOT = Path(__file__).resolve().parents[1] / "tests" / "fixtures"


def main() -> None:
    """Fit, save, write the logits of the training embeddings."""
    folder = ROOT / f"model_v{FORMAT_VERSION}"
    birds = ToyBirds(n_train_per_class=4, n_test_per_class=1, n_species=3)
    model = Carrot("toy", lift="identity", tau=0.5, t=1.0, global_share=0.2).fit(birds)
    model.forget(model.records_[5].id)
    model.save(folder)
    logits = model.head_.predict(model.head_.G).tolist()
    (folder / "logits.json").write_text(json.dumps(logits))
    shutil.copy(embedded_checkpoint(), folder / "backbone.safetensors")


if __name__ == "__main__":
    main()
