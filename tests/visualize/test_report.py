import math
import os
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from jaxtyping import TypeCheckError
from PIL import Image

from jaxseg.errors import DataError
from jaxseg.visualize.files import write_whole
from jaxseg.visualize.report import Example, write_report

CLASSES = ["road", 'tree <b>&"', "sky"]
PALETTE = [[128, 64, 128], [0, 128, 0], [70, 130, 180]]
CONFUSION = np.array([[90, 10, 0], [5, 60, 35], [0, 0, 0]], np.int64)
METRICS = {
    "step": 4000,
    "kind": "val",
    "mIoU": 67.891,
    "aAcc": 75.0,
    "IoU": {"road": 85.71, 'tree <b>&"': 54.5, "sky": None},
    "Acc": {"road": 90.0, 'tree <b>&"': 60.0, "sky": math.nan},
}
RECORDS = [
    *(
        {"step": step, "kind": "train", "loss": 2 / step, "lr": 0.1 / step, "images_per_second": 12.0}
        for step in range(10, 60, 10)
    ),
    {"step": 50, "kind": "val", "mIoU": 67.891, "aAcc": 75.0, "IoU": METRICS["IoU"]},
]


def example(score, name="street <1>.png"):
    truth = np.zeros((24, 32), np.uint8)
    truth[12:] = 1
    truth[:2] = 255
    prediction = np.where(truth == 255, 0, truth).astype(np.int32)
    prediction[:, :8] = 0
    return Example(name, np.full((24, 32, 3), 100, np.uint8), truth, prediction, score)


def write(folder, **changes):
    settings = {
        "title": "A run of <PSPNet> & co",
        "config_text": "model.type = '<EncoderDecoder>'",
        "records": RECORDS,
        "metrics": METRICS,
        "confusion": CONFUSION,
        "classes": CLASSES,
        "palette": PALETTE,
        "examples": [example(0.9), example(0.2), example(0.5)],
        "facts": {"Device": "1 x <TPU>", "Time": "2 min"},
    }
    return write_report(folder, **settings | changes)


