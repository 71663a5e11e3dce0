"""Fields of a config that is translated: each is taken, ignored for a stated reason, or refused."""

from collections.abc import Collection, Mapping
from typing import Any

from jaxseg.errors import ConfigError, did_you_mean

_REQUIRED = object()


class Placed(dict):
    """A mapping that knows its place in the config, where that is not the one it is read at."""

    def __init__(self, values: Mapping[str, Any], where: str):
        super().__init__(values)
        self.where = where


class Fields:
    """A mapping of which every field must be dealt with; `done` refuses what is left.

    Args:
        values: The fields; None for none.
        where: Their place in the config, for messages, unless they know it; "" for its top.
        ignored: Gets the reasons of the ignored fields, by their whole names.

    Raises:
        ConfigError: It is not a mapping of names.
    """

    def __init__(self, values: Any, where: str, ignored: dict[str, str]):
        where = values.where if isinstance(values, Placed) else where
        if values is not None and not (isinstance(values, Mapping) and all(isinstance(name, str) for name in values)):
            raise ConfigError(f"{where} must be a dict of fields, not {values!r}")
        self._left = dict(values or {})
        self.where, self.ignored = where, ignored

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def __bool__(self) -> bool:
        return bool(self._left)

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

    def peek(self, name: str, default: Any = None) -> Any:
        """The value of a field, which remains to be dealt with."""
        return self._left.get(name, default)

    def section(self, name: str, default: Any = _REQUIRED) -> "Fields":
        """A field that is a mapping itself."""
        return Fields(self.take(name, default), self.name(name), self.ignored)

    def sections(self, name: str, default: Any = _REQUIRED) -> list["Fields"]:
        """A field that is a mapping, a sequence of mappings, or None for none."""
        value, where = self.take(name, default), self.name(name)
        if not isinstance(value, list | tuple):
            return [] if value is None else [Fields(value, where, self.ignored)]
        return [Fields(item, f"{where}[{i}]", self.ignored) for i, item in enumerate(value)]

    def text(self, name: str, default: Any = _REQUIRED) -> Any:
        """A field that is a text; None only where that is its default."""
        return self._typed(name, default, "a text", lambda value: isinstance(value, str))

    def flag(self, name: str, default: Any = _REQUIRED) -> Any:
        """A field that is True or False; None only where that is its default."""
        return self._typed(name, default, "True or False", lambda value: isinstance(value, bool))

    def number(self, name: str, default: Any = _REQUIRED) -> Any:
        """A field that is a number; None only where that is its default."""
        return self._typed(name, default, "a number", is_number)

    def whole(self, name: str, default: Any = _REQUIRED, least: int = 1) -> Any:
        """A field that is a whole number, which 8e4 is, too; None only where that is its default."""

        def fits(value: Any) -> bool:
            return is_number(value) and float(value).is_integer() and value >= least

        value = self._typed(name, default, f"a whole number, at least {least}", fits)
        return int(value) if is_number(value) else value

    def items(self, name: str, default: Any = _REQUIRED) -> Any:
        """A field that is a sequence, with tuples for lists in it; None only where that is its default."""
        return tuples(self._typed(name, default, "a list", lambda value: isinstance(value, list | tuple)))

    def pair(self, name: str, default: Any = _REQUIRED) -> Any:
        """A field that is two positive whole numbers, or one for both; None only where that is its default."""

        def fits(value: Any) -> bool:
            numbers = value if isinstance(value, list | tuple) and len(value) == 2 else (value,)
            return all(type(number) is int and number > 0 for number in numbers)

        value = self._typed(name, default, "a positive whole number, or two", fits)
        return (value, value) if isinstance(value, int) else tuples(value)

    def _typed(self, name: str, default: Any, wanted: str, fits: Any) -> Any:
        value = self.take(name, default)
        if value is not default and not (value is None and default is None) and not fits(value):
            raise ConfigError(f"{self.name(name)}={value!r} must be {wanted}")
        return value

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


def is_number(value: Any) -> bool:
    """Whether it is a number, which True is not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def tuples(value: Any) -> Any:
    """The value with tuples for lists, at every depth."""
    if isinstance(value, Mapping):
        return {key: tuples(item) for key, item in value.items()}
    return tuple(tuples(item) for item in value) if isinstance(value, list | tuple) else value
