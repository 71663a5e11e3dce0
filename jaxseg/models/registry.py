"""From configs to modules: the registries' functions."""

import dataclasses
import sys
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import flax.linen as nn
from ml_collections import ConfigDict, FieldReference

from jaxseg.errors import ConfigError, did_you_mean

Registry = dict[str, type[nn.Module]]
Entry = TypeVar("Entry")
# A ConfigDict has a mapping's methods without being a collections.abc.Mapping.
Config = Mapping[str, Any] | ConfigDict


def register(registry: dict[str, Entry], name: str, entry: Entry) -> Entry:
    """Adds a class (or a loss) of your own to a registry, so that configs can name it as `type`.

    Raises:
        ConfigError: The name is taken.
    """
    if name in registry:
        raise ConfigError(f"{name!r} is registered already, as {registry[name].__name__}; choose another name")
    registry[name] = entry
    return entry


def find(registry: Registry, kind: Any) -> type[nn.Module] | None:
    """The class that `type` means: itself, by its name in the registry, or as "MODULE.CLASS"; None where there is none.

    The last is how a class that was given itself stands in a run's config.json. Its module must have been imported:
    nothing is imported here, since a file that came with weights must not choose what is run.
    """
    if not isinstance(kind, str):
        return kind if _is_module(kind) else None
    module, _, name = kind.rpartition(".")
    imported = vars(sys.modules[module]) if module in sys.modules else {}
    found = registry.get(kind) or imported.get(name)
    return found if _is_module(found) else None


def unknown_type(where: str, kind: Any, known: Iterable[str]) -> ConfigError:
    """The error of a `type` that means nothing: the nearest names, and what makes one's own known."""
    module = kind.rpartition(".")[0] if isinstance(kind, str) else ""
    if not module:
        hint = f"{did_you_mean(str(kind), known)} One that you register is known after --import=MODULE."
    elif module in sys.modules:
        hint = f"The module {module} has no such class."
    else:
        hint = f"Import its module first: --import={module}, or `import {module}` in Python."
    return ConfigError(f"{where}.type={kind!r} is not known. {hint}")


def build(registry: Registry, config: Config, where: str, **place: Any) -> nn.Module:
    """Builds the module that `config` describes.

    Args:
        registry: Classes by name.
        config: `type`, a name or a class, and the fields of that class.
        where: What the config is of, for messages: "backbone".
        place: Flax's `name` and `parent`, where it is built inside of another module.

    Raises:
        ConfigError: `type` is missing or unknown, or a field is unknown or missing.
    """
    fields = {key: plain(value) for key, value in config.items()}
    kind = fields.pop("type", None)
    if kind is None:
        raise ConfigError(f"{where}.type is missing. {did_you_mean('', registry)}")
    module = find(registry, kind)
    if module is None:
        raise unknown_type(where, kind, registry)
    allowed = [field.name for field in _fields(module)]
    for field in fields:
        if field not in allowed:
            raise ConfigError(f"{where}: {module.__name__} has no field {field!r}. {did_you_mean(field, allowed)}")
    try:
        return module(**fields, **place)
    except TypeError as error:
        raise ConfigError(f"{where}: {error}") from error


def field_defaults(registry: Registry, config: Config) -> dict[str, Any]:
    """The fields of the module that `config` describes which have defaults; none where the type is not known."""
    module = find(registry, config.get("type"))
    defaults = {} if module is None else {field.name: field.default for field in _fields(module)}
    return {name: plain(value) for name, value in defaults.items() if value is not dataclasses.MISSING}


def _is_module(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, nn.Module)


def _fields(module: type[nn.Module]) -> list[dataclasses.Field]:
    """The fields of a module that a config can set."""
    return [field for field in dataclasses.fields(module) if field.name not in ("parent", "name")]


def plain(value: Any) -> Any:
    """A config value as plain dicts and tuples."""
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    if isinstance(value, FieldReference):
        value = value.get()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(plain(item) for item in value)
    return value
