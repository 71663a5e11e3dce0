"""The package: quick to import, and whole when it is installed."""

import shutil
import zipfile
from pathlib import Path

import pytest

import runs

ROOT = Path(__file__).parent.parent


def test_import_is_quick_and_touches_no_device(tmp_path):
    code = (
        "import sys, time; began = time.process_time(); import jaxseg; took = time.process_time() - began\n"
        "loaded = {'jax', 'numpy', 'flax', 'cv2', 'matplotlib'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
        "assert took < 2, took\n"
        "jaxseg.list_models()\n"
        "assert 'jax' not in sys.modules\n"
        "assert jaxseg.__version__\n"
    )
    runs.python("-c", code, cwd=tmp_path)


def test_names():
    import jaxseg

    for name in jaxseg.__all__:
        assert callable(getattr(jaxseg, name))
    with pytest.raises(AttributeError, match="no attribute 'Segmentor'"):
        jaxseg.Segmentor  # noqa: B018


def test_all_packages_are_listed():
    """A package that setup.cfg does not list is missing from the wheel."""
    import configparser

    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    there = {
        ".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "jaxseg").rglob("*.py") if path.is_file()
    }
    assert listed == there | {"jaxseg.configs"}


def test_wheel(tmp_path):
    source = tmp_path / "source"
    for name in ("jaxseg", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = ("-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "--wheel-dir", "..")
    runs.python(*build, cwd=source)
    (wheel,) = tmp_path.glob("jaxseg-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    assert {path.name for path in (tmp_path / "installed" / "jaxseg" / "configs").glob("*.py")} == {
        path.name for path in (ROOT / "configs").glob("*.py")
    }

    empty = tmp_path / "empty"
    empty.mkdir()
    installed = {"PYTHONPATH": str(tmp_path / "installed")}
    code = "import jaxseg, jaxseg.configs; print(jaxseg.__file__, jaxseg.configs.__file__, *jaxseg.list_models())"
    files = runs.python("-c", code, cwd=empty, **installed).out.split()
    assert all(path.startswith(str(tmp_path / "installed")) for path in files[:2])
    assert {"demo", "cgnet_camvid"} <= set(files[2:])
    said = runs.command("train", "--config=configs/folder.py", cwd=empty, expect=2, **installed).err
    assert "data.root" in said or "data.classes" in said
    assert list(empty.iterdir()) == []
