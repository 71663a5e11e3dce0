import math
import subprocess
import sys

import numpy as np
import pytest
from jaxtyping import TypeCheckError
from PIL import Image

from jaxseg.errors import DataError
from jaxseg.visualize import charts


def train(step, loss, **others):
    return {"step": step, "kind": "train", "loss": loss, "lr": 0.01, **others}


RECORDS = [
    *(
        train(step, 3 / step + 0.2, **{"decode.loss_ce": 2 / step + 0.1, "aux_0.loss_ce": 1 / step + 0.1})
        for step in range(1, 101)
    ),
    *({"step": step, "kind": "val", "mIoU": 0.4 * step, "aAcc": 90.0} for step in (50, 100)),
]


def opened(path):
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


def count(picture, color):
    return int((np.abs(picture.astype(int) - np.array(color)).max(axis=-1) < 12).sum())


BLUE, ORANGE, RED = (0, 114, 178), (213, 94, 0), (200, 30, 30)


def test_series_sorts_and_keeps_the_last_record_of_a_step():
    records = [train(20, 2.0), train(10, 1.0), train(20, 3.0), train(30, None), {"step": 5, "kind": "val"}]
    steps, values = charts.series(records, "train", "loss")
    assert steps.tolist() == [10, 20, 30]
    np.testing.assert_array_equal(values, [1, 3, math.nan])
    assert len(charts.series(records, "val", "mIoU")[0]) == 0


