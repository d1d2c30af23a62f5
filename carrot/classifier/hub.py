"""Models to and from the Hugging Face hub, in its convention.

That is config.json, safetensors, and a model card that states what was measured.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelCard, ModelHubMixin, snapshot_download

from carrot.store.files import write_atomically
from carrot.store.layout import CONFIG, PARTS

if TYPE_CHECKING:
    from carrot.model import Carrot

_CARD = """---
library_name: carrot
pipeline_tag: image-classification
tags: [carrot, explainable-ai, ridge-regression]
---

# An image classifier that can be held to account

Made with [CARROT](https://pypi.org/project/carrot-attribution): a frozen timm backbone, a region graph, and a
closed-form ridge head. Every logit splits exactly over regions and over training pictures; a training picture can be
deleted exactly.

```python
from carrot import Carrot

model = Carrot.from_pretrained("REPOSITORY")
print(model.predict("picture.jpg"), model.explain("picture.jpg"))
```

| | |
| --- | --- |
{rows}

Accuracies are exact leave-one-out on the training pictures, measured when the model was fitted. The backbone's weights
are not part of this repository: timm fetches them, or give `checkpoint=`; they are checked against the fingerprint
above. The names of the training pictures and their SHA-256 are in the records file.
"""


class HubMixin(ModelHubMixin):
    """``from_pretrained``, ``save_pretrained`` and ``push_to_hub``, over a model that has the attributes below."""

    classifier: Any
    save: Any
    load: Any

    def _save_pretrained(self, save_directory: Path) -> None:
        self.save(save_directory)

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        model_card_kwargs: dict[str, Any] | None = None,
        **options: Any,
    ) -> str | None:
        """Write the model and its card, as the mixin does; a folder that holds something else is refused.

        The mixin deletes ``config.json`` first, whose ever it is. Here it is replaced at one moment, like everything in
        ``save``.

        Raises:
            ModelError: The folder holds something else, or was changed since.
            StoreError: The disk refuses.
        """
        folder = Path(save_directory)
        self.save(folder)
        if not (folder / "README.md").exists():
            card = self.generate_model_card(**(model_card_kwargs or {}))
            write_atomically(folder / "README.md", str(card).encode())
        if not push_to_hub:
            return None
        return str(self.push_to_hub(repo_id or folder.name, model_card_kwargs=model_card_kwargs, **options))

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **options: Any) -> "Carrot":
        """Read a folder, or fetch a repository's model files and read them; other options as in ``Carrot.load``."""
        folder = Path(model_id)
        if not folder.is_dir():
            names = ("revision", "cache_dir", "force_download", "local_files_only", "token")
            fetch = {name: options[name] for name in names if name in options}
            files = [CONFIG, *(f"{part}-*.{extension}" for part, extension in PARTS.items())]
            folder = Path(snapshot_download(model_id, allow_patterns=files, **fetch))
        chosen = {
            name: options[name]
            for name in ("checkpoint", "device", "backbone", "data")
            if options.get(name) is not None
        }
        return cls.load(folder, **chosen)

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """Return the card: what the model was made with, and its exact leave-one-out figures."""
        facts = {**self.classifier.facts(), **self.classifier.fitted.leave_one_out()}
        rows = "\n".join(f"| {name.replace('_', ' ')} | {_cell(value)} |" for name, value in facts.items())
        return ModelCard(_CARD.format(rows=rows))


def _cell(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
