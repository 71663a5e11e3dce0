"""Configs are read as mmengine reads them, and hostile ones are refused soon, with their file and line.

`fixtures/configs.json` is what mmengine 0.10.7 makes of `fixtures/configs`, `fixtures/digests.json` a hash of what it
makes of each config of mmsegmentation 1.2.2; both by `tools/compare_configs.py`.
"""

import json
import os
import runpy
import time
from pathlib import Path

import pytest

from jaxseg.errors import ConfigError
from jaxseg.mmseg.config import parse_overrides, read_config

FIXTURES = Path(__file__).parent / "fixtures"
CONFIGS = FIXTURES / "configs"
EXPECTED = json.loads((FIXTURES / "configs.json").read_text())
WHEEL = os.environ.get("JAXSEG_MMSEG_CONFIGS", "")
TOOL = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "compare_configs.py"))


@pytest.fixture
def write(tmp_path):
    """Writes files given as `name=text`, and returns the path of `config.py`."""

    def write(config="", **files):
        for name, text in {"config": config, **files}.items():
            (tmp_path / f"{name}.py").write_text(text)
        return tmp_path / "config.py"

    return write


@pytest.mark.parametrize("name", EXPECTED)
def test_equals_reference(name):
    assert TOOL["encode"](read_config(CONFIGS / name)) == EXPECTED[name]


@pytest.mark.skipif(not WHEEL, reason="JAXSEG_MMSEG_CONFIGS is not the folder of the reference's configs")
def test_equals_reference_on_its_configs():
    digests = json.loads((FIXTURES / "digests.json").read_text())
    assert len(digests) == 681
    different = [name for name in digests if TOOL["digest"](read_config(Path(WHEEL) / name)) != digests[name]]
    assert not different


def test_result_is_plain_and_shares_nothing(write):
    path = write("_base_ = 'base.py'\ny = [_base_.x, _base_.x]", base="x = dict(a=dict(b=[]))")
    config = read_config(str(path))
    assert all(type(value) is dict for value in (config["x"], config["x"]["a"], *config["y"]))
    config["y"][0]["a"]["b"].append(1)
    assert config == {"x": {"a": {"b": []}}, "y": [{"a": {"b": [1]}}, {"a": {"b": []}}]}


def test_predefined_variables_are_of_the_file_they_are_in(write, tmp_path):
    path = write("_base_ = 'base.py'\nb = '{{ fileDirname }}/{{fileBasename}}'", base="a = '{{fileBasename}}'")
    assert read_config(path) == {"a": "base.py", "b": f"{tmp_path}/config.py"}


def test_environment_variables(write, monkeypatch):
    path = write("root = '{{ $JAXSEG_ROOT:/data }}/images'\nclasses = {{'$JAXSEG_CLASSES:19'}}\n")
    assert read_config(path) == {"root": "/data/images", "classes": 19}
    monkeypatch.setenv("JAXSEG_ROOT", "/mnt")
    monkeypatch.setenv("JAXSEG_CLASSES", "[1, 2]")
    assert read_config(path) == {"root": "/mnt/images", "classes": [1, 2]}
    with pytest.raises(ConfigError, match=r"config.py:2: the environment variable JAXSEG_NONE is not set"):
        read_config(write("\nroot = '{{$JAXSEG_NONE:}}'"))


def test_scopes(write, tmp_path):
    other = tmp_path / "other" / "models"
    other.mkdir(parents=True)
    (other / "net.py").write_text("model = dict(type='Net', head=dict(type='Head'))\nsteps = [dict(type='A')]\nn = 1")
    path = write("_base_ = 'mmdet::models/net.py'\nn = 2")
    assert read_config(path, scopes={"mmdet": tmp_path / "other"}) == {
        "model": {"type": "Net", "head": {"type": "Head"}, "_scope_": "mmdet"},
        "steps": [{"type": "A", "_scope_": "mmdet"}],
        "n": 2,
    }
    with pytest.raises(
        ConfigError, match=r"config.py:1: the base 'mmdet::models/net.py' .* scopes=\{'mmdet': FOLDER\}"
    ):
        read_config(path)


