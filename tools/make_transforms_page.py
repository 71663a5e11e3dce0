"""Writes the tables of docs/transforms.md, of what the transforms say of themselves.

The text around the tables stays as it is: each table stands between `<!-- NAME -->` and `<!-- end -->`.

    python tools/make_transforms_page.py
"""

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

from jaxseg.data.transforms import NOT_NEEDED, TRANSFORMS, MixTransform

PAGE = Path(__file__).parent.parent / "docs" / "transforms.md"


def page(text: str) -> str:
    """The page with its tables anew."""
    for name, table in TABLES.items():
        text, found = re.subn(
            rf"(<!-- {name} -->\n).*?(<!-- end -->)",
            lambda match, t=table: f"{match[1]}{t()}{match[2]}",
            text,
            flags=re.S,
        )
        if found != 1:
            raise SystemExit(f"{PAGE} must have <!-- {name} --> and <!-- end --> once, not {found} times")
    return text


def classes() -> dict[type, list[str]]:
    """Transforms in the order of their table, each with all its names."""
    names: dict[type, list[str]] = {}
    for name, kind in TRANSFORMS.items():
        names.setdefault(kind, []).append(name)
    return names


def overview() -> str:
    """All transforms, a line each."""
    lines = ["| type | what it does | chance |", "| --- | --- | --- |"]
    for kind, names in classes().items():
        own = kind.__name__
        others = ", ".join(f"`{name}`" for name in names if name != own)
        shown = f"[`{own}`](#{own.lower()})" + (f" ({others})" if others else "")
        mixes = issubclass(kind, MixTransform)
        chance = f"yes, with {kind.mixes} more" if mixes else "yes" if kind.random else ""
        lines.append(f"| {shown} | {_summary(kind)} | {chance} |")
    return "\n".join(lines) + "\n"


def fields() -> str:
    """What each transform does, and its fields."""
    parts = []
    for kind in classes():
        text, meanings = _documented(kind)
        part = [f"### {kind.__name__}", "", text, ""]
        own = [field for field in dataclasses.fields(kind) if field.init]
        if own:
            part += ["| field | default | |", "| --- | --- | --- |"]
            part += [f"| `{f.name}` | {_default(f)} | {meanings[f.name]} |" for f in own]
            part.append("")
        parts.append("\n".join(part))
    return "\n" + "\n".join(parts) + "\n"


def not_needed() -> str:
    """What the reference has besides."""
    rows = [f"| `{name}` | {reason} |" for name, reason in NOT_NEEDED.items()]
    return "\n".join(["| type | instead |", "| --- | --- |", *rows]) + "\n"


TABLES = {"overview": overview, "fields": fields, "not needed": not_needed}


def _documented(kind: type) -> tuple[str, dict[str, str]]:
    """The text of a docstring, and the meanings of its attributes."""
    text, _, attributes = inspect.getdoc(kind).partition("\nAttributes:\n")
    meanings: dict[str, str] = {}
    for line in attributes.splitlines():
        if match := re.match(r" {4}(\w+): (.*)", line):
            name, meanings[match[1]] = match[1], match[2]
        elif line.strip():
            meanings[name] += " " + line.strip()
    paragraphs = [" ".join(part.split()) for part in text.strip().split("\n\n")]
    return _ticked("\n\n".join(paragraphs)), {name: _ticked(meaning) for name, meaning in meanings.items()}


def _ticked(text: str) -> str:
    return text.replace("|", "\\|")


def _summary(kind: type) -> str:
    first = _documented(kind)[0].split("\n\n")[0]
    return re.split(r"(?<=[.]) ", first)[0].rstrip(".")


def _default(field: Any) -> str:
    if field.default is dataclasses.MISSING:
        return "must be given"
    return f"`{field.default!r}`"


def main() -> None:
    PAGE.write_text(page(PAGE.read_text()))


if __name__ == "__main__":
    main()
