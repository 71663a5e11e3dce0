"""What a config may call and compute, and within which bounds.

A config comes from a stranger. It gets the functions and methods of the tables below and no others, none of them
reaches the interpreter, and all work is paid for from one `Budget`. Steps are spent before the work is done, so that
a huge range, repetition or power is refused rather than computed.
"""

import copy
import math
import operator
import os.path
import re
import string
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from jaxseg.errors import did_you_mean

MAX_STEPS = 200_000  # the longest config of MMSegmentation 1.2.2 takes 6,000
MAX_TEXT = 100_000  # characters of one string
MAX_BITS = 1024  # of one integer
MAX_DEPTH = 64  # of containers in containers

SCALARS = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis))
CONTAINERS = (dict, list, tuple, set, frozenset)


class Refused(Exception):
    """Something that a config may not do. The evaluator adds the file and the line."""


def hint(name: Any, allowed: Iterable[Any]) -> str:
    """`did_you_mean` for names of any length and number, among which the nearest takes long to find."""
    return did_you_mean(str(name)[:100], (str(candidate)[:100] for candidate in islice(allowed, 1000)))


class BaseDict(dict):
    """A dict of a base config, as `_base_` shows it: its keys are attributes too, and `update` merges nested dicts."""

    def __init__(self, items: Mapping[Any, Any] | None = None):
        super().__init__()
        for key, value in (items or {}).items():
            self[key] = value

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, to_base(value))

    def __or__(self, other: Any) -> "BaseDict":
        return merged(self, other)

    def __ror__(self, other: Any) -> "BaseDict":
        return merged(other, self)

    def __ior__(self, other: Any) -> "BaseDict":
        self.update(other)
        return self

    def copy(self) -> "BaseDict":
        """A copy whose values are the same objects."""
        return BaseDict(self)

    def pop(self, key: Any, default: Any = None) -> Any:
        """Removes a key and returns its value; a key that is not there is no error."""
        return super().pop(key, default)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """The value of the key, which is first set to `default` where it is not there."""
        if key not in self:
            self[key] = default
            return default
        return self[key]

    def update(self, other: Mapping[Any, Any] | Iterable[Any] = (), /, **fields: Any) -> None:
        """Sets keys; where both the old and the new value are dicts, the old one is updated."""
        for key, value in {**dict(other), **fields}.items():
            if isinstance(self.get(key), BaseDict) and isinstance(value, dict):
                self[key].update(value)
            else:
                self[key] = value


def merged(first: Mapping[Any, Any], second: Mapping[Any, Any]) -> BaseDict:
    """`second` merged into a copy of `first`."""
    result = BaseDict(first)
    result.update(second)
    return result


def to_base(value: Any) -> Any:
    """`value` with `BaseDict`s for dicts; lists and tuples are copied, a `BaseDict` stays the same object."""
    if type(value) is dict:
        return BaseDict(value)
    if type(value) in (list, tuple):
        return type(value)(to_base(item) for item in value)
    return value


