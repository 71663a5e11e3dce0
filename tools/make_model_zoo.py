r"""Write docs/model_zoo.md: every recipe, its published score, its size.

    python tools/make_model_zoo.py [--fresh]

Sizes and operations of recipes that the page has already are taken from it, unless they shall be counted afresh; to
count those of a structure takes seconds.
"""

import argparse
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.config import load_recipe, recipe_names, to_json
from jaxseg.mmseg import zoo
from jaxseg.models import build_model
from jaxseg.models.layers.platform import target_platform
from jaxseg.models.text_encoder import ClassEmbeddings

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "model_zoo.md"
GOLDEN = ROOT / "tests" / "golden"

# Parameters in millions and GFLOPs of a recipe's model, as the page has them.
Costs = Mapping[str, tuple[str, str]]

HEADER = """\
# Model zoo

Written by `tools/make_model_zoo.py`. Recipes have MMSegmentation's names. Train one with
`python -m jaxseg.train --config=configs/METHOD.py:RECIPE`; `jaxseg.load("RECIPE")` gives you the published weights.

- **Published**: the score of MMSegmentation's checkpoint as published, in percent: mIoU, unless it says otherwise. It
  was not measured here. Recipes without one have no published checkpoint.
- **Figures**: ✓ where a test compares this very model with the reference: outputs, losses, gradients and statistics
  (`tests/golden/`).
- **Parameters**: in millions, of the whole model, auxiliary heads included.
- **GFLOPs**: of predicting one image of the size of the recipe's crops, counted by XLA before it optimizes. A
  multiplication and an addition are two.
"""
COLUMNS = ("Recipe", "Data", "Published", "Figures", "Parameters", "GFLOPs")


def methods() -> dict[str, list[str]]:
    """Names of the recipes of each method, as `configs/` has them; of methods, not of data."""
    found: dict[str, list[str]] = {}
    for name, where in sorted(recipe_names().items()):
        method, _, argument = where.partition(".py")
        if argument:
            found.setdefault(method, []).append(name)
    return dict(sorted(found.items()))


def page(costs: Costs) -> str:
    """The page, with these sizes; "?" for recipes that have none."""
    golden = {path.stem.partition("__")[2] for path in GOLDEN.glob("*.npz")}
    parts = [HEADER]
    for method, names in methods().items():
        rows = [_row(method, name, name in golden, costs.get(name, ("?", "?"))) for name in names]
        parts += [f"\n## {method}\n", _line(COLUMNS), _line(["---"] * 4 + ["---:"] * 2), *map(_line, rows)]
    return "\n".join(parts) + "\n"


def costs_on(text: str) -> Costs:
    """Sizes that a page says."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| `")
    ]
    return {row[0].strip("`"): (row[4], row[5]) for row in rows if "?" not in row[4:]}


def count(name: str, counted: dict[str, tuple[str, str]]) -> tuple[str, str]:
    """Parameters and operations of a recipe; `counted` has those of structures that were seen before."""
    config = json.loads(to_json(load_recipe(recipe_names()[name])))
    transforms = config["data"]["train"]["transforms"]
    pads = [t["size"] for t in transforms if t["type"] == "Pad"]  # what is not cropped is as large as it is padded to
    height, width = next((t["crop_size"] for t in transforms if "crop_size" in t), pads[-1] if pads else None)
    channels = len(config["preprocess"]["mean"])
    structure = {key: value for key, value in config["model"].items() if key != "test_cfg"}
    key = json.dumps([_without_losses(structure), height, width, channels], sort_keys=True)
    if key not in counted:
        model = with_some_vocabulary(build_model(load_recipe(recipe_names()[name]).model))
        images = jax.ShapeDtypeStruct((1, height, width, channels), jnp.float32)
        with target_platform("tpu"):  # the plain forms
            variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
            lowered = jax.jit(lambda v, x: model.apply(v, x, train=False)).lower(variables, images)
        parameters = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))
        counted[key] = f"{parameters / 1e6:.2f}", f"{lowered.cost_analysis()['flops'] / 1e9:.1f}"
    return counted[key]


def with_some_vocabulary(model: nn.Module) -> nn.Module:
    """The model with embeddings of its classes that say nothing, where it has a text encoder, which runs but once."""
    text = getattr(model, "text_encoder", None)
    if text is None:
        return model
    shape = model.final_head.num_classes, text.output_dims
    return model.clone(text_encoder=text.clone(embeddings=ClassEmbeddings(np.zeros(shape, np.float32))))


def _row(method: str, name: str, figures: bool, costs: tuple[str, str]) -> list[str]:
    entry = zoo.entries().get(name)
    score = "" if entry is None else _score(entry.metrics)
    data = name.rpartition("_")[2].rpartition("-")[0] if entry is None else entry.dataset
    return [f"`{name}`", data, score, "✓" if figures else "", *costs]


def _score(metrics: Mapping[str, float]) -> str:
    if "mIoU" in metrics:
        return f"{metrics['mIoU']:.2f}"
    return ", ".join(f"{name} {value:.2f}" for name, value in itertools.islice(metrics.items(), 1))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _without_losses(part: Any) -> Any:
    if isinstance(part, list):
        return [_without_losses(item) for item in part]
    if not isinstance(part, dict):
        return part
    return {key: _without_losses(value) for key, value in part.items() if key not in ("loss_decode", "sampler")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fresh", action="store_true", help="count all sizes again")
    args = parser.parse_args()
    costs = {} if args.fresh or not PAGE.exists() else dict(costs_on(PAGE.read_text()))
    counted: dict[str, tuple[str, str]] = {}
    for names in methods().values():
        for name in names:
            if name not in costs:
                costs[name] = count(name, counted)
                print(name, *costs[name], flush=True)
    PAGE.write_text(page(costs))


if __name__ == "__main__":
    main()