def test_deprecated_config_warns(write):
    path = write("_deprecation_ = dict(expected='new.py', reference='a page')\nx = 1")
    with pytest.warns(FutureWarning, match=r"config.py is deprecated: use new.py, see a page"):
        assert read_config(path) == {"x": 1}


def test_overrides():
    path = CONFIGS / "inherit.py"
    config = read_config(
        path,
        {
            "model.backbone.embed_dims": 64,
            "model.decode_head.loss_decode.1.loss_weight": 2.0,
            "train_pipeline.0": {"to_float32": True},
            "train_pipeline.2": "replaced",
            "model.test_cfg": {"_delete_": True, "mode": "slide"},
            "new.deep.key": (1, 2),
        },
    )
    expected = read_config(path)
    expected["model"]["backbone"]["embed_dims"] = 64
    expected["model"]["decode_head"]["loss_decode"][1]["loss_weight"] = 2.0
    expected["train_pipeline"][0]["to_float32"] = True
    expected["train_pipeline"][2] = "replaced"
    expected["model"]["test_cfg"] = {"mode": "slide"}
    expected["new"] = {"deep": {"key": (1, 2)}}
    assert config == expected


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"train_pipeline.3.type": "A"}, "`train_pipeline` is a list of 3 items and has no item `3`"),
        ({"train_pipeline.first.type": "A"}, "has no item `first`"),
        ({"crop_size.0": 1}, "`crop_size` is a dict here and a tuple in the base"),
        ({"data_root": "a", "data_root.b": 1}, "the override `data_root.b` is inside of another one"),
        ({"x": object()}, "the override `x`: `x` is a object"),
    ],
)
def test_wrong_overrides(overrides, message):
    with pytest.raises(ConfigError, match=message):
        read_config(CONFIGS / "inherit.py", overrides)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("1e-4", 1e-4),
        ("True", True),
        ("false", False),
        ("None", None),
        ("ResNet", "ResNet"),
        ("'a b'", "ab"),
        ("1,2,x", [1, 2, "x"]),
        ("[1]", [1]),
        ("(512,)", (512,)),
        ("[(1, 2), [a, b], c]", [(1, 2), ["a", "b"], "c"]),
        ("(1,2),(3,4)", [(1, 2), (3, 4)]),
        ("[]", []),
        ("()", ()),
        ("a=b", "a=b"),
        ("", ""),
    ],
)
def test_parse_overrides(text, value):
    assert parse_overrides([f"some.key={text}"]) == {"some.key": value}
    assert type(parse_overrides([f"k={text}"])["k"]) is type(value)


