"""Recipes: finding them by name, checking them, and keeping them with a run."""

import ast
import contextlib
import copy
import importlib.util
import inspect
import json
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxseg.data.masks import read_table
from jaxseg.errors import ConfigError, did_you_mean

CONFIG_FILE = "config.json"
AUTO = "auto"  # what numbers that follow from the data are until they are known

# What may differ between a run and its continuation: it changes neither the numbers nor the data's order.
RUNTIME_FIELDS = (
    "log_every", "checkpoint_every", "checkpoint.keep", "checkpoint.keep_best", "checkpoint.metric",
    "compilation_cache", "mesh.data", "mesh.fsdp", "data.read_threads", "data.num_workers", "data.check",
)  # fmt: skip
# What `checkpoint.metric` can be, besides IoU, Acc and Dice of a class, as in "IoU/road".
METRICS = ("mIoU", "mAcc", "aAcc", "mDice")
# What a part of the data may have otherwise than the data set as a whole.
PART_FIELDS = (
    "dataset", "root", "classes", "palette", "image_dir", "label_dir", "image_suffix", "label_suffix", "ignore_index",
    "reduce_zero_label", "label_map",
    "mask_colors", "masks",
    "image_dir2", "image_suffix2", "image_key", "label_key",
)  # fmt: skip


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
        name: As for `find_recipe`; or a .json file, as `python -m jaxseg.print_config` writes it and every run folder
            has one.

    Raises:
        ConfigError: No such file, or it has no such recipe.
    """
    path, _, argument = find_recipe(name).partition(":")
    if path.endswith(".json"):
        return _load_json(Path(path))
    try:
        get_config = _load_module(Path(path)).get_config
        takes_argument = argument or inspect.signature(get_config).parameters
        config = get_config(argument or None) if takes_argument else get_config()
    except ConfigError:
        raise
    except Exception as error:  # whatever a file of the user's may raise
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
        line = getattr(error, "lineno", None) or (lines[-1] if lines else None)
        where = f"{path}, line {line}" if line else path
        raise ConfigError(f"{where}: {type(error).__name__}: {str(error).strip()}") from error
    if not isinstance(config, Mapping | ConfigDict):
        raise ConfigError(f"{path}: get_config must return a ConfigDict; it returned {config!r}")
    return complete(ConfigDict(config)).lock()


def load_chosen(name: str, fields: Sequence[tuple[str, str | None]]) -> ConfigDict:
    """The config of a recipe, made anew where an override names another of its models.

    Args:
        name: As for `load_recipe`.
        fields: The overrides; of them, "model_name" has its effect here.

    Raises:
        ConfigError: The recipe has no choice of models, or not that one.
    """
    config = load_recipe(name)
    chosen = [value for field, value in fields if field == "model_name"]
    if not chosen or chosen[-1] == config.get("model_name"):
        return config
    path = name.partition(":")[0]
    if path.endswith(".json") or config.get("model_name") is None:
        raise ConfigError(f"--config.model_name={chosen[-1]}: {path} has no choice of models; configs/folder.py has.")
    return load_recipe(f"{path}:{chosen[-1] or ''}")


def complete(config: ConfigDict) -> ConfigDict:
    """Fills in the defaults that a recipe leaves out, in place, so that all there is to set can be seen.

    Args:
        config: A recipe, not locked. Parts of types that are not known stay as they are.
    """
    from jaxseg.data.transforms import transform_defaults
    from jaxseg.engine.optim import optimizer_defaults
    from jaxseg.engine.schedules import piece_defaults
    from jaxseg.losses import loss_defaults
    from jaxseg.models import HEADS, PARTS, SEGMENTORS, field_defaults

    if model := config.get("model"):
        config.model = model = _each(model, lambda part: field_defaults(SEGMENTORS, part))
        for name, registry in PARTS.items():
            if name not in model:
                continue
            model[name] = _each(model.get(name), lambda part, registry=registry: field_defaults(registry, part))
            if registry is HEADS:
                for head in model[name] if isinstance(model[name], tuple) else [model[name] or {}]:
                    for field in {"loss_decode", "loss_se_decode"} & set(head):
                        head[field] = _each(head[field], loss_defaults)
    if config.get("optimizer"):
        config.optimizer = _each(config.optimizer, optimizer_defaults)
    if "schedule" in config:
        config.schedule = _each(config.schedule, piece_defaults)
    for part in ("train", "val", "test"):
        if "transforms" in config.get("data", {}).get(part, {}):
            config.data[part].transforms = _each(config.data[part].transforms, transform_defaults)
    return config


def _each(parts: Any, defaults: Callable[[Any], Mapping[str, Any]]) -> Any:
    """A copy of the part, or of every part of a sequence, with its defaults filled in."""
    if isinstance(parts, tuple | list):
        return tuple(_each(part, defaults) for part in parts)
    if not isinstance(parts, Mapping | ConfigDict):
        return parts
    return _filled(parts, defaults(parts.to_dict() if isinstance(parts, ConfigDict) else parts))


def _filled(part: Any, defaults: Mapping[str, Any]) -> Any:
    """A copy of the part with the defaults of fields that are missing.

    A whole number in a field of floats becomes one: an override such as 0.5 must fit its type.
    """
    part = copy.copy(part)
    for name, value in defaults.items():
        if name not in part:
            part[name] = value
        elif type(value) is float and type(part[name]) is int:
            with part.ignore_type() if isinstance(part, ConfigDict) else contextlib.nullcontext():
                part[name] = float(part[name])
    return part


def override(config: ConfigDict, fields: Sequence[tuple[str, str | None]]) -> ConfigDict:
    """A copy of a recipe with other values, each read as the type that is there.

    Args:
        config: A recipe.
        fields: Names, such as "model.decode_head.channels" or "schedule[0].power", and what to read the values
            from. A tuple is written "(1, 2)", "a,b", or as the path of a text file with an item a line; None takes
            a value away; a flag that is given without a value (None) is true.

    Raises:
        ConfigError: There is no such field, or the text does not fit its type.
    """
    config = copy.deepcopy(config)
    for name, text in fields:
        if problem := explain_unknown_field(config, name):
            raise ConfigError(problem)
        try:
            _replace(config, _parts(name), text)
        except (TypeError, ValueError) as error:
            kind = error.args[0] if isinstance(error, _WrongText) else "a value of another type"
            raise ConfigError(f"--config.{name}={'' if text is None else text}: {kind} is needed") from error
    return config


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
    """Runs a recipe's file; its classes have the name that they would have if it was imported."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    temporary = sys.modules.setdefault(path.stem, module) is module  # dataclasses look their module up there
    try:
        spec.loader.exec_module(module)
    finally:
        if temporary:
            del sys.modules[path.stem]
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
    for section in ("checkpoint", "mesh", "preprocess", "data", "data.train", "data.val", "data.test"):
        have, allowed = config, known
        for part in section.split("."):
            have, allowed = have[part], allowed[part]
        allowed = (*allowed, *PART_FIELDS) if section.startswith("data.") else allowed
        for name in have:
            if name not in allowed:
                raise ConfigError(f"config.{section}.{name} is not a known field. {did_you_mean(name, allowed)}")
    for name in ("total_steps", "batch_size", "eval_batch_size", "log_every", "evaluate_every", "checkpoint_every"):
        if not isinstance(config[name], int) or config[name] < 1:
            raise ConfigError(f"config.{name}={config[name]} must be a whole number, at least 1")
    if not isinstance(config.seed, int) or not 0 <= config.seed < 2**31:
        raise ConfigError(f"config.seed={config.seed} must be a whole number in 0..{2**31 - 1}")
    mean, std = config.preprocess.mean, config.preprocess.std
    known = AUTO not in (*mean, *std)  # else they are of the data, which come later
    if (known and len(mean) != len(std)) or not mean or not all(std):
        raise ConfigError(
            f"config.preprocess: mean {mean} and std {std} must have a number for every channel, std not 0"
        )
    for name, least in (("keep", 1), ("keep_best", 0)):
        if not isinstance(config.checkpoint[name], int) or config.checkpoint[name] < least:
            found = config.checkpoint[name]
            raise ConfigError(f"config.checkpoint.{name}={found} must be a whole number, at least {least}")