def test_smooth_is_a_centred_mean_without_broken_values():
    values = np.array([1.0, math.nan, 3.0, math.inf, 5.0])
    np.testing.assert_allclose(charts.smooth(values, 3), [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(charts.smooth(values[:1], 1), [1.0])
    assert np.isnan(charts.smooth(np.full(3, math.nan), 3)).all()
    line = np.arange(50.0)
    np.testing.assert_allclose(charts.smooth(line, 8)[4:-4], line[4:-4], err_msg="no lag")


@pytest.mark.parametrize(
    ("draw", "color"),
    [(charts.loss_chart, BLUE), (charts.metric_chart, ORANGE), (charts.learning_rate_chart, BLUE)],
)
@pytest.mark.parametrize("records", [RECORDS, [RECORDS[0], RECORDS[-1]]], ids=["run", "one step"])
def test_charts_by_step_draw_a_line(tmp_path, draw, color, records):
    path = draw(records, tmp_path / "deep" / "chart.png")
    assert path == tmp_path / "deep" / "chart.png"
    picture = opened(path)
    assert picture.shape[1] == 960
    assert count(picture, color) > 20
    assert [item.name for item in path.parent.iterdir()] == ["chart.png"], "no temporary file stays"


def test_loss_chart_marks_steps_that_are_not_finite(tmp_path):
    whole = opened(charts.loss_chart(RECORDS, tmp_path / "whole.png"))
    broken = [train(40, math.nan), train(41, None), train(42, math.inf)]
    picture = opened(charts.loss_chart(RECORDS + broken, tmp_path / "broken.png"))
    faint = np.array([227, 140, 140])
    assert count(whole, faint) == 0
    assert (picture[..., 0].astype(int) - picture[..., 1] > 60).sum() > 200
    charts.loss_chart([train(1, math.nan)], tmp_path / "never.png")


def test_loss_chart_of_many_layers(tmp_path):
    """Of a head with losses of every layer, those of the last are drawn: all of them would leave no room."""
    names = [f"decode.{layer}{name}" for layer in ("", *(f"d{i}." for i in range(9))) for name in ("loss_a", "loss_b")]
    records = [train(step, 2.0) | dict.fromkeys(names, 1.0) for step in (1, 2)]
    of_many = opened(charts.loss_chart(records, tmp_path / "many.png"))
    of_last = [{key: value for key, value in record.items() if ".d" not in key} for record in records]
    np.testing.assert_array_equal(of_many, opened(charts.loss_chart(of_last, tmp_path / "last.png")))


def test_metric_chart_of_another_key_and_of_nan(tmp_path):
    charts.metric_chart(RECORDS, tmp_path / "acc.png", key="aAcc", higher_is_better=False)
    charts.metric_chart([{"step": 1, "kind": "val", "mIoU": None}], tmp_path / "nan.png")
    assert opened(tmp_path / "nan.png").shape == opened(tmp_path / "acc.png").shape


def test_a_missing_key_names_those_that_are_there():
    with pytest.raises(DataError, match=r"'miou'. Did you mean mIoU\?"):
        charts.metric_chart(RECORDS, "unused.png", key="miou")
    with pytest.raises(DataError, match="aAcc, mIoU"):
        charts.metric_chart(RECORDS, "unused.png", key="depth")
    with pytest.raises(DataError, match="'lr'"):
        charts.learning_rate_chart([], "unused.png")


@pytest.mark.parametrize("n", [1, 2, 11, 130])
def test_class_iou_chart(tmp_path, n):
    iou = np.linspace(5, 100, n) if n > 1 else np.array([50.0])
    iou[n // 2] = math.nan if n > 1 else 50.0
    picture = opened(charts.class_iou_chart(iou, [f"$class_{i}$ & co" for i in range(n)], tmp_path / "iou.png"))
    assert count(picture, BLUE) > 500
    assert max(picture.shape) < 4000, "small enough to be opened anywhere"


def test_class_iou_bars_are_as_long_as_their_values_best_on_top(tmp_path):
    picture = opened(charts.class_iou_chart(np.array([25.0, 100.0]), ["low", "high"], tmp_path / "iou.png"))
    blue = (np.abs(picture.astype(int) - np.array(BLUE)).max(axis=-1) < 12).sum(axis=1)
    lengths = blue[blue > 50]
    assert lengths[0] == lengths.max()
    assert lengths[-1] == pytest.approx(lengths[0] / 4, rel=0.05)


def test_class_iou_chart_without_any_class_present(tmp_path):
    picture = opened(charts.class_iou_chart(np.full(3, math.nan), list("abc"), tmp_path / "iou.png"))
    assert count(picture, BLUE) == 0
    with pytest.raises(DataError, match="3 IoU values for 2"):
        charts.class_iou_chart(np.zeros(3), ["a", "b"], tmp_path / "iou.png")


def test_row_shares_divide_by_the_true_class():
    shares = charts.row_shares(np.array([[3, 1], [0, 0]]))
    np.testing.assert_array_equal(shares, [[0.75, 0.25], [math.nan, math.nan]])


@pytest.mark.parametrize("n", [2, 20, 90])
def test_confusion_chart(tmp_path, n):
    confusion = 1000 * np.eye(n, dtype=np.int64) + 1
    confusion[0] = 0
    picture = opened(charts.confusion_chart(confusion, [f"class {i}" for i in range(n)], tmp_path / "c.png"))
    assert count(picture, (217, 220, 224)) > 100, "the row without pixels is grey"
    assert count(picture, (8, 48, 107)) > 100, "the diagonal is dark"
    assert max(picture.shape) < 4000


def test_confusion_chart_refuses_another_number_of_names(tmp_path):
    with pytest.raises((DataError, TypeCheckError)):
        charts.confusion_chart(np.zeros((2, 3), np.int64), ["a", "b"], tmp_path / "c.png")
    with pytest.raises(DataError, match="2x2 for 3"):
        charts.confusion_chart(np.zeros((2, 2), np.int64), list("abc"), tmp_path / "c.png")


def test_importing_the_package_does_not_import_matplotlib_and_charts_never_pyplot(tmp_path):
    code = (
        "import sys; from jaxseg.visualize import charts, overlay, palettes, report\n"
        "assert 'matplotlib' not in sys.modules\n"
        f"charts.learning_rate_chart([dict(step=1, kind='train', lr=.1)], {str(tmp_path / 'a.png')!r})\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
