"""The published checkpoints: the table is whole, and only whole, right files end up in the cache."""

import contextlib
import dataclasses
import hashlib
import http.server
import os
import random
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

import runs
from jaxseg.errors import CheckpointError, ConfigError
from jaxseg.mmseg import zoo

CONTENT = random.Random(0).randbytes(300_000)
HALF = len(CONTENT) // 2
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FILE = f"cgnet_680x680_20201101_110253-{SHA256[:8]}.pth"
PATH = f"/v0.5/cgnet/cgnet_680x680/{FILE}"
ENTRY = dataclasses.replace(zoo.find("cgnet_fcn_4xb4-60k_cityscapes-680x680"), url=zoo.BASE_URL + PATH)
PROCESS = """
import sys
from jaxseg.mmseg import zoo
name, url, cache, mirror = sys.argv[1:]
entry = zoo.ZooEntry(name, "", "", "", {}, url, 1, None, "")
print("has", zoo.download(entry, cache=cache, mirror=mirror))
"""


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT at `server.path`, in the way that `server.ways` has for the next request."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.requests.append((self.path, wanted))
        way = server.ways.pop(0) if server.ways else server.otherwise
        body, start, status, headers = CONTENT, 0, 200, {}
        if self.path != server.path:
            way, status, body = "answer", 404, b"no"
        elif isinstance(way, int):
            status, body = way, b"no"
        elif way == "wrong":
            body = CONTENT[:-1] + b"?"
        elif way == "page":
            body = b"<html>Log in first</html>"
        elif way == "redirect":
            status, body, headers = 302, b"", {"Location": self.path}
        elif wanted and way != "ignore range":
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
            status = 206 if start < len(CONTENT) else 416
            if way == "another part":
                start //= 2
            headers = {"Content-Range": f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if way == "no length":
            self.close_connection = True
        else:
            self.send_header("Content-Length", len(body) - start if status != 416 else 0)
        self.end_headers()
        if status == 416:
            return
        if way in ("break", "stall"):
            self.wfile.write(body[start:HALF])
            self.close_connection = True
            if way == "stall":
                server.go_on.wait(20)
            return
        self.wfile.write(body[start:])

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.path = PATH
        self.requests = []  # (path, range)
        self.ways = []  # of the next requests
        self.otherwise = "whole"  # of all after those
        self.go_on = threading.Event()

    @property
    def ranges(self):
        return [wanted for _, wanted in self.requests]

    def handle_error(self, *_):
        pass  # a client that went away


@pytest.fixture(scope="module")
def shared_server():
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.go_on.set()
        server.shutdown()


@pytest.fixture
def server(shared_server):
    shared_server.path, shared_server.otherwise = PATH, "whole"
    shared_server.requests.clear()
    shared_server.ways.clear()
    shared_server.go_on.clear()
    yield shared_server
    shared_server.go_on.set()


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setattr(zoo, "WAIT", 0.001)
    monkeypatch.setenv("no_proxy", "*")
    for name in ("JAXSEG_CACHE", "JAXSEG_MIRROR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def part_of(cache):
    return cache / f"{FILE}.part"


def check_cache(cache):
    """The file is there, whole, and nothing else is."""
    assert os.listdir(cache) == [FILE]
    assert (cache / FILE).read_bytes() == CONTENT


def start_process(folder, name, cache, server):
    log = folder / f"{name}.log"
    return runs.start(["-c", PROCESS, name, ENTRY.url, cache, server.url], folder, log), log


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# The table.


def test_every_entry_is_well_formed():
    entries = zoo.entries()
    assert len(entries) == 626
    for name, entry in entries.items():
        assert entry.name == name
        assert re.fullmatch(rf"{re.escape(zoo.BASE_URL)}/v0\.5/[a-z0-9_]+/([^/*\s]+/)?[^/*\s]+\.pth", entry.url)
        assert re.fullmatch(r"[0-9a-f]{8}", entry.sha256_prefix)
        assert entry.url.endswith(f"-{entry.sha256_prefix}.pth")
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9 +_.-]*", entry.dataset)
        assert entry.collection
        assert entry.paper.startswith("http")
        assert entry.memory_gb is None or 0 < entry.memory_gb < 80
        assert tuple(entry.metrics) in {("mIoU", "mIoU(ms+flip)"), ("mIoU",), ("mDice", "Dice"), ("RMSE",)}
        assert all(0 < score < 100 for score in entry.metrics.values())
        gpus_and_images = re.search(r"_(\d+)xb?(\d+)[_-]", name)
        if gpus_and_images:
            assert entry.batch_size == int(gpus_and_images[1]) * int(gpus_and_images[2])
    for field in ("url", "file_name"):
        assert len({getattr(entry, field) for entry in entries.values()}) == 626
    assert len(set(entries.values())) == 626  # hashable


def test_names_agree_with_the_files():
    """Depth, schedule and crop in the recipe's name are those in the file's."""
    compared = 0
    for entry in zoo.entries().values():
        for pattern in (r"_(r(?:18|50|101)b?)-d", r"-(\d+k)_", r"-(\d+x\d+)$", r"(mg124|pcpvt-.|svt-.|hr18s?)"):
            if found := re.search(pattern, entry.name):
                if entry.name.startswith(("san", "fast_scnn")):  # those do not say
                    continue
                compared += 1
                assert re.search(rf"(^|[_-]){found[1]}[_-]", entry.file_name), entry
    assert compared > 1600


def test_known_entries():
    entry = zoo.find("pspnet_r50-d8_4xb2-40k_cityscapes-512x1024")
    assert entry == zoo.ZooEntry(
        name="pspnet_r50-d8_4xb2-40k_cityscapes-512x1024",
        method="pspnet",
        collection="PSPNet",
        dataset="Cityscapes",
        metrics={"mIoU": 77.85, "mIoU(ms+flip)": 79.18},
        url="https://download.openmmlab.com/mmsegmentation/v0.5/pspnet/pspnet_r50-d8_512x1024_40k_cityscapes/"
        "pspnet_r50-d8_512x1024_40k_cityscapes_20200605_003338-2966598c.pth",
        batch_size=8,
        memory_gb=6.1,
        paper="https://arxiv.org/abs/1612.01105",
    )
    assert entry.file_name == "pspnet_r50-d8_512x1024_40k_cityscapes_20200605_003338-2966598c.pth"
    assert entry.sha256_prefix == "2966598c"
    assert zoo.find(entry.file_name) is entry
    # Without a folder of its own, and with a folder of another name than the file's.
    assert zoo.find("san-vit-b16_coco-stuff164k-640x640").url.endswith("/v0.5/san/san-vit-b16_20230906-fd0a7684.pth")
    assert zoo.find("pspnet_r50-d8-rsb_4xb2-adamw-80k_cityscapes-512x1024").url.endswith(
        "/pspnet_r50-d8_512x1024_80k_cityscapes/"
        "pspnet_r50-d8_rsb-pretrain_512x1024_adamw_80k_cityscapes_20220315_123238-588c30be.pth"
    )
    datasets = Counter(entry.dataset for entry in zoo.entries().values())
    assert datasets.most_common(3) == [("Cityscapes", 281), ("ADE20K", 176), ("Pascal VOC 2012 + Aug", 60)]
    assert len(datasets) == 17


@pytest.mark.parametrize(
    ("name", "sha256_prefix"),
    [
        ("bisenetv1_r101-d32_4xb4-160k_coco-stuff164k-512x512", "c6b32c3b"),
        ("deeplabv3plus_r101-d16-mg124_4xb2-40k_cityscapes-512x1024", "cf9ce186"),
        ("deeplabv3plus_r101-d8_4xb4-160k_ade20k-512x512", "38ed86bb"),
        ("deeplabv3plus_r101-d8_4xb4-80k_ade20k-512x512", "d5730af7"),
        ("deeplabv3plus_r101-d8_4xb4-40k_pascal-context-480x480", "d3c8a29e"),
        ("emanet_r50-d8_4xb2-80k_cityscapes-512x1024", "c43fcef1"),
        ("fastfcn_r50-d32_jpu_psp_4xb2-80k_cityscapes-512x1024", "57749bed"),
        ("fastfcn_r50-d32_jpu_psp_4xb4-80k_cityscapes-512x1024", "77e87b0a"),
        ("fpn_poolformer_s36_8x4_512x512_40k_ade20k", "b47e607d"),
        ("ocrnet_hr18_4xb4-160k_ade20k-512x512", "d8fcd9d1"),
        ("ocrnet_hr18s_4xb4-80k_ade20k-512x512", "e80b62af"),
        ("pspnet_r101-d8_4xb2-80k_cityscapes-769x769", "dba412fa"),
        ("pspnet_r50-d32_4xb2-80k_cityscapes-512x1024", "9092b254"),
        ("pspnet_r50b-d32_4xb2-80k_cityscapes-512x1024", "23bcaf8c"),
        ("twins_svt-l_uperhead_8xb2-160k_ade20k-512x512", "3e2cae61"),
    ],
)
def test_what_was_published_under_wrong_names(name, sha256_prefix):
    assert zoo.find(name).sha256_prefix == sha256_prefix


def test_names():
    assert zoo.names() == sorted(zoo.entries())
    assert zoo.names("cgnet*") == ["cgnet_fcn_4xb4-60k_cityscapes-680x680", "cgnet_fcn_4xb8-60k_cityscapes-512x1024"]
    assert zoo.names("nothing*") == []


def test_unknown_names():
    with pytest.raises(
        ConfigError, match=r"no checkpoint of this name. Did you mean cgnet_fcn_4xb4-60k_cityscapes-680"
    ):
        zoo.find("cgnet_fcn_4xb4_60k_cityscapes-680x680")
    with pytest.raises(ConfigError, match=r"Did you mean cgnet_680x680_60k_cityscapes_20201101_110253-4c0b2f2d.pth"):
        zoo.download("cgnet_680x680_60k_cityscapes_20201101_110253-4c0b2f2e.pth")


# Downloading.


def test_download(server, cache, capsys):
    assert zoo.download(ENTRY, cache=cache, mirror=server.url) == cache / FILE
    check_cache(cache)
    assert server.requests == [(PATH, None)]
    assert capsys.readouterr().err == f"downloading {server.url}{PATH} to {cache}\n"
    before = (cache / FILE).stat().st_mtime_ns
    zoo.download(ENTRY, cache=cache, mirror=server.url)
    assert (cache / FILE).stat().st_mtime_ns == before
    assert len(server.requests) == 1
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")


def test_published_address(server, cache):
    server.path = "/elsewhere/" + FILE
    zoo.download(dataclasses.replace(ENTRY, url=server.url + server.path), cache=cache)
    check_cache(cache)


def test_environment(server, cache, monkeypatch, capsys):
    monkeypatch.setenv("JAXSEG_CACHE", str(cache))
    monkeypatch.setenv("JAXSEG_MIRROR", server.url + "/")
    assert zoo.download(ENTRY, progress=False) == cache / FILE
    assert server.requests == [(PATH, None)]
    assert capsys.readouterr().err == ""


def test_cache_in_the_home_folder(server, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert zoo.download(ENTRY, mirror=server.url) == tmp_path / ".cache/jaxseg/checkpoints" / FILE


def test_flat_mirror(server, cache):
    server.path = f"/files/{FILE}"
    zoo.download(ENTRY, cache=cache, mirror=f"{server.url}/files")
    assert [path for path, _ in server.requests] == [f"/files{PATH}", f"/files/{FILE}"]
    check_cache(cache)


@pytest.mark.parametrize("below", ["", os.path.dirname(PATH)[1:]])
@pytest.mark.parametrize("as_url", [True, False])
def test_folder_as_mirror(below, as_url, tmp_path, cache):
    folder = tmp_path / "a mirror" / below
    folder.mkdir(parents=True)
    (folder / FILE).write_bytes(CONTENT)
    mirror = tmp_path / "a mirror"
    zoo.download(ENTRY, cache=cache, mirror=mirror.as_uri() if as_url else mirror)
    check_cache(cache)


def test_not_in_the_mirror(server, tmp_path, cache):
    with pytest.raises(CheckpointError, match=rf"is not at .*/v0.5/.* or file://.*/{FILE} \(No such file.*Fetch http"):
        zoo.download(ENTRY, cache=cache, mirror=tmp_path)
    server.path = None
    with pytest.raises(CheckpointError) as error:
        zoo.download(ENTRY, cache=cache, mirror=server.url)
    assert f"{ENTRY.name} is not at {server.url}{PATH} or {server.url}/{FILE} (HTTP 404 Not Found). " in str(
        error.value
    )
    assert "JAXSEG_MIRROR" in str(error.value)
    assert os.listdir(cache) == []
    with pytest.raises(ConfigError, match=r"mirror=ftp://there: an http://, https:// or file:// address, or a folder"):
        zoo.download(ENTRY, cache=cache, mirror="ftp://there")


def test_redirect(server, cache):
    server.ways = ["break", "redirect"]
    zoo.download(ENTRY, cache=cache, mirror=server.url)
    assert server.ranges == [None, f"bytes={HALF}-", f"bytes={HALF}-"]
    check_cache(cache)


def test_broken_off_once(server, cache, capsys):
    server.ways = ["break"]
    zoo.download(ENTRY, cache=cache, mirror=server.url)
    assert server.ranges == [None, f"bytes={HALF}-"]
    check_cache(cache)
    assert "broke off (the server closed the connection early); trying again" in capsys.readouterr().err


def test_broken_off_always_and_continued_by_the_next_call(server, cache):
    server.otherwise = "break"
    with pytest.raises(CheckpointError) as error:
        zoo.download(ENTRY, cache=cache, mirror=server.url)
    assert f"The next call continues from the {HALF} of {len(CONTENT)} bytes that are in {part_of(cache)}" in str(
        error.value
    )
    assert os.listdir(cache) == [part_of(cache).name]
    assert server.ranges == [None] + [f"bytes={HALF}-"] * zoo.TRIES
    server.requests.clear()
    server.otherwise = "whole"
    zoo.download(ENTRY, cache=cache, mirror=server.url)
    assert server.ranges == [f"bytes={HALF}-"]
    check_cache(cache)


@pytest.mark.parametrize("way", ["ignore range", "another part"])
def test_server_without_ranges(way, server, cache):
    cache.mkdir()
    part_of(cache).write_bytes(CONTENT[:HALF])
    server.ways = [way]
    zoo.download(ENTRY, cache=cache, mirror=server.url)
    check_cache(cache)
    assert server.ranges == [f"bytes={HALF}-"] + [None] * (way == "another part")


def test_server_without_ranges_that_always_breaks_off(server, cache, monkeypatch):
    monkeypatch.setattr(zoo, "TRIES", 2)
    server.ways = ["break", "ignore range", 500, "break", 503]
    zoo.download(ENTRY, cache=cache, mirror=server.url)
    check_cache(cache)


def test_no_length(server, cache):
    server.ways = ["no length"]
    zoo.download(ENTRY, cache=cache, mirror=server.url)
    check_cache(cache)


def test_stalled(server, cache, monkeypatch):
    monkeypatch.setattr(zoo, "TIMEOUT", 0.2)
    server.ways = ["stall"]
    zoo.download(ENTRY, cache=cache, mirror=server.url)
    assert server.ranges == [None, f"bytes={HALF}-"]
    check_cache(cache)


@pytest.mark.parametrize("partial", [CONTENT, CONTENT[:-1] + b"?", CONTENT + b"more", b"?" * 1000])
def test_partial_file(partial, server, cache):
    """Whole, of wrong bytes, too long, and of another file."""
    cache.mkdir()
    part_of(cache).write_bytes(partial)
    zoo.download(ENTRY, cache=cache, mirror=server.url)
    assert server.ranges == [f"bytes={len(partial)}-"] + [None] * (partial != CONTENT)
    check_cache(cache)


@pytest.mark.parametrize("way", ["wrong", "page"])
def test_wrong_bytes(way, server, cache, capsys):
    server.ways = [way]
    zoo.download(ENTRY, cache=cache, mirror=server.url)
    check_cache(cache)
    assert "wrong bytes came" in capsys.readouterr().err
    (cache / FILE).unlink()
    server.requests.clear()
    server.otherwise = way
    with pytest.raises(
        CheckpointError, match=rf"{PATH} .*not the published.*begins with {SHA256[:8]}, found [0-9a-f]{{64}}"
    ):
        zoo.download(ENTRY, cache=cache, mirror=server.url)
    assert server.ranges == [None, None]
    assert os.listdir(cache) == []


@pytest.mark.parametrize("status", [401, 404, 503])
def test_status(status, server, cache):
    server.otherwise = status
    with pytest.raises(
        CheckpointError, match=rf"(is not at|be downloaded from) {server.url}{PATH} \(HTTP {status} .*Fetch"
    ):
        zoo.download(dataclasses.replace(ENTRY, url=server.url + PATH), cache=cache)
    assert len(server.requests) == (zoo.TRIES if status == 503 else 1)
    assert os.listdir(cache) == []


def test_offline(cache):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    mirror = f"http://127.0.0.1:{port}"
    began = time.monotonic()
    with pytest.raises(CheckpointError) as error:
        zoo.download(ENTRY, cache=cache, mirror=mirror)
    assert time.monotonic() - began < 5
    assert str(error.value) == (
        f"{ENTRY.name} cannot be downloaded from {mirror}{PATH} (Connection refused). "
        f"Fetch {ENTRY.url} elsewhere and put it at {cache / FILE}, or set JAXSEG_MIRROR to the address or the folder "
        "of a copy of https://download.openmmlab.com/mmsegmentation."
    )
    assert os.listdir(cache) == []
    (cache / FILE).write_bytes(CONTENT)
    assert zoo.download(ENTRY, cache=cache, mirror=mirror) == cache / FILE


def test_unknown_host(cache, monkeypatch):
    def fail(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(CheckpointError, match=rf"from {re.escape(ENTRY.url)} \(Name or service not known\). Fetch"):
        zoo.download(ENTRY, cache=cache)


# The cache.


@pytest.mark.parametrize("damaged", [b"", CONTENT[:-1], CONTENT[:-1] + b"?"])
def test_damaged_file_in_the_cache(damaged, server, cache, capsys):
    cache.mkdir()
    (cache / FILE).write_bytes(damaged)
    zoo.download(ENTRY, cache=cache, mirror=server.url)
    check_cache(cache)
    assert f"{cache / FILE} is damaged; downloading it again" in capsys.readouterr().err


def test_read_only_cache(server, cache):
    cache.mkdir()
    (cache / FILE).write_bytes(CONTENT)
    before = cache.stat().st_mtime_ns
    (cache / FILE).chmod(0o444)
    cache.chmod(0o555)
    zoo.download(ENTRY, cache=cache, mirror=server.url)
    cache.chmod(0o755)
    assert cache.stat().st_mtime_ns == before
    assert server.requests == []


def test_cache_that_is_no_folder(server, cache):
    cache.write_text("")
    with pytest.raises(CheckpointError, match=rf"cannot use {cache}/.*\(Not a directory\). Set JAXSEG_CACHE"):
        zoo.download(ENTRY, cache=cache, mirror=server.url)


@contextlib.contextmanager
def full_disk(size):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_full_disk(server, cache):
    said = (
        rf"cannot write to {part_of(cache)} \(File too large\). The next call continues from the 1234 of 300000 bytes"
    )
    with full_disk(1234), pytest.raises(CheckpointError, match=said):
        zoo.download(ENTRY, cache=cache, mirror=server.url)
    zoo.download(ENTRY, cache=cache, mirror=server.url)
    assert server.ranges == [None, "bytes=1234-"]
    check_cache(cache)


# Several at a time.


def test_threads_download_once(server, cache):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: zoo.download(ENTRY, cache=cache, mirror=server.url), range(8)))
    assert found == [cache / FILE] * 8
    assert len(server.requests) == 1
    check_cache(cache)


def test_processes_wait_and_outlive_one_that_is_killed(server, tmp_path, cache):
    """The first is killed half-way, one of those that wait goes on from there, and the other uses its file."""
    server.ways = ["stall"]
    first, _ = start_process(tmp_path, "first", cache, server)
    wait_for(lambda: part_of(cache).exists() and part_of(cache).stat().st_size == HALF)
    second, log = start_process(tmp_path, "second", cache, server)
    with ThreadPoolExecutor(1) as pool:
        third = pool.submit(zoo.download, ENTRY, cache=cache, mirror=server.url)
        wait_for(lambda: "another process is downloading" in log.read_text())
        assert len(server.requests) == 1
        assert not third.done()
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert third.result(timeout=30) == cache / FILE
    assert second.wait(timeout=30) == 0, log.read_text()
    assert f"has {cache / FILE}" in log.read_text()
    assert server.ranges == [None, f"bytes={HALF}-"]
    check_cache(cache)


def test_progress_bar(server, cache):
    terminal, end = os.openpty()
    words = [sys.executable, "-c", PROCESS, "first", ENTRY.url, str(cache), server.url]
    process = subprocess.Popen(words, env=runs.environment(TERM="xterm"), stdout=subprocess.DEVNULL, stderr=end)
    os.close(end)
    said = b""
    with contextlib.suppress(OSError):  # how Linux ends what a terminal says
        while data := os.read(terminal, 1024):
            said += data
    os.close(terminal)
    assert process.wait(timeout=30) == 0, said
    assert b"300.0/300.0 kB" in said
    check_cache(cache)