def check_metric(metric: str, classes: Sequence[str]) -> None:
    """Refuses a `checkpoint.metric` that no evaluation has.

    Raises:
        ConfigError: Names the nearest.
    """
    known = [*METRICS, *(f"{kind}/{name}" for kind in ("IoU", "Acc", "Dice") for name in classes)]
    if metric not in known:
        raise ConfigError(f"config.checkpoint.metric={metric!r} is not known. {did_you_mean(metric, known)}")


def to_json(config: Mapping[str, Any]) -> str:
    """The complete config as JSON text; classes that were given themselves as `type` are in it as "MODULE.CLASS".

    Raises:
        ConfigError: It holds what JSON can't, or a class that can't be found again by its name.
    """
    plain = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    return json.dumps(plain, indent=2, default=_plain)


def type_name(kind: str | type) -> str:
    """How a config's `type` is written: a name as it is, a class as "MODULE.CLASS"."""
    return kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"


def save(config: Mapping[str, Any], workdir: Path) -> None:
    """Writes the complete config into a run folder, whole or not at all; on process 0 only."""
    import jax

    if jax.process_index() != 0:
        return
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
    return ConfigDict(_read_json(path)).lock()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = _tuples(json.loads(path.read_text()))
    except ValueError as error:
        raise ConfigError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no config")
    return content


