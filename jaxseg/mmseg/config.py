"""Reads MMSegmentation's configs: Python files with `_base_` files, as mmengine 0.10 reads them, but never run.

The result is the config as it stands, in plain dicts, lists and tuples. Configs of MMSegmentation 0.x and 1.x are read
alike; what their fields mean is not looked at here.
"""

import ast
import json
import os
import re
import uuid
import warnings
from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from jaxseg.errors import ConfigError
from jaxseg.mmseg.config_functions import (
    CONTAINERS,
    MAX_DEPTH,
    SCALARS,
    BaseDict,
    Budget,
    Function,
    Module,
    Refused,
    hint,
)
from jaxseg.mmseg.evaluate_config import BASE, VALUE_ERRORS, Evaluator, base_assignment

DELETE = "_delete_"
DEPRECATION = "_deprecation_"
SCOPE = "_scope_"
RESERVED = ("filename", "text", "pretty_text", "env_variables")  # attributes of mmengine's Config
MAX_BYTES = 300_000  # of one file; those of MMSegmentation 1.2.2 have at most 15 kB
MAX_FILES = 100  # of one config
MAX_BASES = 20  # of bases of bases

# Possessive quantifiers keep the search linear in files made to be slow.
ENVIRONMENT = re.compile(r"""\{\{['"]?\s*+\$(\w++)\s*+:\s*+(\S{0,500}?)\s*+['"]?\}\}""")
PREDEFINED = re.compile(r"\{\{\s*+(fileDirname|fileBasename|fileBasenameNoExtension|fileExtname)\s*+\}\}")
BASE_VARIABLE = re.compile(r"\{\{\s*+_base_\.([\w.]++)\s*+\}\}")


def read_config(
    path: str | PathLike[str],
    overrides: Mapping[str, Any] | None = None,
    *,
    scopes: Mapping[str, str | PathLike[str]] | None = None,
) -> dict[str, Any]:
    """The config in a `.py` or `.json` file, merged with its `_base_` files.

    Args:
        path: of the file.
        overrides: values by dotted key, `{"model.backbone.depth": 18, "train_pipeline.0.type": "LoadImage"}`. A number
            is an index of a list; a dict is merged into the dict that is there, unless it has `_delete_=True`.
            `parse_overrides` makes them from text.
        scopes: folders of configs by package, `{"mmseg": ".../configs"}`, for bases such as `mmseg::pspnet/NAME.py`.

    Returns:
        Plain dicts, lists, tuples and values, equal to `mmengine.Config.fromfile(path).to_dict()`.

    Raises:
        ConfigError: with the file and the line, at a file that is missing or no config, at what a config may not do
            (see `evaluate_config`), at keys that are in two bases, and at values that cannot be merged.
    """
    reader = _Reader({name: Path(folder) for name, folder in (scopes or {}).items()})
    path = os.path.abspath(os.path.expanduser(os.fspath(path)))
    config = reader.read(path)
    for key in RESERVED:
        if key in config:
            raise ConfigError(f"{path}: the name `{key}` is reserved")
    if overrides:
        config = _override(config, overrides)
    return config


def parse_overrides(pairs: Iterable[str]) -> dict[str, Any]:
    """Overrides for `read_config` from `KEY=VALUE` strings, as the reference's `--cfg-options` writes them.

    Values are numbers, `true`, `false`, `None` or text; `a,b` and `[a,b]` are lists, `(a,b)` is a tuple, and they nest.
    Quotes around values, and all spaces, are dropped.

    Raises:
        ConfigError: at a string without `=` and at brackets that do not match.

    >>> parse_overrides(["model.backbone.depth=18", "crop_size=(512,512)"])
    {'model.backbone.depth': 18, 'crop_size': (512, 512)}
    """
    overrides = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise ConfigError(f"the override {pair!r} is not of the form KEY=VALUE")
        try:
            overrides[key] = _parse_value(text)
        except (ValueError, RecursionError):
            raise ConfigError(f"the override {pair!r} has brackets that do not match") from None
    return overrides


def _parse_value(text: str) -> Any:
    text = text.strip("'\"").replace(" ", "")
    parts = _split(text)
    if len(parts) > 1:
        return _parse_parts(parts)
    if text[:1] + text[-1:] == "()":
        return tuple(_parse_parts(_split(text[1:-1])))
    return _parse_parts(_split(text[1:-1])) if text[:1] + text[-1:] == "[]" else _parse_scalar(text)


