"""Write down what the reference's recipes say, for the tests of ours.

    python tools/make_recipe_fixture.py CONFIGS [METHOD ...]

CONFIGS is `mmseg/.mim/configs` of the package mmsegmentation 1.2.2. Of every folder there that has a file of its name
in our configs/ (or of those named), all recipes are translated and written to tests/fixtures/recipes/METHOD.json:
"most" has the value that most recipes have, by field; "recipes" what the others have instead; "with" what comes along
with one of these values without exception, and is not repeated.
"""

import argparse
import collections
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxseg.config import recipe_folder, to_json
from jaxseg.mmseg import load_config

FIXTURES = Path(__file__).parent.parent / "tests" / "fixtures" / "recipes"
ABSENT = "(absent)"  # the value of a field that a recipe does not have


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Fields of a config read from JSON, by their whole names; lists of numbers and the like are one."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, f"{name}.{key}" if name else key)
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for i, item in enumerate(value):
            yield from leaves(item, f"{name}[{i}]")
    else:
        yield name, value


def encode(recipes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Fields of recipes by name, as the content of the fixture; `decode` gets them back."""
    fields = sorted({field for recipe in recipes.values() for field in recipe})
    # Values as JSON, which tells 1 from 1.0 and true.
    texts = {
        field: {name: json.dumps(recipe.get(field, ABSENT)) for name, recipe in recipes.items()} for field in fields
    }
    most = {field: collections.Counter(texts[field].values()).most_common(1)[0][0] for field in fields}
    places = collections.defaultdict(set)
    for field in fields:
        for name, text in texts[field].items():
            if text != most[field]:
                places[field, text].add(name)
    groups = collections.defaultdict(list)
    for pair, names in places.items():
        groups[frozenset(names)].append(pair)
    along: dict[str, dict[str, Any]] = {}
    others: dict[str, dict[str, Any]] = {name: {} for name in recipes}
    for names, ((field, text), *more) in groups.items():
        for name in names:
            others[name][field] = json.loads(text)
        if more:
            along.setdefault(field, {})[text] = {field: json.loads(text) for field, text in more}
    return {"most": {field: json.loads(text) for field, text in most.items()}, "with": along, "recipes": others}


def decode(content: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Fields of every recipe, by name, of the content of the fixture."""
    recipes = {}
    for name, others in content["recipes"].items():
        fields = content["most"] | others
        for field, value in others.items():
            fields |= content["with"].get(field, {}).get(json.dumps(value), {})
        recipes[name] = {field: value for field, value in fields.items() if value != ABSENT}
    return recipes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", type=Path)
    parser.add_argument("methods", nargs="*", help="default: all that we have")
    args = parser.parse_args()
    there = sorted(path.stem for path in recipe_folder().glob("*.py") if (args.configs / path.stem).is_dir())
    if unknown := set(args.methods) - set(there):
        parser.error(f"not among {', '.join(there)}: {', '.join(sorted(unknown))}")
    for method in args.methods or there:
        recipes = {
            f"{method}.py:{path.stem}": dict(leaves(json.loads(to_json(load_config(path)))))
            for path in sorted((args.configs / method).glob("*.py"))
        }
        for recipe in recipes.values():
            del recipe["name"]
        content = encode(recipes)
        assert decode(content) == recipes
        (FIXTURES / f"{method}.json").write_text(_text(content))
        print(f"{len(recipes)} recipes of {method} written")


def _text(content: Mapping[str, Any], depth: int = 2) -> str:
    """JSON with a line for each entry of the uppermost levels."""
    if not depth or not isinstance(content, Mapping):
        return json.dumps(content)
    return "{\n" + ",\n".join(f"{json.dumps(key)}: {_text(value, depth - 1)}" for key, value in content.items()) + "\n}"


if __name__ == "__main__":
    main()
