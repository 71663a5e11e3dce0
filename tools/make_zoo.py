"""Write the table of MMSegmentation's published checkpoints, jaxseg/mmseg/zoo.json.

    python tools/make_zoo.py SOURCE [--configs FOLDER]

SOURCE is a JSON list of what the reference's `metafile.yaml` files say of each checkpoint: name, config, collection,
dataset, metrics, weights (its URL), batch_size, memory_gb, paper. Some of it is wrong and is put right here; a
correction that no longer applies is an error. With the folder of the reference's configs, every name is checked to be
a recipe there.

The table nests what checkpoints share: method, collection and paper; then data set and names of the metrics. A
checkpoint is a line of name, address, metrics, batch size and, where known, memory in GB. An address lies below the
folder of the method; `*` in it stands for the name of the folder before it, and `.pth` is left out.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

BASE = "https://download.openmmlab.com/mmsegmentation"
TABLE = Path(__file__).parents[1] / "jaxseg" / "mmseg" / "zoo.json"

# By the end of the file's name, the recipe that the weights are of. The source repeats a neighbour's name for most of
# these; what the file's own name and the published figures belong to is the recipe given here.
NAMES = {
    # R-101 without pre-training, under the name of the pre-trained R-50.
    "20211102_164147-c6b32c3b": "bisenetv1_r101-d32_4xb4-160k_coco-stuff164k-512x512",
    # A letter too many.
    "20200908_005644-cf9ce186": "deeplabv3plus_r101-d16-mg124_4xb2-40k_cityscapes-512x1024",
    "20200901_100301-c43fcef1": "emanet_r50-d8_4xb2-80k_cityscapes-512x1024",
    # 80k steps under the name of 160k.
    "20200615_014139-d5730af7": "deeplabv3plus_r101-d8_4xb4-80k_ade20k-512x512",
    # R-101 under the name of R-50; the source gives the architecture as R-101-D8, too.
    "20200911_165459-d3c8a29e": "deeplabv3plus_r101-d8_4xb4-40k_pascal-context-480x480",
    "20200911_155322-145d3ee8": "deeplabv3plus_r101-d8_4xb4-80k_pascal-context-480x480",
    # Four images a GPU under the name of two.
    "20210924_214357-72220849": "fastfcn_r50-d32_jpu_aspp_4xb4-80k_cityscapes-512x1024",
    "20210925_061841-77e87b0a": "fastfcn_r50-d32_jpu_psp_4xb4-80k_cityscapes-512x1024",
    "20210926_093217-e1eb6dbb": "fastfcn_r50-d32_jpu_enc_4xb4-80k_cityscapes-512x1024",
    # 160k steps under the name of 80k.
    "20200615_184505-8e913058": "ocrnet_hr18s_4xb4-160k_ade20k-512x512",
    "20200615_200940-d8fcd9d1": "ocrnet_hr18_4xb4-160k_ade20k-512x512",
    # The config kept its old name when the others were renamed.
    "20220501_151122-b47e607d": "fpn_poolformer_s36_8x4_512x512_40k_ade20k",
    # ResNet v1c under the name of v1b.
    "20220316_224840-9092b254": "pspnet_r50-d32_4xb2-80k_cityscapes-512x1024",
    # SVT under the name of PCPVT.
    "20211130_141005-3e2cae61": "twins_svt-l_uperhead_8xb2-160k_ade20k-512x512",
}
HOSTS = {"https://download.oz1z1penmmlab.com/": "https://download.openmmlab.com/"}
# Headings of a page, taken for data sets.
DATASETS = {"# HRNet backbone": "Cityscapes", "# ResNet backbone": "Cityscapes"}
# Of mask2former_swin-t: megabytes in a column of gigabytes.
MEMORY = {3826.0: 3.826}
FIELDS = ("name", "config", "collection", "dataset", "metrics", "weights", "batch_size", "memory_gb", "paper")


def correct(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entries without the mistakes that are known, each with its method: the folder of its config."""
    unused = {*NAMES, *HOSTS, *DATASETS, *MEMORY}
    corrected = []
    for entry in entries:
        if set(entry) != set(FIELDS):
            raise SystemExit(f"{entry.get('name')}: has the fields {sorted(entry)}, not {sorted(FIELDS)}")
        entry = {**entry, "method": Path(entry["config"]).parent.name}
        for wrong, right in HOSTS.items():
            if entry["weights"].startswith(wrong):
                entry["weights"] = entry["weights"].replace(wrong, right)
                unused.discard(wrong)
        for field, table in (("dataset", DATASETS), ("memory_gb", MEMORY)):
            if entry[field] in table:
                unused.discard(entry[field])
                entry[field] = table[entry[field]]
        file = re.search(r"(\d{8}_\d{6}-)?[0-9a-f]{8}(?=\.pth$)", entry["weights"])
        if not file:
            raise SystemExit(f"{entry['name']}: no hash at the end of {entry['weights']}")
        if file[0] in NAMES and entry["name"] != NAMES[file[0]]:
            unused.discard(file[0])
            entry["name"] = NAMES[file[0]]
            # The source has the batch size of the wrong recipe, too.
            gpus, images = re.search(r"_(\d+)xb?(\d+)[_-]", entry["name"]).groups()
            entry["batch_size"] = int(gpus) * int(images)
        corrected.append(entry)
    if unused:
        raise SystemExit(f"these corrections do not apply (any more): {', '.join(map(str, sorted(unused, key=str)))}")
    return corrected


