"""Fields of a config that is translated: each is taken, ignored for a stated reason, or refused."""

from collections.abc import Collection, Mapping
from typing import Any

from jaxseg.errors import ConfigError, did_you_mean

_REQUIRED = object()


class Fields:
    """A mapping of which every field must be dealt with; `done` refuses what is left.

    Args:
        values: The fields; None for none.
        where: Their place in the config, for messages; "" for its top.
        ignored: Gets the reasons of the ignored fields, by their whole names.

    Raises:
        ConfigError: It is not a mapping.
    """

    def __init__(self, values: Any, where: str, ignored: dict[str, str]):
        if values is not None and not isinstance(values, Mapping):
            raise ConfigError(f"{where} must be a dict, not {values!r}")
        self._left = dict(values or {})
        self.where, self.ignored = where, ignored

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def name(self, field: str) -> str:
        """The whole name of a field."""
        return f"{self.where}.{field}" if self.where else field

    def take(self, name: str, default: Any = _REQUIRED) -> Any:
        """The value of a field, which is done with then.

        Raises:
            ConfigError: It is missing, and there is no default.
        """
        if name not in self._left and default is _REQUIRED:
            raise ConfigError(f"{self.name(name)} is missing")
        return self._left.pop(name, default)

    def section(self, name: str, default: Any = _REQUIRED) -> "Fields":
        """A field that is a mapping itself."""
        return Fields(self.take(name, default), self.name(name), self.ignored)

    def expect(self, name: str, *allowed: Any) -> None:
        """Takes a field that has a counterpart with certain values only; the first of them is its default.

        Raises:
            ConfigError: It has another value.
        """
        value = self.take(name, allowed[0])
        if value not in allowed:
            wanted = " or ".join(repr(item) for item in allowed)
            raise ConfigError(f"{self.name(name)}={value!r} has no counterpart here; {wanted} has")

    def ignore(self, reason: str, *names: str) -> None:
        """Leaves out those of the fields that are there."""
        for name in names:
            if name in self._left:
                del self._left[name]
                self.ignored[self.name(name)] = reason

    def ignore_all_but(self, names: Collection[str], reason: str) -> None:
        """Leaves out every other field."""
        self.ignore(reason, *(name for name in list(self._left) if name not in names))

    def rest(self) -> dict[str, Any]:
        """All that is left, which is done with then; sequences are tuples in it."""
        left, self._left = self._left, {}
        return tuples(left)

    def done(self, known: Collection[str] = ()) -> None:
        """Refuses what is left.

        Raises:
            ConfigError: A field is left; names it and, of `known`, the nearest.
        """
        if self._left:
            name, value = next(iter(self._left.items()))
            hint = did_you_mean(name, known) if known else "Remove it with an override if it does not matter."
            raise ConfigError(f"{self.name(name)}={value!r} has no counterpart here. {hint}")


def tuples(value: Any) -> Any:
    """The value with tuples for lists, at every depth."""
    if isinstance(value, Mapping):
        return {key: tuples(item) for key, item in value.items()}
    return tuple(tuples(item) for item in value) if isinstance(value, list | tuple) else value
