"""Recipes: finding them by name, checking them, and keeping them with a run."""

import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxseg.errors import ConfigError, did_you_mean

CONFIG_FILE = "config.json"

# What may differ between a run and its continuation: it changes neither the numbers nor the data's order.
RUNTIME_FIELDS = ("log_every", "checkpoint", "compilation_cache", "data.read_threads", "data.num_workers", "data.check")


def recipe_folder() -> Path:
    """The folder of the recipes that jaxseg ships."""
    spec = importlib.util.find_spec("jaxseg.configs")
    return Path(spec.origin).parent if spec else Path(__file__).parent.parent / "configs"


def find_recipe(name: str) -> str:
    """The path (and argument) that a `--config` value means.

    Args:
        name: "FILE.py" or "FILE.py:ARGUMENT". A file that does not exist here is looked for among the shipped
            ones, so "configs/pspnet.py:NAME" works from any folder.

    Raises:
        ConfigError: There is no such file; names the nearest.
    """
    path, colon, argument = name.partition(":")
    if Path(path).is_file():
        return str(Path(path).absolute()) + colon + argument
    shipped = recipe_folder() / Path(path).name
    if Path(path).parent.name in ("", "configs") and shipped.with_suffix(".py").is_file():
        return str(shipped.with_suffix(".py")) + colon + argument
    known = [file.name for file in recipe_folder().glob("*.py") if file.stem not in ("__init__", "common")]
    hint = did_you_mean(Path(path).name, known)
    raise ConfigError(f"--config={path}: no such file, here or among the recipes of jaxseg. {hint}")


def load_recipe(name: str) -> ConfigDict:
    """The config of a recipe, locked.

    Args:
        name: As for `find_recipe`.

    Raises:
        ConfigError: No such file, or it has no such recipe.
    """
    path, _, argument = find_recipe(name).partition(":")
    return ConfigDict(_load_module(Path(path)).get_config(argument or None)).lock()


def recipe_names() -> dict[str, str]:
    """Every shipped recipe: its name -> what `--config` takes."""
    names = {}
    for path in sorted(recipe_folder().glob("*.py")):
        if path.stem in ("__init__", "common"):
            continue
        recipes = getattr(_load_module(path), "RECIPES", None)
        names |= {path.stem: path.name} if recipes is None else {name: f"{path.name}:{name}" for name in recipes}
    return names


def _load_module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"jaxseg_recipe_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check(config: Mapping[str, Any]) -> None:
    """Refuses a config with fields that no recipe has, or without one that every recipe has.

    Raises:
        ConfigError: Names the field and the nearest known one.
    """
    from jaxseg.configs import common

    known = common.base()
    for name in config:
        if name not in known:
            raise ConfigError(f"config.{name} is not a known field. {did_you_mean(name, known)}")
    for name in known:
        if name not in config:
            raise ConfigError(f"config.{name} is missing; build the recipe on common.base()")
    for section in ("checkpoint", "preprocess", "data"):
        for name in config[section]:
            if name not in known[section]:
                hint = did_you_mean(name, known[section])
                raise ConfigError(f"config.{section}.{name} is not a known field. {hint}")
    for name in ("total_steps", "batch_size", "eval_batch_size", "log_every", "evaluate_every", "checkpoint_every"):
        if config[name] < 1:
            raise ConfigError(f"config.{name}={config[name]} must be at least 1")


def to_json(config: Mapping[str, Any]) -> str:
    """The complete config as JSON text."""
    plain = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    return json.dumps(plain, indent=2, default=_plain)


def save(config: Mapping[str, Any], workdir: Path) -> None:
    """Writes the complete config into a run folder, whole or not at all."""
    temporary = workdir / f"{CONFIG_FILE}.tmp"
    temporary.write_text(to_json(config) + "\n")
    temporary.rename(workdir / CONFIG_FILE)


def load(workdir: str | Path) -> ConfigDict:
    """The config that a run folder was made with.

    Raises:
        ConfigError: The folder holds none, or one that can't be read.
    """
    path = Path(workdir) / CONFIG_FILE
    if not path.is_file():
        raise ConfigError(f"{workdir} is not a run folder: there is no {CONFIG_FILE} in it")
    try:
        return ConfigDict(_tuples(json.loads(path.read_text()))).lock()
    except ValueError as error:
        raise ConfigError(f"{path} is not valid JSON: {error}") from error


def check_same_run(config: Mapping[str, Any], workdir: Path) -> None:
    """Refuses to continue a run with a config that would change its numbers.

    Raises:
        ConfigError: Lists the fields that differ.
    """
    if not (workdir / CONFIG_FILE).is_file():
        return
    there = dict(_leaves(json.loads(to_json(load(workdir)))))
    here = dict(_leaves(json.loads(to_json(config))))
    differing = [
        name
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name) and not name.startswith(RUNTIME_FIELDS)
    ]
    if differing:
        lines = [f"  {name}: {there.get(name)!r} there, {here.get(name)!r} here" for name in differing[:10]]
        more = f"\n  and {len(differing) - 10} more" if len(differing) > 10 else ""
        raise ConfigError(
            f"{workdir} holds a run of another config:\n"
            + "\n".join(lines)
            + more
            + "\nGive another --workdir, or remove that folder to start anew."
        )


def explain_unknown_field(config: Mapping[str, Any], name: str) -> str:
    """What to say of a field that an override names and the config lacks."""
    node: Any = config
    for depth, part in enumerate(parts := name.split(".")):
        if not isinstance(node, Mapping | ConfigDict) or part not in node:
            where = ".".join(["config", *parts[:depth]])
            if not isinstance(node, Mapping | ConfigDict):
                return f"{where} has no fields of its own, so --config.{name} means nothing."
            return f"{where} has no field {part!r}. {did_you_mean(part, node)}"
        node = node[part]
    return ""


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{name}.{key}" if name else key)
    else:
        yield name, value


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"a config can't hold {value!r}")