def check(entries: list[dict[str, Any]], configs: Path | None) -> None:
    """Stops at a name or address that is there twice, and at a name that is no recipe."""
    for field in ("name", "weights"):
        values = [entry[field] for entry in entries]
        if twice := sorted({value for value in values if values.count(value) > 1}):
            raise SystemExit(f"there twice: {', '.join(twice)}")
    if configs:
        missing = [entry for entry in entries if not (configs / entry["method"] / f"{entry['name']}.py").is_file()]
        if missing:
            raise SystemExit(f"not in {configs}: {', '.join(entry['name'] for entry in missing)}")


def shorten(url: str) -> tuple[str, str]:
    """The folder of the method, below the base, and the address below that."""
    version, method, *folder, file = url.removeprefix(BASE + "/").removesuffix(".pth").split("/")
    name = "".join(folder)
    return f"{version}/{method}", "/".join([*folder, file.replace(name, "*", 1) if name else file])


def table(entries: list[dict[str, Any]]) -> str:
    """The text of the table: the order of the source, a line for a checkpoint."""
    families: dict[tuple, dict[tuple, list[list]]] = {}
    for entry in entries:
        folder, address = shorten(entry["weights"])
        family = families.setdefault((entry["method"], entry["collection"], entry["paper"], folder), {})
        group = family.setdefault((entry["dataset"], tuple(entry["metrics"])), [])
        metrics = list(entry["metrics"].values())
        memory = [] if entry["memory_gb"] is None else [entry["memory_gb"]]
        group.append([entry["name"], address, metrics, entry["batch_size"], *memory])
    blocks = []
    for (method, collection, paper, folder), groups in families.items():
        head = {"method": method, "collection": collection, "paper": paper, "folder": folder}
        parts = []
        for (dataset, metrics), rows in groups.items():
            lines = ",\n".join(" " + json.dumps(row, separators=(",", ":")) for row in rows)
            part = json.dumps({"dataset": dataset, "metrics": metrics})
            parts.append(f'{part[:-1]}, "checkpoints": [\n{lines}]}}')
        blocks.append(f'{json.dumps(head)[:-1]}, "groups": [\n' + ",\n".join(parts) + "]}")
    return f'{{"base": {json.dumps(BASE)}, "families": [\n' + ",\n".join(blocks) + "\n]}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="JSON list of the published checkpoints")
    parser.add_argument("--configs", type=Path, help="folder of the reference's configs, mmseg/.mim/configs")
    arguments = parser.parse_args()
    entries = correct(json.loads(arguments.source.read_text()))
    check(entries, arguments.configs)
    text = table(entries)
    json.loads(text)
    TABLE.write_text(text)
    print(f"{len(entries)} checkpoints, {len(text)} bytes: {TABLE}", file=sys.stderr)


if __name__ == "__main__":
    main()
