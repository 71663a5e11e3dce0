"""Small archives of made-up pictures, laid out as those of the data sets that `tools/convert_dataset.py` knows."""

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
import scipy.io
from PIL import Image

from jaxseg.data.nifti import write_nifti

Members = dict[str, bytes]


def _zip(path: Path, members: Mapping[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def _tar(path: Path, members: Mapping[str, bytes], mode: str = "w") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def _rng(name: str) -> np.random.Generator:
    return np.random.default_rng(list(name.encode()))


def _encoded(picture: np.ndarray, kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind)
    return file.getvalue()


def _noise(name: str, kind: str, height: int = 6, width: int = 9) -> bytes:
    """A picture of random colours, of a kind that keeps them."""
    return _encoded(_rng(name).integers(0, 256, (height, width, 3), np.uint8), kind)


def _jpeg(name: str, height: int = 6, width: int = 9) -> bytes:
    """A photo of one grey, which every decoder gives alike."""
    return _encoded(np.full((height, width, 3), _rng(name).integers(0, 256), np.uint8), "JPEG")


def _binary(name: str, kind: str, height: int = 6, width: int = 9) -> bytes:
    """A mask of 0 and 255 with some greys between, grey-scale."""
    return _encoded(_rng(name).choice(np.array([0, 255, 127, 128], np.uint8), (height, width)), kind)


def _gif(name: str, height: int = 6, width: int = 9) -> bytes:
    return _encoded(_rng(name).choice(np.array([0, 255], np.uint8), (height, width)), "GIF")


def _labels(name: str, numbers: range | tuple[int, ...], kind: str = "PNG", height: int = 6, width: int = 9) -> bytes:
    return _encoded(_rng(name).choice(np.array(numbers, np.uint8), (height, width)), kind)


def _blocks(name: str, choices: np.ndarray, height: int, width: int) -> np.ndarray:
    """Large patches of one of the choices each, as annotations have them; noise in one corner."""
    rng = _rng(name)
    rows, columns = -(-height // 37), -(-width // 41)
    picture = choices[np.kron(rng.integers(0, len(choices), (rows, columns)), np.ones((37, 41), int))][:height, :width]
    picture[:30, :30] = choices[rng.integers(0, len(choices), (30, 30))]
    return picture


def chase_db1(folder: Path) -> None:
    """Whole, in small."""
    members: Members = {}
    for child in range(1, 15):
        for name in (f"Image_{child:02}L", f"Image_{child:02}R"):
            members[f"{name}.jpg"] = _jpeg(name)
            members |= {f"{name}_{expert}HO.png": _binary(name + expert, "PNG") for expert in ("1st", "2nd")}
    _zip(folder / "CHASEDB1.zip", members)


def drive(folder: Path) -> None:
    """Whole, in small."""
    for part, numbers, experts in (("training", range(21, 41), (1,)), ("test", range(1, 21), (1, 2))):
        members: Members = {}
        for number in numbers:
            members[f"{part}/images/{number:02}_{part}.tif"] = _noise(f"{part}{number}", "TIFF")
            members[f"{part}/mask/{number:02}_{part}_mask.gif"] = _gif(f"field{number}")
            for expert in experts:
                name = f"{number:02}_manual{expert}.gif"
                members[f"{part}/{'1st' if expert == 1 else '2nd'}_manual/{name}"] = _gif(name)
        _zip(folder / f"{part}.zip", members)


def hrf(folder: Path) -> None:
    """Whole, in small; with the capital letters that the real one has."""
    for kind, short, suffix in (
        ("healthy", "h", "jpg"),
        ("glaucoma", "g", "jpg"),
        ("diabetic_retinopathy", "dr", "JPG"),
    ):
        names = [f"{number:02}_{short}" for number in range(1, 16)]
        _zip(folder / f"{kind}.zip", {f"{name}.{suffix}": _jpeg(name) for name in names})
        _zip(folder / f"{kind}_manualsegm.zip", {f"{name}.tif": _binary(name, "TIFF") for name in names})


def stare(folder: Path) -> None:
    """Whole, in small."""
    numbers = (1, 2, 3, 4, 5, 44, 77, 81, 82, 139, 162, 163, 235, 236, 239, 240, 255, 291, 319, 324)
    for archive, end in (("stare-images", ""), ("labels-ah", ".ah"), ("labels-vk", ".vk")):
        members: Members = {}
        for number in numbers:
            name = f"im{number:04}{end}.ppm"
            picture = _binary(name, "PPM") if end else _noise(name, "PPM")
            members[f"{name}.gz"] = gzip.compress(picture, mtime=0)
        _tar(folder / f"{archive}.tar", members)


def refuge(folder: Path) -> None:
    """Two photos a part, in folders as deep as the real ones."""
    places = {
        "REFUGE-Training400": (("Training400/Glaucoma/g0001", "Training400/Non-Glaucoma/n0001"), None),
        "REFUGE-Validation400": (("REFUGE-Validation400/V0001", "REFUGE-Validation400/V0002"), None),
        "REFUGE-Test400": (("Test400/T0001", "Test400/T0002"), None),
        "Annotation-Training400": (
            (
                "Annotation-Training400/Disc_Cup_Masks/Glaucoma/g0001",
                "Annotation-Training400/Disc_Cup_Masks/Non-Glaucoma/n0001",
            ),
            "Annotation-Training400/Disc_Cup_Masks/Illustration/shown",
        ),
        "REFUGE-Validation400-GT": (("Disc_Cup_Masks/V0001", "Disc_Cup_Masks/V0002"), None),
        "REFUGE-Test-GT": (("Disc_Cup_Masks/G/T0001", "Disc_Cup_Masks/N/T0002"), "Disc_Cup_Masks/beside"),
    }
    for archive, (names, besides) in places.items():
        masks = "Anno" in archive or "GT" in archive
        members: Members = {}
        for name in names:
            if masks:
                members[f"{name}.bmp"] = _labels(name, (0, 128, 255), "BMP")
            else:
                members[f"{name}.jpg"] = _jpeg(name)
        if besides:  # neither a photo nor a mask
            members[f"{besides}.bmp"] = _labels(besides, (0, 128, 255), "BMP")
        members["__MACOSX/._" + Path(names[0]).name + ".jpg"] = b"no picture"
        _zip(folder / "REFUGE2" / f"{archive}.zip", members)


def synapse(folder: Path) -> None:
    """One volume of each part, of 4x8x3 voxels of 16 bits; each slice of the first has one density."""
    members: Members = {}
    temporary = folder / "volume.nii.gz"
    folder.mkdir(parents=True, exist_ok=True)
    for number in (5, 8):
        rng = _rng(f"volume{number}")
        photo = np.broadcast_to(rng.integers(-300, 500, (1, 1, 3), np.int16), (4, 8, 3))
        organs = rng.integers(0, 14, (4, 8, 3), np.uint8)
        for kind, volume in (("img", photo), ("label", organs)):
            write_nifti(temporary, volume)
            members[f"RawData/Training/{kind}/{kind}{number:04}.nii.gz"] = temporary.read_bytes()
    members["RawData/Testing/img/img0061.nii.gz"] = members["RawData/Training/img/img0005.nii.gz"]
    temporary.unlink()
    _zip(folder / "RawData.zip", members)


def loveda(folder: Path) -> None:
    """A picture of each kind of place."""
    for part, first in (("Train", 0), ("Val", 2522), ("Test", 4191)):
        members: Members = {}
        for number, place in enumerate(("Rural", "Urban"), first):
            members[f"{part}/{place}/images_png/{number}.png"] = _noise(f"{number}", "PNG")
            if part != "Test":
                members[f"{part}/{place}/masks_png/{number}.png"] = _labels(f"{number}", range(8))
        _zip(folder / f"{part}.zip", members)


_ISPRS = np.array(
    [(0, 0, 0), (255, 255, 255), (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 0), (255, 0, 0)], np.uint8
)


def potsdam(folder: Path) -> None:
    """One picture to train on and one to validate on, 700x600 and 520x512."""
    photos, masks = {}, {}
    for stem, width, height in (("2_10", 700, 600), ("7_13", 520, 512)):
        photo = _blocks(stem, _rng(stem).integers(0, 256, (9, 3), np.uint8), height, width)
        photos[f"2_Ortho_RGB/top_potsdam_{stem}_RGB.tif"] = _encoded(photo, "TIFF")
        photos[f"2_Ortho_RGB/top_potsdam_{stem}_RGB.tfw"] = b"0.05\n"
        labels = _blocks(stem + "labels", _ISPRS, height, width)
        masks[f"top_potsdam_{stem}_label_noBoundary.tif"] = _encoded(labels, "TIFF")
    _zip(folder / "2_Ortho_RGB.zip", photos)
    _zip(folder / "5_Labels_all_noBoundary.zip", masks)


def vaihingen(folder: Path) -> None:
    """One picture to train on and one to validate on; masks with boundaries, and one of an area without a picture."""
    photos, masks = {}, {}
    for area, width, height in ((1, 600, 1030), (2, 512, 513)):
        photo = _blocks(f"area{area}", _rng(f"{area}").integers(0, 256, (9, 3), np.uint8), height, width)
        photos[f"top/top_mosaic_09cm_area{area}.tif"] = _encoded(photo, "TIFF")
        labels = _encoded(_blocks(f"labels{area}", _ISPRS, height, width), "TIFF")
        photos[f"gts_for_participants/top_mosaic_09cm_area{area}.tif"] = labels
        masks[f"top_mosaic_09cm_area{area}_noBoundary.tif"] = labels
    masks["top_mosaic_09cm_area9_noBoundary.tif"] = labels
    _zip(folder / "ISPRS_semantic_labeling_Vaihingen.zip", photos)
    _zip(folder / "ISPRS_semantic_labeling_Vaihingen_ground_truth_eroded_COMPLETE.zip", masks)


_ISAID = np.array(
    [
        *((0, 0, 0), (0, 0, 63), (0, 63, 63), (0, 63, 0), (0, 63, 127), (0, 63, 191), (0, 63, 255), (0, 127, 63)),
        *((0, 127, 127), (0, 0, 127), (0, 0, 191), (0, 0, 255), (0, 191, 127), (0, 127, 191), (0, 127, 255)),
        (0, 100, 155),
    ],
    np.uint8,
)


def isaid(folder: Path) -> None:
    """A large picture, a narrow, a low and a small one, one with colours that are no class's."""
    sizes = {"P0000": (1000, 900), "P0001": (950, 800), "P0002": (800, 950), "P0003": (70, 50)}  # width, height
    for part, stems in (("train", ("P0000", "P0001")), ("val", ("P0002", "P0003"))):
        photos, masks = {}, {}
        for stem in stems:
            width, height = sizes[stem]
            photo = _blocks(stem, _rng(stem).integers(0, 256, (9, 3), np.uint8), height, width)
            labels = _blocks(stem + "labels", _ISAID, height, width)
            if stem == "P0003":
                labels[40:43, 50:52] = (1, 2, 3)
            photos[f"images/{stem}.png"] = _encoded(photo, "PNG")
            masks[f"images/{stem}_instance_color_RGB.png"] = _encoded(labels, "PNG")
        _zip(folder / "iSAID" / part / "images" / "part1.zip", photos)
        _zip(folder / "iSAID" / part / "Semantic_masks" / "images.zip", masks)
    _zip(folder / "iSAID" / "test" / "images" / "part1.zip", {"images/P0006.png": _noise("P0006", "PNG")})


def levircd(folder: Path) -> None:
    """A pair of pictures of each part, 300x512 and 256x256."""
    members: Members = {}
    for part, width, height in (("train", 512, 300), ("test", 256, 256)):
        name = f"{part}_1.png"
        for kind in ("A", "B"):
            colors = _rng(part + kind).integers(0, 256, (9, 3), np.uint8)
            members[f"LEVIR-CD+/{part}/{kind}/{name}"] = _encoded(_blocks(part + kind, colors, height, width), "PNG")
        changes = _blocks(part, np.array([0, 255], np.uint8), height, width)
        members[f"LEVIR-CD+/{part}/label/{name}"] = _encoded(changes, "PNG")
    _zip(folder / "LEVIR-CD+.zip", members)


def cityscapes(folder: Path) -> None:
    """A scene of each part, with overlapping polygons, groups, deleted ones, corners outside, lines and points."""
    photos, scenes = {}, {}
    names = (
        *("road", "sidewalk", "building", "sky", "person", "rider", "cargroup", "bicycle", "license plate", "parking"),
        *("ego vehicle", "vegetation", "polegroup", "train", "terrain", "traffic light"),
    )
    for part, city in (("train", "aachen"), ("val", "munster"), ("test", "berlin")):
        rng = _rng(city)
        things = []
        for number in range(40):
            corners = rng.integers(-10, 75, (int(rng.integers(3, 12)), 2)).tolist()
            things.append({"label": names[number % len(names)], "polygon": corners})
        things[7]["deleted"] = 1
        things.append({"label": "sky", "polygon": [[0, 0], [60, 0], [60, 50], [0, 50]], "deleted": 1})
        things += [
            {"label": "pole", "polygon": [[3, 4], [20, 30]]},
            {"label": "car", "polygon": [[5, 5], [5, 5], [5, 5]]},
        ]
        stem = f"{part}/{city}/{city}_000000_000019"
        scene = {"imgHeight": 60, "imgWidth": 70, "objects": things}
        scenes[f"gtFine/{stem}_gtFine_polygons.json"] = json.dumps(scene).encode()
        scenes[f"gtFine/{stem}_gtFine_labelIds.png"] = _labels(city, range(34), height=60, width=70)
        photos[f"leftImg8bit/{stem}_leftImg8bit.png"] = _noise(city, "PNG", 60, 70)
    _zip(folder / "leftImg8bit_trainvaltest.zip", photos | {"license.txt": b"", "README": b""})
    _zip(folder / "gtFine_trainvaltest.zip", scenes)


def _mat(name: str, variable: str, value: object) -> bytes:
    file = io.BytesIO()
    scipy.io.savemat(file, {variable: value}, do_compression=True)
    return file.getvalue()


def coco_stuff10k(folder: Path) -> None:
    """Two pictures to train on, one to test on; every number there is."""
    members: Members = {"README.txt": b""}
    for part, names in (
        ("train", ("COCO_train2014_000000000077", "COCO_train2014_000000000081")),
        ("test", ("COCO_train2014_000000000308",)),
    ):
        members[f"imageLists/{part}.txt"] = "".join(f"{name}\n" for name in names).encode()
        for name in names:
            members[f"images/{name}.jpg"] = _jpeg(name, 16, 12)
            numbers = _rng(name).permutation(192).reshape(16, 12).astype(np.uint16) % 183
            members[f"annotations/{name}.mat"] = _mat(name, "S", numbers)
    _zip(folder / "cocostuff-10k-v1.1.zip", members)


def coco_stuff164k(folder: Path) -> None:
    """A picture of each part; every number there is."""
    masks: Members = {}
    for part, name in (("train2017", "000000000009"), ("val2017", "000000000139")):
        _zip(folder / f"{part}.zip", {f"{part}/": b"", f"{part}/{name}.jpg": _jpeg(name, 16, 12)})
        numbers = _rng(name).permutation(192).reshape(16, 12).astype(np.uint8)
        masks[f"{part}/{name}.png"] = _encoded(np.where(numbers > 181, 255, numbers).astype(np.uint8), "PNG")
    _zip(folder / "stuffthingmaps_trainval2017.zip", masks)


def voc_aug(folder: Path) -> None:
    """Two pictures of VOC's train, one of val, and two more of the Semantic Boundaries Dataset, which has them all."""
    own, val, more = ("2007_000032", "2007_000039"), ("2007_000033",), ("2008_000002", "2008_000003")
    devkit = "VOCdevkit/VOC2012"
    voc: Members = {}
    for name, lines in (("train", own), ("val", val), ("trainval", (*own, *val))):
        voc[f"{devkit}/ImageSets/Segmentation/{name}.txt"] = "".join(f"{line}\n" for line in lines).encode()
    for name in (*own, *val, *more):
        voc[f"{devkit}/JPEGImages/{name}.jpg"] = _jpeg(name)
        voc[f"{devkit}/Annotations/{name}.xml"] = b"<annotation/>"
    for name in (*own, *val):
        mask = Image.fromarray(_rng(name).integers(0, 21, (6, 9), np.uint8), "P")
        mask.putpalette([part for color in range(256) for part in (color, 255 - color, color // 2)])
        file = io.BytesIO()
        mask.save(file, "PNG")
        voc[f"{devkit}/SegmentationClass/{name}.png"] = voc[f"{devkit}/SegmentationObject/{name}.png"] = file.getvalue()
    _tar(folder / "VOCtrainval_11-May-2012.tar", voc)

    aug: Members = {}
    for name, lines in (("train", (own[0], more[0])), ("val", (own[1], val[0], more[1]))):
        aug[f"benchmark_RELEASE/dataset/{name}.txt"] = "".join(f"{line}\n" for line in lines).encode()
    for name in (*own, *val, *more):
        truth = np.zeros((1, 1), [("Segmentation", object), ("Boundaries", object)])
        truth[0, 0] = (_rng(name).integers(0, 21, (6, 9), np.uint8), np.zeros((20, 1)))
        aug[f"benchmark_RELEASE/dataset/cls/{name}.mat"] = _mat(name, "GTcls", truth)
        aug[f"benchmark_RELEASE/dataset/img/{name}.jpg"] = _jpeg(name)
    _tar(folder / "benchmark.tgz", aug, "w:gz")


def _run_lengths(mask: np.ndarray) -> str:
    """A mask in COCO's packed run lengths."""
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff(np.concatenate(([0], edges, [flat.size]))).tolist()
    if flat[0]:
        counts.insert(0, 0)
    packed = []
    for place, count in enumerate(counts):
        left = count - counts[place - 2] if place > 2 else count
        more = True
        while more:
            bits = left & 31
            left >>= 5
            more = left != (-1 if bits & 16 else 0)
            packed.append(chr((bits | 32 if more else bits) + 48))
    return "".join(packed)


def pascal_context(folder: Path) -> None:
    """Three pictures with overlapping regions, one of them without any; a picture that has no annotation."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = (("2008_000002", "train"), ("2008_000003", "val"), ("2008_000007", "val"))
    voc = {
        f"VOCdevkit/VOC2010/JPEGImages/{name}.jpg": _jpeg(name, 40, 50) for name, _ in (*pictures, ("2008_000009", ""))
    }
    _tar(folder / "VOCtrainval_03-May-2010.tar", voc)
    categories = (2, 9, 18, 44, 113, 158, 259, 284, 347, 397, 415, 458)
    images, regions = [], []
    for name, phase in pictures:
        number = int(name.replace("_", ""))
        images.append({"file_name": f"{name}.jpg", "image_id": number, "height": 40, "width": 50, "phase": phase})
        for place in range(0 if name == "2008_000007" else 8):
            rng = _rng(f"{name}{place}")
            mask = np.zeros((40, 50), np.uint8)
            top, left = rng.integers(-5, 30, 2)
            cv2.ellipse(mask, (int(left), int(top)), (25, 12), int(rng.integers(180)), 0, 360, 1, -1)
            mask[:, :3] |= np.uint8(place == 4)
            region = {"size": [40, 50], "counts": _run_lengths(mask)}
            category = categories[(place + number) % len(categories)]
            regions.append({"id": len(regions), "image_id": number, "category_id": category, "segmentation": region})
    merged = {"images": images, "annos_segmentation": regions}
    (folder / "trainval_merged.json").write_text(json.dumps(merged), encoding="utf-8")


def nyu(folder: Path) -> None:
    """Two rooms to train on, one to test on; depths of 16 bits."""
    members: Members = {}
    for part, rooms in (("train", ("kitchen_0028b", "office_0001a")), ("test", ("bathroom",))):
        lines = []
        for room in rooms:
            slash = "/" if part == "train" else ""
            image, depths = f"{room}/rgb_00045.jpg", f"{room}/sync_depth_00045.png"
            lines.append(f"{slash}{image} {slash}{depths} 518.8579\n")
            members[f"nyu/{image}"] = _jpeg(room, 12, 16)
            members[f"nyu/{depths}"] = _encoded(_rng(room).integers(0, 10000, (12, 16)).astype(np.uint16), "PNG")
        members[f"nyu/nyu_{part}.txt"] = "".join(lines).encode()
    _zip(folder / "nyu.zip", members)


ARCHIVES: dict[str, Callable[[Path], None]] = {
    make.__name__: make
    for make in (
        *(chase_db1, cityscapes, coco_stuff10k, coco_stuff164k, drive, hrf, isaid, levircd, loveda, nyu),
        *(pascal_context, potsdam, refuge, stare, synapse, vaihingen, voc_aug),
    )
}
