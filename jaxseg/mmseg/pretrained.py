"""Trained models of the reference: a config and a checkpoint, or a published name, become a recipe and variables."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
from flax.traverse_util import unflatten_dict
from ml_collections import ConfigDict

from jaxseg import config as run_config
from jaxseg.data.datasets import DATASETS
from jaxseg.errors import CheckpointError, ConfigError
from jaxseg.mmseg import zoo
from jaxseg.mmseg.checkpoint import Checkpoint, read_checkpoint
from jaxseg.mmseg.convert import COUNTER, Match, initial_values, likeliest_source, match_state_dict
from jaxseg.mmseg.translate import Translation, translate_file
from jaxseg.models import build_model
from jaxseg.models.names import of_classes
from jaxseg.visualize.palettes import default_palette


class Pretrained(NamedTuple):
    """A model of the reference's, here.

    Attributes:
        config: The recipe, with the names and colours of the classes.
        variables: {"params": ..., "batch_stats": ...}; of the backbone alone where the file has no more.
        step: Training steps behind them, as far as the file says.
        source: What the file's names are of, see `jaxseg.models.names.sources`.
        mapped: Paths of the variables by the names of the tensors that they are from.
        initial: Paths of what is left as it is initialised: classifiers, and what files of the source may lack.
        counters: Training steps that the norm layers have counted, by tensor.
        ignored: Fields of the config that have no part in the recipe, with the reasons.
    """

    config: ConfigDict
    variables: dict[str, Any]
    step: int
    source: str
    mapped: dict[str, str]
    initial: list[str]
    counters: dict[str, int]
    ignored: dict[str, str]


def read_pretrained(
    checkpoint: str | Path,
    config: str | Path | ConfigDict | None = None,
    *,
    overrides: Mapping[str, Any] | None = None,
    source: str | None = None,
    new_classes: bool = False,
) -> Pretrained:
    """Reads a checkpoint into the model that a config describes.

    Args:
        checkpoint: A .pth, .safetensors or .npz file.
        config: Of the reference's, a path, which is read and never run; or a recipe of ours. None: the config that
            the reference wrote into the checkpoint.
        overrides: Values for the reference's config, by dotted name.
        source: Whose names the file has; None: the likeliest, see `jaxseg.models.names.sources`.
        new_classes: Whether a classifier of another number of classes may stay as it is initialised.

    Raises:
        ConfigError: The config can't be read or translated, or a part of the model is not known.
        CheckpointError: The file can't be read, or does not fit the model.
    """
    file = read_checkpoint(checkpoint)
    if isinstance(config, ConfigDict):
        recipe, ignored = config, {}
    elif config is None:
        recipe, ignored = _own_recipe(file, overrides)
    else:
        recipe, ignored = translate_file(config, overrides)
    model = build_model(recipe.model)
    tensors = file.state_dict()
    source = source or likeliest_source(model, tensors)
    match = _matched(model, tensors, source, new_classes, checkpoint)
    variables = dict(match.variables)
    if match.unfilled:
        variables.update(initial_values(model, match.unfilled, recipe.seed))
    step = file.meta.get("iter")
    return Pretrained(
        with_classes(recipe, None if match.unfilled else file),
        {"params": {}, "batch_stats": {}} | unflatten_dict(variables),
        step if isinstance(step, int) else 0,
        source,
        {name: "/".join(path) for name, path in match.names.items()},
        ["/".join(path) for path in match.unfilled],
        {name: int(tensors[name]) for name in match.ignored if name.endswith(COUNTER)},
        ignored,
    )


def read_published(name: str, **where: Any) -> Pretrained:
    """A published model of the reference's, downloaded unless it is in the cache.

    Args:
        name: A recipe's name; `zoo.names` lists those that were published.
        where: `cache`, `mirror` and `progress`, as for `zoo.download`.

    Raises:
        ConfigError: It was not published, or the recipe is not part of this version.
        CheckpointError: The file cannot be had, or does not fit.
    """
    entry = zoo.find(name)
    recipes = run_config.recipe_names()
    if entry.name not in recipes:
        raise ConfigError(f"{entry.name} was published by MMSegmentation, but the method is not part of this version.")
    recipe = run_config.load_recipe(recipes[entry.name])
    return read_pretrained(zoo.download(entry, **where), recipe)


def starting_weights(path: str | Path, model: nn.Module) -> dict[str, Any]:
    """What a checkpoint file holds for a model, to start training from.

    Args:
        path: A .pth, .safetensors or .npz file: of a segmentor, or of a source of its backbone.
        model: The segmentor.

    Returns:
        {"params": ..., "batch_stats": ...}: without the backbone's neighbours where the file has none, and without
        classifiers of another number of classes. What else such files lack is as it is initialised.

    Raises:
        CheckpointError: It can't be read, or is of another model.
    """
    tensors = read_checkpoint(path).state_dict()
    match = _matched(model, tensors, likeliest_source(model, tensors), True, path)
    lacking = [path for path in match.unfilled if not of_classes(path)]
    return unflatten_dict(match.variables | (initial_values(model, lacking, seed=0) if lacking else {}))


def with_classes(recipe: ConfigDict, file: Checkpoint | None = None) -> ConfigDict:
    """The recipe with names and colours of as many classes as its model has.

    They are those of the checkpoint, of the recipe, or of its data set; else they are made up.
    """
    count = build_model(recipe.model).final_head.num_classes
    candidates = [(recipe.data.classes, recipe.data.palette)]
    if file is not None:
        candidates.insert(0, (file.classes, file.palette))
    if row := DATASETS.get(recipe.data.dataset):
        candidates.append((row.classes, row.palette))
    named = [(classes, palette) for classes, palette in candidates if classes and len(classes) == count]
    classes, palette = named[0] if named else (tuple(f"class {i}" for i in range(count)), None)
    recipe = recipe.copy_and_resolve_references()
    with recipe.unlocked():
        recipe.data.classes = tuple(classes)
        same = palette and len(palette) == len(classes)
        recipe.data.palette = tuple(tuple(colour) for colour in palette) if same else default_palette(len(classes))
    return recipe.lock()


def _matched(model: nn.Module, tensors: Mapping, source: str, new_classes: bool, path: str | Path) -> Match:
    try:
        return match_state_dict(model, tensors, source, new_classes)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _own_recipe(file: Checkpoint, overrides: Mapping[str, Any] | None) -> Translation:
    """The recipe of the config that the reference wrote into a checkpoint, as text: `cfg` in 1.x, `config` in 0.x."""
    text = file.meta.get("cfg", file.meta.get("config"))
    if not isinstance(text, str):
        raise ConfigError(f"{file.path} holds no config; give the config that it was trained with.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{file.path.stem}.py")
        path.write_text(text)
        try:
            return translate_file(path, overrides)
        except ConfigError as error:
            raise ConfigError(str(error).replace(str(path), f"{file.path} (the config in it)")) from error