def _parse_parts(parts: list[str]) -> list[Any]:
    """The values of the parts; nothing after the last comma is no value."""
    return [_parse_value(part) for part in (parts if parts[-1] else parts[:-1])]


def _split(text: str) -> list[str]:
    """The parts between the commas that are in no brackets."""
    parts, depths = [""], {"(": 0, "[": 0}
    for character in text:
        if character == "," and not any(depths.values()):
            parts.append("")
            continue
        parts[-1] += character
        if character in "()[]":
            depths["(" if character in "()" else "["] += 1 if character in "([" else -1
    if any(depths.values()):
        raise ValueError("brackets that do not match")
    return parts


def _parse_scalar(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return {"true": True, "false": False}.get(text.lower(), None if text == "None" else text)


class _Reader:
    """Reads one config: the files it is made of, and what has been paid for them."""

    def __init__(self, scopes: Mapping[str, Path]):
        self.scopes = scopes
        self.budget = Budget()
        self.chain: list[str] = []  # the file that is read, after those whose base it is
        self.files = 0

    def read(self, path: str) -> dict[str, Any]:
        """The config in a file, merged into its bases."""
        text = _read_text(path)
        self.files += 1
        if self.files > MAX_FILES or len(self.chain) >= MAX_BASES:
            raise ConfigError(f"{path}: the config has more than {MAX_FILES} files, or bases {MAX_BASES} deep")
        self.chain.append(path)
        try:
            return self._read_parts(path, text)
        except Refused as error:
            raise ConfigError(f"{path}: {error}") from None
        finally:
            self.chain.pop()

    def _read_parts(self, path: str, text: str) -> dict[str, Any]:
        text, variables = _substitute(text, path)
        if path.endswith(".json"):
            own = _parse_json(text, path)
            base = self._read_bases(own.pop(BASE, []), path, 1)
            lines: dict[str, int] = {}
        else:
            tree = _parse_python(text, path)
            node = base_assignment(tree)
            bases = Evaluator(path, self.budget).evaluate(node.value) if node else []
            base = self._read_bases(bases, path, node.lineno if node else 1)
            evaluator = Evaluator(path, self.budget, base)
            evaluator.run(tree)
            own, lines = evaluator.names, evaluator.lines
            # As in the reference, which drops modules and functions that a config imports.
            own = {key: value for key, value in own.items() if not isinstance(value, (Module, Function))}
            own.pop(BASE, None)
        own = {key: value for key, value in own.items() if not key.startswith("__")}
        # The bases as the config left them: it may have changed them through `_base_`.
        plain_base = _Plain(self.budget, {}).convert(base, BASE)
        plain = _Plain(self.budget, {name: (key, plain_base) for name, key in variables.items()})
        merged = dict(plain_base)
        for key, value in own.items():
            try:
                # One by one, so that an error has a line.
                merged |= merge({key: plain.convert(value, key)}, {key: merged[key]} if key in merged else {})
            except (Refused, ConfigError) as error:
                raise ConfigError(f"{path}:{lines.get(key, 1)}: {error}") from None
        return _without_deprecation(merged, path)

    def _read_bases(self, bases: Any, path: str, line: int) -> BaseDict:
        bases = bases if isinstance(bases, list) else [bases]
        values: dict[str, Any] = {}
        origin: dict[str, str] = {}
        for name in bases:
            if not isinstance(name, str):
                raise ConfigError(f"{path}:{line}: `_base_` is a path or a list of paths, not a {type(name).__name__}")
            base_path, scope = self._find(name, path, line)
            config = self.read(base_path)
            if twice := sorted(values.keys() & config.keys()):
                keys = ", ".join(f"`{key}`" for key in twice)
                raise ConfigError(f"{path}:{line}: {keys} in two bases: {origin[twice[0]]} and {base_path}")
            values |= _scoped(config, scope) if scope is not None else config
            origin |= dict.fromkeys(config, base_path)
        return BaseDict(values)

    def _find(self, name: str, path: str, line: int) -> tuple[str, str | None]:
        """The file of a base, and its scope if it is in another package's folder."""
        scope, separator, inner = name.partition("::")
        if separator and scope not in self.scopes:
            raise ConfigError(
                f"{path}:{line}: the base {name!r} is in the configs of {scope!r}, whose folder is not known; "
                f"give it as scopes={{{scope!r}: FOLDER}}"
            )
        folder = str(self.scopes[scope]) if separator else os.path.dirname(path)
        base = os.path.abspath(os.path.join(folder, inner if separator else name))
        if not os.path.isfile(base):
            raise ConfigError(f"{path}:{line}: the base {name!r} is not there. {_files_near(base)}")
        if os.path.realpath(base) in map(os.path.realpath, self.chain):
            raise ConfigError(f"{path}:{line}: bases in a circle: {' -> '.join([*self.chain, base])}")
        return base, scope if separator else None


def _files_near(path: str) -> str:
    """Which configs are in the folder of a file that is not there."""
    folder, name = os.path.split(path)
    if not os.path.isdir(folder) or not os.access(folder, os.R_OK):
        return f"There is no folder {folder} that can be read."
    return hint(name, [file for file in os.listdir(folder) if file.endswith((".py", ".json"))])


def _read_text(path: str) -> str:
    if not os.path.isfile(path):
        raise ConfigError(f"{path}: there is no such file. {_files_near(path)}")
    if not path.endswith((".py", ".json")):
        raise ConfigError(f"{path}: only .py and .json configs can be read")
    if os.path.getsize(path) > MAX_BYTES:
        raise ConfigError(f"{path}: the file has more than {MAX_BYTES:,} bytes")
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error


def _parse_python(text: str, path: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes in strings
            return ast.parse(text)
    except SyntaxError as error:
        raise ConfigError(f"{path}:{error.lineno or 1}: {error.msg}") from None
    except (ValueError, MemoryError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be parsed: {str(error) or 'it is nested too deep'}") from None


def _parse_json(text: str, path: str) -> dict[str, Any]:
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}:{error.lineno}: {error.msg}") from None
    except VALUE_ERRORS as error:
        raise ConfigError(f"{path}: cannot be parsed: {error}") from None
    if not isinstance(config, dict):
        raise ConfigError(f"{path}: a config is an object, not a {type(config).__name__}")
    return config


def _substitute(text: str, path: str) -> tuple[str, dict[str, str]]:
    """The text with `{{ ... }}` replaced, and the keys of base variables by the names that stand for them."""
    stem, extension = os.path.splitext(os.path.basename(path))
    predefined = {
        "fileDirname": os.path.dirname(path).replace("\\", "/"),
        "fileBasename": os.path.basename(path),
        "fileBasenameNoExtension": stem,
        "fileExtname": extension,
    }
    variables: dict[str, str] = {}

    def environment(match: re.Match) -> str:
        value = os.environ.get(match[1], match[2])
        if not value:
            raise ConfigError(
                f"{path}:{match.string.count(chr(10), 0, match.start()) + 1}: the environment variable {match[1]} is "
                "not set, and the config has no default for it"
            )
        return value

    def base_variable(match: re.Match) -> str:
        name = f"_{match[1]}_{uuid.uuid4().hex}"
        variables[name] = match[1]
        return f'"{name}"'

    text = _replace(PREDEFINED, lambda match: predefined[match[1]], text, path)
    text = _replace(ENVIRONMENT, environment, text, path)
    return _replace(BASE_VARIABLE, base_variable, text, path), variables


def _replace(pattern: re.Pattern, replacement: Callable[[re.Match], str], text: str, path: str) -> str:
    """`pattern.sub` for a text that is not to grow without bounds."""
    size = 0

    def replace(match: re.Match) -> str:
        nonlocal size
        value = replacement(match)
        size += len(value)
        if size > MAX_BYTES:
            raise ConfigError(f"{path}: the values in `{{{{ }}}}` have more than {MAX_BYTES:,} characters")
        return value

    return pattern.sub(replace, text)


class _Plain:
    """Copies values into plain containers, with `{{ _base_.key }}` replaced by what it stands for.

    Args:
        budget: pays for the copies.
        variables: the key, and the base config to look it up in, by the name that stands for it.
    """

    def __init__(self, budget: Budget, variables: Mapping[str, tuple[str, Any]]):
        self.budget = budget
        self.variables = variables
        self.names = re.compile("|".join(map(re.escape, variables)) or "(?!)")

    def convert(self, value: Any, where: str, depth: int = 0) -> Any:
        """A copy of `value`; `where` is its key, for messages."""
        self.budget.spend()
        if depth > MAX_DEPTH:
            raise Refused(f"lists and dicts are nested more than {MAX_DEPTH} deep")
        if isinstance(value, str):
            return self._text(value, where, depth)
        if isinstance(value, dict):
            for key in value:
                self._check_text(key, where)
            return {key: self.convert(item, f"{where}.{key}", depth + 1) for key, item in value.items()}
        if type(value) in (list, tuple):
            return type(value)(self.convert(item, f"{where}.{index}", depth + 1) for index, item in enumerate(value))
        if isinstance(value, CONTAINERS):
            self.budget.measure(value)
            for item in value:
                self._check_text(item, where)
            return type(value)(value)
        if isinstance(value, range):
            self.budget.spend(len(value))
        elif not isinstance(value, SCALARS):
            raise Refused(f"`{where}` is a {type(value).__name__}, which a config cannot hold; make it a list")
        return value

    def _text(self, value: str, where: str, depth: int) -> Any:
        if value not in self.variables:
            self._check_text(value, where)
            return value
        key, found = self.variables[value]
        for part in key.split("."):
            if not isinstance(found, dict) or part not in found:
                allowed = found if isinstance(found, dict) else ()
                raise Refused(f"`{where}`: there is no `_base_.{key}` in the bases. {hint(part, allowed)}")
            found = found[part]
        return _Plain(self.budget, {}).convert(found, where, depth)

    def _check_text(self, text: Any, where: str) -> None:
        if isinstance(text, str) and (match := self.names.search(text)):
            name = self.variables[match[0]][0]
            raise Refused(f"`{where}`: {{{{ _base_.{name} }}}} is a whole value, no part of a text and no key")


def merge(new: Mapping[str, Any], old: Any, allow_list_keys: bool = False, where: str = "") -> Any:
    """`new` merged into a copy of `old`: dicts key by key, anything else replaces what is there.

    A dict with `_delete_=True` replaces the old one too. A dict that is merged into no dict stays as it is, `_delete_`
    included, as in the reference.

    Args:
        new: what to merge; its `_delete_` keys are used up.
        old: a dict, or with `allow_list_keys` a list.
        allow_list_keys: whether the keys of a dict that is merged into a list are indices.
        where: the key of both, for messages.

    Raises:
        ConfigError: where a dict meets a value that is not one, or an index is not in the list.
    """
    result = old.copy()
    for key, value in new.items():
        place = f"{where}.{key}" if where else str(key)
        if isinstance(result, list):
            if not str(key).isdecimal() or int(key) >= len(result):
                raise ConfigError(f"`{where}` is a list of {len(result)} items and has no item `{key}`")
            key = int(key)
        elif key not in result:
            result[key] = value
            continue
        if isinstance(value, dict) and not value.pop(DELETE, False):
            if not isinstance(result[key], (dict, list) if allow_list_keys else dict):
                raise ConfigError(
                    f"`{place}` is a dict here and a {type(result[key]).__name__} in the base; a dict with "
                    f"`{DELETE}=True` replaces what the base has"
                )
            value = merge(value, result[key], allow_list_keys, place)
        result[key] = value
    return result


def _override(config: dict[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """`config` with overrides by dotted key."""
    tree: dict[str, Any] = {}
    plain = _Plain(Budget(), {})
    for full_key, value in overrides.items():
        *parents, last = full_key.split(".")
        node = tree
        for part in parents:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise ConfigError(f"the override `{full_key}` is inside of another one")
        try:
            node[last] = plain.convert(value, full_key)
        except Refused as error:
            raise ConfigError(f"the override `{full_key}`: {error}") from None
    return merge(tree, config, allow_list_keys=True)


def _scoped(value: Any, scope: str) -> Any:
    """`value` with `_scope_` in the outermost dicts that have a `type`."""
    if isinstance(value, dict):
        if "type" in value:
            return value if value.get(SCOPE) is not None else {**value, SCOPE: scope}
        return {key: _scoped(item, scope) for key, item in value.items()}
    return type(value)(_scoped(item, scope) for item in value) if type(value) in (list, tuple) else value


def _without_deprecation(config: dict[str, Any], path: str) -> dict[str, Any]:
    """`config` without its note that it is deprecated, which becomes a warning."""
    if note := config.pop(DEPRECATION, None):
        hints = {"expected": "use", "reference": "see"} if isinstance(note, dict) else {}
        parts = [f"{verb} {note[key]}" for key, verb in hints.items() if key in note]
        warnings.warn(f"{path} is deprecated{': ' * bool(parts)}{', '.join(parts)}", FutureWarning, stacklevel=2)
    return config