@pytest.mark.parametrize("pair", ["key", "key=[1", "key=(1,2))", "key=" + "(" * 2000 + ")" * 2000])
def test_wrong_override_strings(pair):
    with pytest.raises(ConfigError, match="the override"):
        parse_overrides([pair])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"config": "_base_ = 'bases.py'", "base": ""}, r"config.py:1: the base 'bases.py' is not there. .* base.py\?"),
        ({"config": "_base_ = 'no/base.py'"}, r"There is no folder"),
        ({"config": "_base_ = 'a\\0.py'"}, r"config.py:1: the base .* is not there"),
        ({"config": "_base_ = 3"}, r"config.py:1: `_base_` is a path or a list of paths, not a int"),
        ({"config": "_base_ = 'config.py'"}, r"config.py:1: bases in a circle: .*config.py -> .*config.py"),
        ({"config": "_base_ = 'a.py'", "a": "\n_base_ = ['config.py']"}, r"a.py:2: bases in a circle"),
        (
            {"config": "_base_ = ['a.py', 'b.py']", "a": "x = 1\ny = 1", "b": "y = 2\nx = 2"},
            r"config.py:1: `x`, `y` in two bases: .*a.py and .*b.py",
        ),
        ({"config": "\n_base_ = ['a.py'] * 200", "a": ""}, r"more than 100 files"),
        ({"config": "_base_ = 'a.py'\n\nx = dict(y=1)", "a": "x = [1]"}, r"config.py:3: `x` is a dict here and a list"),
        (
            {"config": "_base_ = 'a.py'\nx = _base_.modle", "a": "model = 1"},
            r"config.py:2: .*'modle'. Did you mean model",
        ),
        ({"config": "_base_ = 'a.py'\nx = {{_base_.m.y}}", "a": "m = dict(x=1)"}, r"config.py:2: .* no `_base_.m.y`"),
        ({"config": "_base_ = 'a.py'\nx = '{{_base_.m}}'", "a": "m = 'b'"}, r"config.py:2: `x`: .* is a whole value"),
        ({"config": "x = 1\nx = (1"}, r"config.py:2: '\(' was never closed"),
        ({"config": "filename = 1"}, r"the name `filename` is reserved"),
        ({"config": "x = dict(a=[zip()])"}, r"config.py:1: `x.a.0` is a list_iterator"),
        ({"config": "model = 1\n\nx = modle"}, r"config.py:3: `modle` is not defined.* Did you mean model\?"),
        ({"config": "x = dict(a=1)\ny = x.a"}, r"config.py:2: the attribute `a` of `dict` is not allowed.*\['a'\]"),
        ({"config": "x = dict(a=1)\ny = x.pup('a')"}, r"config.py:2: the method `pup` of `dict`.* Did you mean pop"),
        ({"config": "x = [1]\ny = x[1]"}, r"config.py:2: IndexError: list index out of range"),
        ({"config": "x = {}['a']"}, r"config.py:1: there is no key 'a'"),
        ({"config": "x = dict(a=1, **dict(a=2))"}, r"config.py:1: the keyword `a` is given twice"),
        ({"config": "a, b = 1, 2, 3"}, r"config.py:1: 3 values for 2 names"),
        ({"config": "from mmengine.config import read_base"}, r"config.py:1: a config of the new style"),
        ({"config": "with read_base():\n    from .a import *"}, r"config.py:1: a config of the new style"),
        ({"config": "from .a import *"}, r"config.py:1: a config of the new style"),
    ],
)
def test_wrong_configs(write, files, message):
    with pytest.raises(ConfigError, match=message):
        read_config(write(**files))


