r"""Compare how jaxseg and mmengine read MMSegmentation's configs: types, values and the order of keys.

In an environment that holds mmengine 0.10.7 (and need not hold jaxseg), write down what it reads::

    python tools/compare_configs.py dump CONFIGS figures.json

In jaxseg's, compare; `--hashes` also writes the digests that the tests compare with::

    python tools/compare_configs.py compare CONFIGS figures.json [--hashes tests/mmseg/fixtures/digests.json]

CONFIGS is a folder of configs, such as `mmseg/.mim/configs` of the package mmsegmentation 1.2.2. Files in folders
named `_base_` are parts of configs, and are left out.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any


def encode(value: Any) -> Any:
    """`value` as JSON that keeps types, so that a tuple differs from a list and 1 from 1.0, and the order of keys."""
    if isinstance(value, dict):
        return {"dict": [[encode(key), encode(item)] for key, item in value.items()]}
    if type(value) in (list, tuple):
        return {type(value).__name__: [encode(item) for item in value]}
    if isinstance(value, (set, frozenset)):
        return {type(value).__name__: sorted((encode(item) for item in value), key=json.dumps)}
    if value is None or type(value) in (bool, int, str):
        return value
    return {type(value).__name__: repr(value)}


def digest(value: Any) -> str:
    """A short hash of `encode(value)`."""
    return hashlib.sha256(json.dumps(encode(value)).encode()).hexdigest()[:12]


def config_names(folder: Path) -> list[str]:
    """Paths of all configs below `folder`, relative to it."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix in (".py", ".json") and "_base_" not in path.parts
    )


def dump(folder: Path, out: Path) -> None:
    from mmengine.config import Config

    read = {}
    for name in config_names(folder):
        config = Config.fromfile(folder / name, import_custom_modules=False)
        read[name] = encode(config.to_dict())
    out.write_text(json.dumps(read))
    print(f"{len(read)} configs written to {out}")


def compare(folder: Path, figures: Path, hashes: Path | None) -> int:
    from jaxseg.errors import ConfigError
    from jaxseg.mmseg.config import read_config

    expected = json.loads(figures.read_text())
    digests, different = {}, []
    for name in expected:
        try:
            config = read_config(folder / name)
        except ConfigError as error:
            different.append(f"{name}: {error}")
            continue
        digests[name] = digest(config)
        if encode(config) != expected[name]:
            different.append(f"{name}: {first_difference(expected[name], encode(config))}")
    print("\n".join(different))
    print(f"{len(expected) - len(different)} of {len(expected)} configs are equal")
    if hashes is not None and not different:
        hashes.write_text(json.dumps(digests, indent=0) + "\n")
    return int(bool(different))


def first_difference(expected: Any, got: Any, where: str = "") -> str:
    """Where two encoded values differ first."""
    if isinstance(expected, dict) and isinstance(got, dict) and expected.keys() == got.keys():
        pairs = [(f"{where}/{key}", expected[key], got[key]) for key in expected]
    elif isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
        pairs = [(f"{where}/{index}", *pair) for index, pair in enumerate(zip(expected, got, strict=True))]
    else:
        return f"{where}: expected {json.dumps(expected)[:200]}, got {json.dumps(got)[:200]}"
    return next((first_difference(a, b, place) for place, a, b in pairs if a != b), "")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["dump", "compare"])
    parser.add_argument("configs", type=Path)
    parser.add_argument("figures", type=Path)
    parser.add_argument("--hashes", type=Path)
    args = parser.parse_args()
    if args.action == "dump":
        dump(args.configs, args.figures)
        return 0
    return compare(args.configs, args.figures, args.hashes)


if __name__ == "__main__":
    sys.exit(main())