def parse(path):
    """The page as a tree; the page is well-formed XML, so an unescaped text or an unclosed tag fails here."""
    return ElementTree.fromstring(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A report with every section, for the tests that only read it."""
    return write(tmp_path_factory.mktemp("run") / "deep" / "report")


def headings(page):
    return [heading.text for heading in page.iter("h2")]


def pictures(page):
    return [image.get("src") for image in page.iter("img")]


def table(page, label):
    region = page.find(f".//div[@aria-label='{label}']")
    return [["".join(cell.itertext()) for cell in row] for row in region.iter("tr")]


def test_report_has_every_section_and_every_picture(whole):
    path = whole
    assert path.name == "report.html"
    page = parse(path)
    assert headings(page) == ["Result", "Training", "Classes", "Confusion", "Examples", "Configuration"]
    assert pictures(page) == [
        "loss.png",
        "miou.png",
        "learning_rate.png",
        "class_iou.png",
        "confusion.png",
        "examples/worst_01.png",
        "examples/worst_02.png",
        "examples/best_01.png",
    ]
    for address in pictures(page) + [link.get("href") for link in page.iter("a")]:
        with Image.open(path.parent / address) as image:
            image.load()
            assert image.width >= 300
    assert all(image.get("alt") for image in page.iter("img"))
    written = {item.relative_to(path.parent).as_posix() for item in path.parent.rglob("*") if item.is_file()}
    assert written == {"report.html", *pictures(page)}, "nothing else, and no temporary file, is left"


def test_report_needs_no_network_and_no_script(whole):
    page = parse(whole)
    assert not list(page.iter("script"))
    assert not list(page.iter("link"))
    text = whole.read_text()
    assert "http:" not in text
    assert "https:" not in text


def test_text_is_escaped_and_shown(whole):
    page = parse(whole)
    assert page.findtext(".//h1") == page.findtext(".//title") == "A run of <PSPNet> & co"
    assert page.findtext(".//details/pre") == "model.type = '<EncoderDecoder>'"
    facts = page.find(".//table[@class='facts']")
    assert [cell.text for cell in facts.iter("td")] == ["1 x <TPU>", "2 min"]


def test_figures_of_the_evaluation(whole):
    page = parse(whole)
    cards = page.find(".//div[@class='cards']")
    shown = {box.findtext("span"): box.findtext("b") for box in cards}
    assert shown == {"mIoU, %": "67.89", "aAcc, %": "75.00", "step": "4,000"}
    assert table(page, "Measures by class") == [
        ["Class", "IoU, %", "Acc, %", "Pixels, %"],
        ["road", "85.71", "90.00", "50.00"],
        ['tree <b>&"', "54.50", "60.00", "50.00"],
        ["sky", "absent", "absent", "0.00"],
    ]
    assert table(page, "Mistakes") == [
        ["True", "Predicted as", "Of the class, %", "Of all errors, %"],
        ['tree <b>&"', "sky", "35.0", "70.0"],
        ["road", 'tree <b>&"', "10.0", "20.0"],
        ['tree <b>&"', "road", "5.0", "10.0"],
    ]


def test_examples_are_ranked_and_each_is_shown_once(tmp_path):
    scores = [*np.linspace(0.1, 0.9, 20), math.nan]
    examples = [example(float(score), f"{100 * score:.0f}") for score in scores]
    page = parse(write(tmp_path, examples=examples[::-1], records=[], confusion=None, metrics={}))
    names = [caption.text.split(":")[0] for caption in page.iter("figcaption")]
    ranked = [item.name for item in examples[:20]]
    assert names == ranked[:6] + ranked[::-1][:6]


def test_the_legend_names_the_classes_in_the_examples_and_the_stripes(whole):
    page = parse(whole)
    items = ["".join(item.itertext()) for item in page.find(".//ul[@class='legend']")]
    assert items == ["road", 'tree <b>&"', "no class (ignored)"]


def test_an_evaluation_alone_leaves_training_out(tmp_path):
    page = parse(write(tmp_path, records=[], examples=[], config_text="", facts=None))
    assert headings(page) == ["Result", "Classes", "Confusion"]
    assert pictures(page) == ["class_iou.png", "confusion.png"]


def test_a_run_without_evaluation(tmp_path):
    records = [record for record in RECORDS if record["kind"] == "train"]
    page = parse(write(tmp_path, records=records, metrics={}, confusion=None, examples=[], facts=None))
    assert headings(page) == ["Training", "Configuration"]
    assert pictures(page) == ["loss.png", "learning_rate.png"]


def test_nothing_at_all_is_still_a_page(tmp_path):
    empty = np.zeros((3, 3), np.int64)
    page = parse(
        write(
            tmp_path,
            records=[],
            metrics={},
            confusion=empty,
            examples=[example(math.nan)],
            config_text="",
            facts={},
        )
    )
    assert headings(page) == []
    assert page.findtext(".//h1")


def test_many_classes_fold_the_table(tmp_path):
    names = [f"class {index}" for index in range(70)]
    palette = [[index, 2 * index, 255 - index] for index in range(70)]
    metrics = {"mIoU": 50.0, "IoU": dict.fromkeys(names, 50.0)}
    page = parse(write(tmp_path, classes=names, palette=palette, metrics=metrics, confusion=None, examples=[]))
    folded = page.find(".//details")
    assert folded.findtext("summary") == "Show the table of 70 classes"
    assert len(list(folded.iter("tr"))) == 71


def test_writing_again_replaces_the_report_and_its_pictures_but_nothing_else(tmp_path):
    write(tmp_path)
    (tmp_path / "examples" / "mine.png").write_bytes(b"mine")
    page = parse(write(tmp_path, records=[], examples=[example(0.5)]))
    assert "loss.png" not in pictures(page)
    assert not (tmp_path / "loss.png").exists()
    left = sorted(item.name for item in (tmp_path / "examples").iterdir())
    assert left == ["mine.png", "worst_01.png"]


def test_a_name_that_is_no_text_does_not_cost_the_report(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    assert "caf?.png" in write(tmp_path, records=[], confusion=None, examples=[example(0.5, name)]).read_text(
        encoding="utf-8"
    )


def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises((DataError, TypeCheckError)):
        write(tmp_path / "a", confusion=np.zeros((2, 2), np.int64))
    with pytest.raises(DataError, match="2 colours for 3 classes"):
        write(tmp_path / "a", palette=PALETTE[:2])
    assert not (tmp_path / "a").exists()


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = write_whole(tmp_path / "file", b"old")

    def refuse(*_):
        raise OSError("disk is full")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="disk is full"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["file"]
