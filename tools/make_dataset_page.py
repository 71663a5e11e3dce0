"""Write the tables of docs/datasets.md: what `jaxseg.data.datasets.DATASETS` says.

python tools/make_dataset_page.py
"""

import re
from pathlib import Path

from jaxseg.data import converters
from jaxseg.data.datasets import DATASETS, REFERENCE_NAMES, DatasetInfo

PAGE = Path(__file__).parent.parent / "docs" / "datasets.md"
# What `tools/convert_dataset.py` calls the data sets that it lays out.
CONVERTERS = {converter.dataset: name for name, converter in converters.CONVERTERS.items()}
PARTS = ("train", "val", "test")
NOT_FOLDERS = {"demo": "drawn, no files", "records": "array_record files", "volumes": "dataset.json and its files"}


def sets() -> str:
    """The table of all data sets: what labels mean."""
    types: dict[str, list[str]] = {}
    for kind, rows in REFERENCE_NAMES.items():
        for row in rows:
            types.setdefault(row, []).append(f"`{kind}`")
    lines = ["| `data.dataset` | classes | stored numbers | converter | MMSegmentation's `type` |", "| --- " * 5 + "|"]
    for key, info in sorted(DATASETS.items(), key=lambda pair: pair[0].lower()):
        converter = f"`{CONVERTERS[key]}`" if key in CONVERTERS else ""
        lines.append(
            f"| `{key}` | {_classes(info)} | {_numbers(info)} | {converter} | {', '.join(types.get(key, ()))} |"
        )
    return "\n".join(lines)


def _classes(info: DatasetInfo) -> str:
    if info.depth:
        return f"{len(info.classes)} kinds of scenes"
    yours = {"records": "the file's, or yours", "volumes": "dataset.json's"}
    return str(len(info.classes)) if info.classes else yours.get(info.kind, "yours")


def _numbers(info: DatasetInfo) -> str:
    if info.depth:
        return "millimetres, 16 bits"
    count = len(info.classes)
    first, last = (1, count) if info.reduce_zero_label else (0, count - 1)
    said = [f"{first} to {last}" if count else "from 0"]
    if info.reduce_zero_label:
        said.append("0 ignored")
    said += [f"{raw} ignored" for raw, new in info.label_map.items() if new == info.ignore_index]
    if info.ignore_index not in info.label_map:
        said.append(f"{info.ignore_index} ignored")
    return ", ".join(said)


def layouts() -> str:
    """The table of folders."""
    lines = ["| `data.dataset` | images | masks | `{split}` for train, val, test |", "| --- " * 4 + "|"]
    for key, info in sorted(DATASETS.items(), key=lambda pair: pair[0].lower()):
        if info.kind != "folder":
            lines.append(f"| `{key}` | {NOT_FOLDERS[info.kind]} | | {_splits(info)} |")
            continue
        images = _path(info.image_dir, info.image_suffix)
        if info.image_dir2:
            images += f" and {_path(info.image_dir2, info.image_suffix2 or info.image_suffix)}"
        if info.split_file:
            images += f", named in `{info.split_file}`"
        masks = _path(info.label_dir, info.label_suffix)
        masks += "".join(
            f"; {_path(folder, info.label_suffix)} for {split}" for split, folder in info.label_dirs.items()
        )
        lines.append(f"| `{key}` | {images} | {masks} | {_splits(info)} |")
    return "\n".join(lines)


def _path(folder: str, suffixes: tuple[str, ...]) -> str:
    return " or ".join(f"`{folder}/*{suffix}`" for suffix in (suffixes if len(suffixes) <= 2 else ("",)))


def _splits(info: DatasetInfo) -> str:
    own = [info.splits.get(part, part) for part in PARTS]
    return ", ".join(name if isinstance(name, str) else " + ".join(name) for name in own)


TABLES = {"sets": sets, "layouts": layouts}


def page(text: str) -> str:
    """The page with its tables as they are now."""
    for name, make in TABLES.items():
        begin, end = f"<!-- {name}: tools/make_dataset_page.py -->\n", f"<!-- end of {name} -->\n"
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        assert len(pattern.findall(text)) == 1, f"the page must have a place for {name}"
        text = pattern.sub(lambda _, make=make, begin=begin, end=end: f"{begin}\n{make()}\n\n{end}", text)
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"{PAGE} written")
