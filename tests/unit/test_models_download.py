"""Fetching weights from a server on this machine: checked, whole or not at all."""

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hlsgen.errors import HlsgenError
from hlsgen.models import download, load
from hlsgen.models.demo import WEIGHTS


class Server:
    """Serves `files` by path; `lengths` overrides what it announces."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.lengths: dict[str, int] = {}
        self.asked: list[str] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                body = outer.files.get(self.path)
                self.send_response(404 if body is None else 200)
                self.send_header("Content-Length", str(outer.lengths.get(self.path, len(body or b""))))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *_: object) -> None:
                return None

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    made = Server()
    monkeypatch.setenv(download.URL_VARIABLE, made.url)
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "YOLO_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.delenv("http_proxy", raising=False)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    yield made
    made.http.shutdown()
    made.http.server_close()


def cached() -> list[str]:
    folder = download.cache_folder()
    return sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []


def test_a_checked_download_is_kept_and_used_again(server: Server) -> None:
    data = WEIGHTS.read_bytes()
    server.files = {
        "/yolov8n.pt": data,
        "/yolov8n.pt.sha256": f"{hashlib.sha256(data).hexdigest()}  yolov8n.pt\n".encode(),
    }
    loaded = load("yolo", None, (64, 64))
    assert loaded.notice is None
    assert loaded.weights == str(download.cache_folder() / "yolov8n.pt")
    assert cached() == ["yolov8n.pt"]
    before = len(server.asked)
    assert load("yolo", None, (64, 64)).weights == loaded.weights
    assert len(server.asked) == before


def test_a_download_without_published_checksum_says_so(server: Server) -> None:
    server.files = {"/yolov8n.pt": WEIGHTS.read_bytes()}
    assert "no published checksum" in str(load("yolo", None, (64, 64)).notice)


@pytest.mark.parametrize("name", ["yolov8n", "yolov5nu"])
@pytest.mark.parametrize("wrong", ["checksum", "truncated", "content", "no checksum"])
def test_a_bad_download_is_an_error_and_leaves_nothing(server: Server, name: str, wrong: str) -> None:
    data, path = WEIGHTS.read_bytes(), f"/{name}.pt"
    server.files = {path: data, f"{path}.sha256": hashlib.sha256(data).hexdigest().encode()}
    message = {
        "checksum": "expected SHA-256",
        "truncated": "truncated|broke",
        "content": "zip",
        "no checksum": "hexadecimal",
    }
    if wrong == "checksum":
        server.files[path] = data[:-1] + b"x"
    elif wrong == "truncated":
        server.lengths[path] = len(data) + 5
    elif wrong == "content":
        server.files = {path: b"<html>please log in</html>"}
    else:
        server.files[f"{path}.sha256"] = b"<html>"
    with pytest.raises(HlsgenError, match=message[wrong]):
        load(name, None, (64, 64))
    assert cached() == []


def test_weights_of_another_network_are_not_kept(server: Server) -> None:
    server.files = {"/yolov8s.pt": WEIGHTS.read_bytes()}
    with pytest.raises(HlsgenError, match="expected yolov8s, it holds yolov8n"):
        load("yolov8s", None, (64, 64))
    assert cached() == []


def test_without_the_file_yolov8n_falls_back_to_the_demo_loudly(server: Server) -> None:
    loaded = load("yolo", None, (64, 64))
    assert loaded.weights == "demo"
    assert "answered 404: DEMO WEIGHTS" in str(loaded.notice)
    with pytest.raises(HlsgenError, match=r"yolov8m\.pt .* could not be downloaded .* give --weights FILE"):
        load("yolov8m", None, (64, 64))


def test_offline_is_the_same(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(download.URL_VARIABLE, "http://127.0.0.1:9")  # the discard port: nobody listens
    assert "cannot be reached" in str(load("yolo", None, (64, 64)).notice)
    monkeypatch.delenv(download.URL_VARIABLE)
    monkeypatch.setenv("YOLO_OFFLINE", "true")
    assert "YOLO_OFFLINE is set" in str(load("yolo", None, (64, 64)).notice)
    monkeypatch.setenv(download.URL_VARIABLE, "file:///etc")
    with pytest.raises(HlsgenError, match="expects an http or https address"):
        load("yolo", None, (64, 64))


def test_ultralytics_own_folder_is_looked_in(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "yolov8n.pt").write_bytes(WEIGHTS.read_bytes())
    settings = tmp_path / "YOLO_CONFIG_DIR" / "Ultralytics"
    settings.mkdir(parents=True)
    (settings / "settings.json").write_text(json.dumps({"weights_dir": str(folder)}))
    assert load("yolov8n", None, (64, 64)).weights == str(folder / "yolov8n.pt")
    assert server.asked == []


def test_github_publishes_digests(server: Server) -> None:
    url = f"{download.PUBLISHED}/yolov8n.pt"
    path = "/repos/ultralytics/assets/releases/tags/v8.4.0"
    server.files[path] = json.dumps({"assets": [{"name": "yolov8n.pt", "digest": "sha256:" + "ab" * 32}]}).encode()
    assert download._checksum(url, "yolov8n.pt", server.url) == "ab" * 32
    assert download._checksum(url, "yolov8s.pt", server.url) is None
    server.files[path] = json.dumps({"assets": [{"name": "yolov8n.pt", "digest": None}]}).encode()
    assert download._checksum(url, "yolov8n.pt", server.url) is None


def test_a_folder_that_cannot_be_written_is_named(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(HlsgenError, match="weights cannot be written there"):
        load("yolo", None, (64, 64))