def test_wrong_files(tmp_path):
    (tmp_path / "pspnet.py").write_text("")
    with pytest.raises(ConfigError, match=r"psp_net.py: there is no such file. Did you mean pspnet.py\?"):
        read_config(tmp_path / "psp_net.py")
    for name, content, message in [
        ("a.yaml", b"x: 1", r"only .py and .json configs"),
        ("latin.py", "x = 'é'".encode("latin-1"), r"cannot be read: .*utf-8"),
        ("huge.py", b"x = 1\n" * 100_000, r"more than 300,000 bytes"),
        ("bad.json", b'{\n"x": }', r"bad.json:2: Expecting value"),
        ("deep.json", b"[" * 100_000, r"deep.json: cannot be parsed"),
        ("list.json", b"[1]", r"a config is an object, not a list"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigError, match=message):
            read_config(tmp_path / name)


ESCAPES = [
    "__import__('os').system('true')",
    "().__class__.__bases__[0].__subclasses__()",
    "(1).real",
    "''.join.__self__",
    "dict.fromkeys",
    "dict.__subclasses__()",
    "[len]",
    "__builtins__",
    "__file__",
    "_base_.__class__",
    "_base_.update.__globals__",
    "eval('1')",
    "exec('1')",
    "open('/etc/passwd').read()",
    "getattr(1, 'real')",
    "type(1)",
    "globals()",
    "print(1)",
    "(lambda: 1)()",
    "[print][0](1)",
    "'{0.__class__}'.format(1)",
    "'{0[a]}'.format(dict(a=1))",
    "os.environ",
    "os.system('true')",
    "os.path.exists('/')",
    "math.factorial(9)",
    "math.__loader__",
    "[os]",
    "(x := 1)",
    "f'{os}'",
]
BOMBS = {
    "range": "x = list(range(10**12))",
    "membership": "x = 'a' in range(10**12)",
    "unpacking": "a, b = range(10**12)",
    "pairs": "x = dict([range(10**10)])",
    "keywords": "x = dict(**[range(10**10)])",
    "slice": "x = []\nx[:] = range(10**10)",
    "extend": "x = []\nx += range(10**10)",
    "sum": "x = sum([[0] * 1000] * 1000, [])",
    "repetition of text": "x = 'a' * 10**10",
    "repetition": "x = [0] * 10**10",
    "power": "x = 9**9**9",
    "shift": "x = 1 << 10**10",
    "round": "x = round(5, -(10**9))",
    "digits": "x = int('9' * 90000)",
    "join": "x = ('a' * 50000).join(['b'] * 50000)",
    "replace": "x = ('a' * 50000).replace('a', 'b' * 50000)",
    "width": "x = '%1000000000d' % 1",
    "star width": "x = '%*d' % (10**9, 1)",
    "many fields": "x = '%(a)s' * 10000 % {'a': 'x' * 90000}",
    "format": "x = '{:1000000000}'.format(1)",
    "f-string": "x = f'{1:1000000000}'",
    "growing loop": "x = [0]\nfor i in x:\n    x.append(i)",
    "comprehension": "x = [0 for i in range(10**5) for j in range(10**5)]",
    "texts": "x = ['a' * 90000 + str(i) for i in range(10000)]",
    "growing text": "x = ''\nfor i in range(10**6):\n    x += 'aaaaaaaaaaaaaaaaaaaa'",
    "shared lists": "x = [0]\n" + "x = [x, x]\n" * 40,
    "shared keywords": "x = [0]\n" + "x = dict(a=x, b=x)\n" * 40,
    "printed": "x = [0]\n" + "x = [x, x]\n" * 40 + "y = f'{x}'",
    "hashed": "x = (0,)\n" + "x = (x, x)\n" * 40 + "y = {x: 1}",
    "compared": "x, y = [0], [0]\n" + "x, y = [x, x], [y, y]\n" * 40 + "z = x == y",
    "cycle": "x = []\nx.append(x)",
    "cycle of keys": "_base_ = 'base.py'\n_base_.x.update(y=_base_.x)",
    "brackets": "x = " + "[" * 150 + "]" * 150,
    "parentheses": "x = " + "(" * 5000 + ")" * 5000,
    "signs": "x = " + "-" * 200_000 + "1",
    "terms": "x = " + "1+" * 20_000 + "1",
    "attributes": "x = a" + ".b" * 20_000,
    "zero byte": "x = 1\0",
    "long names": "a" * 100_000 + " = 1\nb = " + "a" * 99_999,
}


@pytest.mark.parametrize("expression", ESCAPES)
def test_escapes_are_refused(write, expression):
    path = write(f"_base_ = 'base.py'\nimport os\nimport math\nx = {expression}\n", base="y = 1")
    with pytest.raises(ConfigError, match=r"config.py:4: "):
        read_config(path)


@pytest.mark.parametrize(
    "statement",
    [
        "import subprocess",
        "from os import system",
        "from math import *",
        "def f(): pass",
        "class A: pass",
        "while True: pass",
        "try: pass\nexcept: pass",
        "global x",
        "raise ValueError",
        "x = 1 @ 2",
        "dict.a = 1",
        "_base_.update = 1",
        "import os\nos.x = 1",
        "del undefined",
        "x: int = open('y')",
        "for x in open('y'): pass",
    ],
)
def test_statements_are_refused(write, statement):
    with pytest.raises(ConfigError, match=r"config.py:\d: "):
        read_config(write(statement))


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_soon(write, name):
    path = write(BOMBS[name], base="x = dict(a=1)")
    start = time.process_time()
    with pytest.raises(ConfigError, match=r"config.py[: ]"):
        read_config(path)
    assert time.process_time() - start < 5


def test_placeholders_do_not_slow_the_search(write):
    path = write("x = '" + "{{$a:" * 20_000 + "'\ny = '{{$a:" + " " * 40_000 + "'")
    start = time.process_time()
    assert set(read_config(path)) == {"x", "y"}
    assert time.process_time() - start < 5