class Budget:
    """The work that reading one config, with all its bases, may take."""

    def __init__(self, steps: int = MAX_STEPS):
        self.steps = steps

    def spend(self, steps: int = 1) -> None:
        """Takes `steps`, or raises `Refused` where there are not as many left."""
        self.steps -= steps
        if self.steps < 0:
            raise Refused(f"takes too much work: a config may take {MAX_STEPS:,} steps")

    def created(self, value: Any) -> Any:
        """Pays for a new value and returns it."""
        if isinstance(value, (str, bytes)):
            if len(value) > MAX_TEXT:
                raise Refused(f"a string of {len(value):,} characters; at most {MAX_TEXT:,} are allowed")
            self.spend(len(value) // 10)
        elif isinstance(value, int):
            if value.bit_length() > MAX_BITS:
                raise Refused(f"an integer of {value.bit_length():,} bits; at most {MAX_BITS:,} are allowed")
        elif isinstance(value, CONTAINERS):
            self.spend(len(value))
        return value

    def items(self, iterable: Any) -> list[Any]:
        """All items of an iterable."""
        # Unlike len(), this also knows the length of an iterator over a list.
        self.spend(operator.length_hint(iterable))
        return list(iterable)

    def measure(self, *values: Any) -> int:
        """Pays for all that is in `values`, as a tree: what is there twice counts twice. Returns the price.

        Comparing, hashing, printing and copying walk the tree. Lists that hold one list many times, or themselves,
        make it endless.
        """
        before = self.steps
        pending = [(value, 0) for value in values]
        while pending:
            value, depth = pending.pop()
            if isinstance(value, (str, bytes)):
                self.spend(len(value) // 10)
            elif isinstance(value, CONTAINERS):
                if depth >= MAX_DEPTH:
                    raise Refused(f"lists and dicts are nested more than {MAX_DEPTH} deep")
                children = (*value.keys(), *value.values()) if isinstance(value, dict) else value
                self.spend(len(children))
                pending += [(child, depth + 1) for child in children]
        return before - self.steps


@dataclass(frozen=True)
class Function:
    """What a config may call. The first argument is the budget; that of a method's call is followed by the object."""

    call: Callable[..., Any]


@dataclass(frozen=True)
class Module:
    """What a config may import."""

    name: str
    members: Mapping[str, Any]


def _pays(call: Callable[..., Any]) -> Function:
    """A function whose work is in proportion to all that is in its arguments."""

    def pay_and_call(budget: Budget, /, *args: Any, **kwargs: Any) -> Any:
        budget.measure(*args, *kwargs.values())
        return call(*args, **kwargs)

    return Function(pay_and_call)


def _free(call: Callable[..., Any]) -> Function:
    """A function that takes one step whatever its arguments."""
    return Function(lambda budget, /, *args, **kwargs: call(*args, **kwargs))


def _of_items(call: Callable[..., Any]) -> Function:
    """A function of one iterable, which it goes through without looking into the items."""
    return Function(lambda budget, /, *args: call(*(budget.items(arg) for arg in args)))


def _enumerate(budget: Budget, items: Any, start: int = 0) -> Iterable[tuple[int, Any]]:
    return enumerate(budget.items(items), start)


def _reversed(budget: Budget, items: Any) -> Iterable[Any]:
    return reversed(budget.items(items))


def _zip(budget: Budget, *iterables: Any, strict: bool = False) -> Iterable[tuple[Any, ...]]:
    return iter(list(zip(*(budget.items(iterable) for iterable in iterables), strict=strict)))


def _pairs(budget: Budget, value: Any) -> dict[Any, Any]:
    """The dict of a mapping or of pairs."""
    if isinstance(value, dict):
        budget.spend(len(value))
        return dict(value)
    pairs = [tuple(budget.items(pair)) for pair in budget.items(value)]
    budget.measure(*pairs)
    return dict(pairs)


def _dict(budget: Budget, /, *args: Any, **kwargs: Any) -> dict[str, Any]:
    return dict(*(_pairs(budget, arg) for arg in args), **kwargs)


def _set(kind: type) -> Function:
    def call(budget: Budget, *args: Any) -> Any:
        items = [budget.items(arg) for arg in args]
        budget.measure(*items)
        return kind(*items)

    return Function(call)


def _sum(budget: Budget, items: Any, start: Any = 0) -> Any:
    total = start
    for item in budget.items(items):
        total = budget.created(total + item)
    return total


def _compared(call: Callable[..., Any]) -> Function:
    """A function of one iterable, or of several arguments, that compares items."""

    def measure_and_call(budget: Budget, /, *args: Any, **kwargs: Any) -> Any:
        args = tuple(budget.items(arg) for arg in args) if len(args) == 1 else args
        budget.measure(*args)
        return call(*args, **kwargs)

    return Function(measure_and_call)


def _round(budget: Budget, number: Any, digits: int | None = None) -> Any:
    if digits is not None and abs(digits) > 1000:
        raise Refused(f"round() to {digits} digits")
    return round(number, digits)


FUNCTIONS: dict[str, Function] = {
    "abs": _free(abs),
    "all": _of_items(all),
    "any": _of_items(any),
    "bool": _free(bool),
    "dict": Function(_dict),
    "enumerate": Function(_enumerate),
    "float": _free(float),
    "frozenset": _set(frozenset),
    "int": _free(int),
    "len": _free(len),
    "list": _of_items(list),
    "max": _compared(max),
    "min": _compared(min),
    "range": _free(range),
    "reversed": Function(_reversed),
    "round": Function(_round),
    "set": _set(set),
    "sorted": _compared(sorted),
    "str": _pays(str),
    "sum": Function(_sum),
    "tuple": _of_items(tuple),
    "zip": Function(_zip),
}

_PATH = Module("os.path", {name: _pays(getattr(os.path, name)) for name in ("basename", "dirname", "join", "splitext")})
MODULES: dict[str, Module] = {
    "copy": Module("copy", {"copy": _pays(copy.copy), "deepcopy": _pays(copy.deepcopy)}),
    "math": Module(
        "math",
        {name: _free(getattr(math, name)) for name in ("ceil", "exp", "floor", "log", "log2", "log10", "pow", "sqrt")}
        | {name: getattr(math, name) for name in ("e", "inf", "nan", "pi")},
    ),
    "os": Module("os", {"path": _PATH}),
    "os.path": _PATH,
}


def _update(budget: Budget, target: dict, /, *args: Any, **kwargs: Any) -> None:
    others = [_pairs(budget, arg) for arg in args]
    budget.measure(*others, *kwargs.values())
    target.update(*others, **kwargs)


def _insertion(call: Callable[..., Any]) -> Function:
    """A method that looks at its arguments, but not at what is in the object."""

    def measure_and_call(budget: Budget, target: Any, /, *args: Any) -> Any:
        budget.measure(*args)
        return call(target, *args)

    return Function(measure_and_call)


def _extend(budget: Budget, target: list, items: Any) -> None:
    target.extend(budget.items(items))


def _join(budget: Budget, separator: str, items: Any) -> str:
    items = budget.items(items)
    _check_length(sum(map(len, items)) + len(separator) * len(items))
    return separator.join(items)


def _replace(budget: Budget, text: str, old: str, new: str, count: int = -1) -> str:
    _check_length((len(text) + 1) * (len(new) + 1) if len(new) > len(old) else len(text))
    return text.replace(old, new, count)


def _format(budget: Budget, template: str, /, *args: Any, **kwargs: Any) -> str:
    """`str.format` of values by place or name; attributes and items of the values are out of reach."""
    parts, count = [], 0
    for literal, field, spec, conversion in string.Formatter().parse(template):
        parts.append(literal)
        if field is not None:
            if "{" in spec or not re.fullmatch(r"\w*", field):
                raise Refused(f"the format field {{{field}}}; fields are names or numbers")
            key = field or str(count)
            count += not field
            value = args[int(key)] if key.isdecimal() else kwargs[key]
            parts.append(format_value(budget, value, conversion, spec))
    return _join(budget, "", parts)


def _text(*names: str) -> dict[str, Function]:
    return {name: _pays(getattr(str, name)) for name in names}


_DICT = {name: _free(getattr(dict, name)) for name in ("clear", "copy", "items", "keys", "values")} | {
    name: _insertion(getattr(dict, name)) for name in ("get", "pop", "setdefault")
}
METHODS: dict[type, dict[str, Function]] = {
    dict: _DICT | {"update": Function(_update)},
    BaseDict: _DICT
    | {name: _insertion(getattr(BaseDict, name)) for name in ("pop", "setdefault")}
    | {"copy": _free(BaseDict.copy), "update": Function(_update)},
    list: {name: _free(getattr(list, name)) for name in ("append", "clear", "copy", "insert", "pop", "reverse")}
    | {name: _pays(getattr(list, name)) for name in ("count", "index", "remove", "sort")}
    | {"extend": Function(_extend)},
    tuple: {name: _pays(getattr(tuple, name)) for name in ("count", "index")},
    set: {name: _insertion(getattr(set, name)) for name in ("add", "discard")},
    str: _text("capitalize", "count", "endswith", "find", "lower", "lstrip", "partition", "rpartition", "rsplit")
    | _text("rstrip", "split", "startswith", "strip", "title", "upper")
    | {"format": Function(_format), "join": Function(_join), "replace": Function(_replace)},
}


def format_value(budget: Budget, value: Any, conversion: str | None, spec: str) -> str:
    """`value` as a replacement field writes it: `{value!conversion:spec}`."""
    if re.search(r"\d{4}", spec):
        raise Refused(f"the format {spec!r}; widths have at most three digits")
    budget.measure(value)
    convert = {None: lambda value: value, "s": str, "r": repr, "a": ascii}[conversion]
    return format(convert(value), spec)


def check_operands(operation: type, left: Any, right: Any, budget: Budget) -> None:
    """Raises `Refused` for what would take long or much memory: `operation` is a class of `ast.operator`."""
    name = operation.__name__
    if name == "Mult":
        for value, times in ((left, right), (right, left)):
            if isinstance(value, (str, bytes)) and isinstance(times, int):
                _check_length(len(value) * times)
            elif isinstance(value, (list, tuple)) and isinstance(times, int):
                budget.spend(max(0, len(value) * times))
    elif name in ("Pow", "LShift") and isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() * right if name == "Pow" else left.bit_length() + right
        if bits > MAX_BITS:
            raise Refused(f"an integer of {bits:,} bits; at most {MAX_BITS:,} are allowed")
    elif name == "Mod" and isinstance(left, (str, bytes)):
        _check_template(left)
        budget.spend(left.count("%") * budget.measure(right))
    elif name == "BitOr":
        budget.measure(left, right)


def _check_template(template: str | bytes) -> None:
    """Only plain conversions with short widths: `%-100000000d` and `%*d` ask for any amount of memory."""
    known = r"%(\(\w+\))?[#0 +-]*\d{0,3}(\.\d{0,3})?[acdeEfFgGiorsuxX%]"
    if isinstance(template, bytes) or "%" in re.sub(known, "", template):
        raise Refused(f"the format {template[:40]!r}")


def _check_length(length: int) -> None:
    if length > MAX_TEXT:
        raise Refused(f"a string of {length:,} characters; at most {MAX_TEXT:,} are allowed")
