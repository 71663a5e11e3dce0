"""From configs to modules: the registries' functions."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
from ml_collections import ConfigDict, FieldReference

from jaxseg.errors import ConfigError, did_you_mean

Registry = dict[str, type[nn.Module]]
# A ConfigDict has a mapping's methods without being a collections.abc.Mapping.
Config = Mapping[str, Any] | ConfigDict


def register(registry: Registry, name: str, module: type[nn.Module]) -> type[nn.Module]:
    """Adds a class of your own to a registry, so that configs can name it as `type`.

    Raises:
        ConfigError: The name is taken.
    """
    if name in registry:
        raise ConfigError(f"{name!r} is registered already, as {registry[name].__name__}; choose another name")
    registry[name] = module
    return module


def build(registry: Registry, config: Config, where: str, name: str | None = None) -> nn.Module:
    """Builds the module that `config` describes.

    Args:
        registry: Classes by name.
        config: `type`, a name or a class, and the fields of that class.
        where: What the config is of, for messages: "backbone".
        name: Of the submodule, where it is built inside of another module.

    Raises:
        ConfigError: `type` is missing or unknown, or a field is unknown or missing.
    """
    fields = {key: plain(value) for key, value in config.items()}
    kind = fields.pop("type", None)
    if kind is None:
        raise ConfigError(f"{where}.type is missing. {did_you_mean('', registry)}")
    module = kind if isinstance(kind, type) else registry.get(kind)
    if module is None:
        raise ConfigError(f"{where}.type={kind!r} is not known. {did_you_mean(kind, registry)}")
    allowed = [field.name for field in _fields(module)]
    for field in fields:
        if field not in allowed:
            raise ConfigError(f"{where}: {module.__name__} has no field {field!r}. {did_you_mean(field, allowed)}")
    try:
        return module(**fields) if name is None else module(**fields, name=name)
    except TypeError as error:
        raise ConfigError(f"{where}: {error}") from error


def field_defaults(registry: Registry, config: Config) -> dict[str, Any]:
    """The fields of the module that `config` describes which have defaults; none where the type is not known."""
    kind = config.get("type")
    module = kind if isinstance(kind, type) else registry.get(kind)
    defaults = {} if module is None else {field.name: field.default for field in _fields(module)}
    return {name: plain(value) for name, value in defaults.items() if value is not dataclasses.MISSING}


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