def _load_json(path: Path) -> ConfigDict:
    """A recipe from a file; fields that are null know their type from a recipe without values."""
    from jaxseg.configs import common

    recipe, content = common.base(), _read_json(path)

    def fill(node: ConfigDict, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            if isinstance(value, dict) and isinstance(node.get(name), ConfigDict):
                fill(node[name], value)
            elif value is not None or name not in node:
                node[name] = value

    try:
        fill(recipe, content)
    except TypeError as error:
        raise ConfigError(f"{path}: {error}") from error
    return complete(recipe).lock()


def check_same_run(config: Mapping[str, Any], workdir: Path) -> None:
    """Refuses to continue a run with a config that would change its numbers.

    Raises:
        ConfigError: Lists the fields that differ.
    """
    if workdir.exists() and not workdir.is_dir():
        raise ConfigError(f"{workdir} is a file; --workdir must be a folder, or not be there yet")
    if not (workdir / CONFIG_FILE).is_file():
        return
    there = dict(_leaves(json.loads(to_json(load(workdir)))))
    here = dict(_leaves(json.loads(to_json(config))))
    differing = [
        name
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name) and name not in RUNTIME_FIELDS
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
    """What to say of a field that an override names and the config lacks; "" where it has it."""
    node: Any = config
    where = "config"
    for part in _parts(name):
        if isinstance(node, Mapping | ConfigDict):
            if part not in node:
                return f"{where} has no field {part!r}. {did_you_mean(part, node)}"
        elif isinstance(node, tuple | list):
            if not isinstance(part, int) or not 0 <= part < len(node):
                return f"{where} has {len(node)} items; name one as in --{where}[0], not {part!r}."
        else:
            return f"{where} is {node!r} and has no fields of its own, so --config.{name} means nothing."
        node = node[part]
        where += f"[{part}]" if isinstance(part, int) else f".{part}"
    return ""


_WANTED = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    tuple: "a tuple such as (1, 2) or a,b, or a text file with an item a line",
    dict: "a dict such as {'type': 'SGD'}, or a text file with a key and a value a line",
}
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


class _WrongText(ValueError):
    """The text of an override does not fit the type of its field; says what would."""


def _parts(name: str) -> list[str | int]:
    """The keys and indices of "schedule[0].power"."""
    return [int(part) if part.isdigit() else part for part in re.split(r"[.\[]", name.replace("]", ""))]


def _replace(node: Any, parts: Sequence[str | int], text: str | None) -> Any:
    """`node` with another value at a place below it: ConfigDicts change, dicts and tuples are made anew."""
    part, *rest = parts
    if rest:
        value = _replace(node[part], rest, text)
    else:
        value = _read(text, node.get_type(part) if isinstance(node, ConfigDict) else type(node[part]))
    if isinstance(node, ConfigDict):
        if value is not node[part] or value is None:
            node[part] = value
        return node
    return {**node, part: value} if isinstance(node, Mapping) else (*node[:part], value, *node[part + 1 :])


def _read(text: str | None, kind: type) -> Any:
    """The value of a type that the text of an override means."""
    kind = {list: tuple, ConfigDict: dict}.get(kind, kind)
    wrong = _WrongText(_WANTED.get(kind, "a value"))
    if text is None:
        if kind is not bool:
            raise wrong
        return True
    if kind is bool:
        if text.lower() not in _TRUE + _FALSE:
            raise wrong
        return text.lower() in _TRUE
    if text in ("None", "none"):
        return None
    if kind in (int, float, str):
        try:
            return kind(text)
        except ValueError:
            raise wrong from None
    if kind is dict and Path(text).is_file():
        return read_table(text)
    if kind is tuple and text == AUTO:  # numbers that follow from the data
        return (AUTO,)
    if kind is tuple and Path(text).is_file():
        return tuple(line.strip() for line in Path(text).read_text(encoding="utf-8").splitlines() if line.strip())
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        value = text
    if kind is tuple and isinstance(value, str) and "," in value:
        value = tuple(part.strip() for part in value.strip("()[] ").split(",") if part.strip())
    if kind in (tuple, dict) and not isinstance(value, tuple | list if kind is tuple else dict):
        raise wrong
    return tuple(value) if kind is tuple else value


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
    if isinstance(value, type):
        if "." in value.__qualname__:
            raise ConfigError(f"{type_name(value)}, a `type` in the config, must be at the top level of its file")
        return type_name(value)
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if hasattr(value, "item"):
        return value.item()
    raise ConfigError(f"A config can't hold {value!r}; register it and give its name")
