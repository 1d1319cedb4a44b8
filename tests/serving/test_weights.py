"""Files come from a real server on this machine: whole or not at all, on from where they stopped, and only the right ones."""

from __future__ import annotations

import hashlib
import json
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from configs.registry import ConfigError, MissingExtra
from configs.schema import BackendConfig, WeightFile, preset, presets
from serving.weights import NOTE, PullFailed, _Seen, changed, missing_line, plan, pull

BYTES = bytes(range(256)) * 4096  # 1 MiB
DIGEST = hashlib.sha256(BYTES).hexdigest()


@dataclass
class Hub:
    """A model hub: what it holds by path, what it was asked, and how many bytes it gives before it hangs up."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # path, Range
    tokens: list[tuple[str, str | None]] = field(default_factory=list)
    hang_up_after: int | None = None
    ranges: bool = True
    gate: int | None = None
    listing: list[dict[str, Any]] = field(default_factory=list)
    moved_to: str = ""  # another host that the bytes lie on
    more: int = 0  # how often a file is sent once more, without a length

    @property
    def environ(self) -> dict[str, str]:
        return {"HF_ENDPOINT": self.address}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        hub, asked = self.hub, self.headers.get("Range")
        hub.asked.append((self.path, asked))
        hub.tokens.append((self.path, self.headers.get("Authorization")))
        if hub.gate:
            self._send(hub.gate, b"")
        elif self.path.startswith("/api/models/"):
            self._send(200, json.dumps(hub.listing).encode())
        elif hub.moved_to and "/resolve/" in self.path:
            name = self.path.rpartition("/")[2]
            digest = hashlib.sha256(hub.files[name]).hexdigest()
            self._send(
                302,
                b"",
                Location=f"{hub.moved_to}/cdn/{name}",
                **{"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(hub.files[name]))},
            )
        else:
            self._file(hub.files.get(self.path.rpartition("/")[2]), asked)

    def _file(self, content: bytes | None, asked: str | None) -> None:
        if content is None:
            self._send(404, b"")
            return
        start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked and self.hub.ranges else 0
        if start >= len(content) > 0:
            self._send(416, b"")
            return
        self.send_response(206 if start else 200)
        if self.hub.more:
            self.close_connection = True
            self.end_headers()
            self.wfile.write(content * (1 + self.hub.more))
            return
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        limit = self.hub.hang_up_after
        self.wfile.write(content[start:] if limit is None else content[start : start + limit])
        if limit is not None:
            self.close_connection = True

    def _send(self, code: int, body: bytes, **headers: str) -> None:
        self.send_response(code)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def hub() -> Iterator[Hub]:
    made = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Handler,), {"hub": made}))
    made.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


def row(*files: WeightFile, **fields: Any) -> BackendConfig:
    base = {"name": "mine", "system": "Mine", "backend": "x", "licence": "MIT", "sample_rate": 8000, "max_seconds": 1}
    return BackendConfig(**base, accepts={"text"}, tasks={"sound"}, files=files, **fields)


def weights(**fields: Any) -> WeightFile:
    return WeightFile(**{"path": "w.bin", "bytes": len(BYTES), "source": "someone/model", **fields})


def here(home: Path) -> dict[str, bytes]:
    folder = home / "checkpoints" / "mine"
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_file_comes_from_the_hub_and_its_hash_is_noted(hub: Hub, tmp_path: Path) -> None:
    hub.files["w.bin"] = BYTES
    came = pull(plan(row(weights()), tmp_path), environ=hub.environ)
    assert came == [tmp_path / "checkpoints" / "mine" / "w.bin"] and hub.asked == [("/someone/model/resolve/main/w.bin", None)]
    held = here(tmp_path)
    assert held["w.bin"] == BYTES and set(held) == {"w.bin", NOTE}
    assert json.loads(held[NOTE])["w.bin"] == {"sha256": DIGEST, "bytes": len(BYTES), "source": "someone/model"}


def test_what_is_here_is_not_fetched_again(hub: Hub, tmp_path: Path) -> None:
    hub.files["w.bin"] = BYTES
    wanted = row(weights(sha256=DIGEST))
    pull(plan(wanted, tmp_path), environ=hub.environ)
    assert plan(wanted, tmp_path).wanted == ()


def test_a_broken_download_leaves_no_file_and_goes_on_where_it_stopped(hub: Hub, tmp_path: Path) -> None:
    hub.files["w.bin"], hub.hang_up_after = BYTES, 300_000
    wanted = row(weights(sha256=DIGEST))
    with pytest.raises(PullFailed, match=r"300 kB.*goes on there"):
        pull(plan(wanted, tmp_path), environ=hub.environ)
    assert list(here(tmp_path)) == [".w.bin.part"]
    hub.hang_up_after = None
    pull(plan(wanted, tmp_path), environ=hub.environ)
    assert here(tmp_path)["w.bin"] == BYTES and hub.asked[-1][1] == "bytes=300000-"


def test_a_server_that_cannot_go_on_is_read_from_the_start(hub: Hub, tmp_path: Path) -> None:
    hub.files["w.bin"], hub.ranges = BYTES, False
    part = tmp_path / "checkpoints" / "mine" / ".w.bin.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"the start of something else")
    pull(plan(row(weights(sha256=DIGEST)), tmp_path), environ=hub.environ)
    assert here(tmp_path)["w.bin"] == BYTES


def test_a_part_that_was_whole_already_gets_its_name(hub: Hub, tmp_path: Path) -> None:
    hub.files["w.bin"] = BYTES
    part = tmp_path / "checkpoints" / "mine" / ".w.bin.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(BYTES)
    pull(plan(row(weights(sha256=DIGEST)), tmp_path), environ=hub.environ)
    assert here(tmp_path)["w.bin"] == BYTES


@pytest.mark.parametrize("stated", ["by the row", "by the hub"])
def test_another_file_than_the_one_that_was_promised_is_thrown_away(hub: Hub, tmp_path: Path, stated: str) -> None:
    if stated == "by the row":
        hub.files["w.bin"] = BYTES[::-1]
        wanted = row(weights(sha256=DIGEST))
    else:
        hub.listing = [{"type": "file", "path": "w.bin", "size": len(BYTES), "lfs": {"oid": DIGEST}}]
        hub.files["w.bin"] = BYTES[::-1]
        wanted = row(weights(whole=True))
    with pytest.raises(PullFailed, match=r"'w\.bin' from someone/model is not the file that was expected \(sha256 .*thrown away"):
        pull(plan(wanted, tmp_path), environ=hub.environ)
    assert [name for name in here(tmp_path) if name != NOTE] == []


def test_the_hash_that_the_hub_states_before_it_sends_us_on_is_held_and_no_token_goes_elsewhere(hub: Hub, tmp_path: Path) -> None:
    hub.files["w.bin"], hub.moved_to = BYTES, hub.address.replace("127.0.0.1", "localhost")
    pull(plan(row(weights()), tmp_path), environ={**hub.environ, "HF_TOKEN": "secret"})
    assert here(tmp_path)["w.bin"] == BYTES
    assert hub.tokens == [("/someone/model/resolve/main/w.bin", "Bearer secret"), ("/cdn/w.bin", None)]


def test_a_folder_is_taken_as_the_hub_lists_it_without_other_forms_of_the_same_weights(hub: Hub, tmp_path: Path) -> None:
    names = ["unet/config.json", "unet/model.safetensors", "unet/model.bin", "unet/model.fp16.safetensors", "vae/config.json"]
    hub.listing = [{"type": "file", "path": name, "size": 3} for name in names] + [{"type": "directory", "path": "unet"}]
    hub.files = {"config.json": b"{} ", "model.safetensors": b"abc"}
    wanted = row(weights(path="unet", whole=True))
    pull(plan(wanted, tmp_path), environ=hub.environ)
    assert {name for name in here(tmp_path) if name != NOTE} == {"unet/config.json", "unet/model.safetensors"}
    assert plan(wanted, tmp_path).wanted == ()
    (tmp_path / "checkpoints" / "mine" / "unet" / "config.json").unlink()
    assert len(plan(wanted, tmp_path).wanted) == 1


def test_a_list_that_leads_out_of_the_folder_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.listing = [{"type": "file", "path": "unet/../../../evil.bin", "size": 3}]
    hub.files["evil.bin"] = b"abc"
    with pytest.raises(PullFailed, match="no plain path"):
        pull(plan(row(weights(path="unet", whole=True)), tmp_path), environ=hub.environ)
    assert not list(tmp_path.rglob("evil.bin"))


def test_a_listed_folder_brings_no_program_text_and_not_far_more_than_was_agreed_to(hub: Hub, tmp_path: Path) -> None:
    hub.files = {"a.safetensors": BYTES, "evil.py": b"raise SystemExit"}
    hub.listing = [{"type": "file", "path": f"part/{name}", "size": len(content)} for name, content in hub.files.items()]
    wanted = row(WeightFile(path="part", whole=True, bytes=1, source="owner/name"))
    assert [path.name for path in pull(plan(wanted, tmp_path), environ=hub.environ)] == ["a.safetensors"]
    hub.listing[0]["size"] = 10**12
    with pytest.raises(PullFailed, match=r"lists 1000.0 GB .* about 1 B were agreed to"):
        pull(plan(wanted, tmp_path / "again"), environ=hub.environ)


@pytest.mark.parametrize("listing", [{"error": "no such repository"}, ["part/a"], [{"type": "file", "path": "part/a"}], "login"])
def test_an_answer_that_is_no_list_of_files_is_one_line(listing: Any, hub: Hub, tmp_path: Path) -> None:
    hub.listing = listing
    with pytest.raises(PullFailed, match="did not answer with a list of files"):
        pull(plan(row(WeightFile(path="part", whole=True, bytes=1, source="owner/name")), tmp_path), environ=hub.environ)


def test_a_stream_without_an_end_does_not_fill_the_disk(hub: Hub, tmp_path: Path) -> None:
    hub.files, hub.more = {"a.bin": BYTES}, 3
    with pytest.raises(PullFailed, match="sends more than the 1 MB that are its own"):
        pull(plan(row(WeightFile(path="a.bin", bytes=len(BYTES), sha256=DIGEST, source=f"{hub.address}/a.bin")), tmp_path))
    assert not list(tmp_path.rglob("*a.bin*"))


def test_nobody_is_sent_from_a_safe_connection_to_an_open_one() -> None:
    asked = urllib.request.Request("https://hub/resolve/a", headers={"Authorization": "Bearer mine"})
    with pytest.raises(PullFailed, match="anybody on the way"):
        _Seen().redirect_request(asked, None, 302, "Found", {}, "http://hub/resolve/a")
    further = _Seen().redirect_request(asked, None, 302, "Found", {}, "https://elsewhere/a")
    assert not further.has_header("Authorization")


@pytest.mark.parametrize("elsewhere", ["/etc", "../..", "a/../../../x"])
def test_nothing_is_fetched_into_a_folder_outside_of_the_checkpoints(elsewhere: str, tmp_path: Path) -> None:
    made = row(WeightFile(path="cron.d/job", bytes=1, source="https://example.org/a"), options={"checkpoint": elsewhere})
    with pytest.raises(ConfigError, match="files are fetched only below"):
        plan(made, tmp_path / "home")


@pytest.mark.parametrize(
    ("code", "words"), [(401, "accept the licence"), (403, "HF_TOKEN"), (404, "may have moved"), (503, "try again later")]
)
def test_a_refusal_says_what_to_do(hub: Hub, tmp_path: Path, code: int, words: str) -> None:
    hub.gate = code
    with pytest.raises(PullFailed, match=words):
        pull(plan(row(weights()), tmp_path), environ=hub.environ)
    assert [name for name in here(tmp_path)] == []


def test_no_connection_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(PullFailed, match="no connection to http://127"):
        pull(plan(row(weights()), tmp_path), environ={"HF_ENDPOINT": "http://127.0.0.1:9"})


def test_offline_nothing_is_fetched_but_a_folder_is_copied(hub: Hub, tmp_path: Path) -> None:
    hub.files["w.bin"] = BYTES
    wanted, own = row(weights(sha256=DIGEST)), tmp_path / "own"
    own.mkdir()
    (own / "w.bin").write_bytes(BYTES)
    with pytest.raises(PullFailed, match="HF_HUB_OFFLINE"):
        pull(plan(wanted, tmp_path), offline=True, environ=hub.environ)
    pull(plan(wanted, tmp_path), offline=True, local=own, environ=hub.environ)
    assert here(tmp_path)["w.bin"] == BYTES and hub.asked == []


def test_a_folder_with_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(BYTES[::-1])
    with pytest.raises(PullFailed, match="not the file that was expected"):
        pull(plan(row(weights(sha256=DIGEST)), tmp_path / "home"), local=tmp_path)
    assert here(tmp_path / "home") == {}


def test_what_a_person_must_get_is_said(tmp_path: Path) -> None:
    with pytest.raises(PullFailed, match=r"must be got by hand.*open the drive"):
        pull(plan(row(weights(source="by hand: open the drive")), tmp_path))


def test_more_than_the_disk_holds_is_not_begun(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(PullFailed, match="make room"):
        pull(plan(row(weights(bytes=10**15)), tmp_path), environ=hub.environ)
    assert hub.asked == []


def test_a_file_that_changed_after_it_came_is_found(hub: Hub, tmp_path: Path) -> None:
    hub.files["w.bin"] = BYTES
    wanted = row(weights())
    pull(plan(wanted, tmp_path), environ=hub.environ)
    assert changed(wanted, tmp_path) == {"w.bin": ""}
    (tmp_path / "checkpoints" / "mine" / "w.bin").write_bytes(b"other")
    assert "pull it again" in changed(wanted, tmp_path)["w.bin"]


def test_a_published_row_and_one_that_ships_with_loa_have_nothing_to_pull(tmp_path: Path) -> None:
    with pytest.raises(MissingExtra, match=r"published numbers only.*Nearest that runs: musicgen-medium"):
        plan(preset("musiclm"), tmp_path)
    with pytest.raises(ConfigError, match="comes with loa"):
        plan(preset("nano"), tmp_path)


@pytest.mark.parametrize("name", sorted(name for name, one in presets().items() if one.files))
def test_a_row_without_its_weights_names_file_size_licence_and_command(name: str, tmp_path: Path) -> None:
    line = missing_line(preset(name), tmp_path)
    assert preset(name).licence in line and ("MB" in line or "GB" in line) and str(tmp_path) in line
    assert f"loa models pull {name}" in line or "by hand" in line
    assert max(preset(name).files, key=lambda file: file.bytes).path in line


def test_published_rows_name_a_stand_in_that_is_a_row_and_runs() -> None:
    rows = presets()
    for one in (one for one in rows.values() if one.kind == "published"):
        named = one.notes.partition("Nearest that runs: ")[2]
        stands = [name for name in named.replace(",", " ").replace("(", " ").split() if name.strip(".") in rows]
        assert stands, one.name
        assert all(rows[name.strip(".")].kind != "published" for name in stands)
