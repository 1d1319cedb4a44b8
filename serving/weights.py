"""The files that a row needs: what they are, how they get here, and whether they are what they should be.

Nothing is fetched unless ``pull`` is asked for. Downloads grow in ``.part`` files beside their target, go on where they stopped, and
get their name only once size and sha256 are right. Knows rows, folders and addresses. Does not know what is inside a network.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from typing import Any

from configs.registry import ConfigError, MissingExtra
from configs.schema import BackendConfig, WeightFile
from media.refs import shown, write_whole

HUB = "https://huggingface.co"
NOTE = ".pulled.json"  # in a row's folder: path -> sha256, bytes and source of what was pulled
_BLOCK = 1 << 20
_TIMEOUT = 60  # seconds without a byte
_SPARE = 200_000_000  # bytes of disk that are left alone
_BY_HAND = "by hand: "
_VARIANTS = (".fp16.", ".fp32.", ".non_ema.", ".msgpack", ".h5", ".onnx", ".ckpt", ".ot")  # other forms of the same weights
_NEEDED = (
    ".json",
    ".safetensors",
    ".bin",
    ".pt",
    ".txt",
    ".model",
    ".yaml",
    ".jinja",
)  # of a listed folder: no program text comes along
_BEYOND = 3  # a hub's list may hold as many times the bytes that were agreed to, which are estimates


class PullFailed(ConfigError):
    """A file could not be fetched or is not what it should be; what came so far is kept where it can be gone on with."""

    exit_code = 3


class _Endless(Exception):
    """A server sends on after the last byte."""


OnBytes = Callable[[int, int], None]  # bytes here, of


def human(count: int) -> str:
    """Bytes as people say them.

    >>> human(3_430_000_000), human(625_000_000), human(500)
    ('3.4 GB', '625 MB', '500 B')
    """
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}" if unit == "GB" else f"{count / size:.0f} {unit}"
    return f"{count} B"


def folder_of(row: BackendConfig, home: Path) -> Path:
    """Where the row's files lie."""
    return home / "checkpoints" / row.folder


def missing_line(row: BackendConfig, home: Path) -> str:
    """What a row lacks that cannot run, in one line: the files, their size and licence, and the command that gets them."""
    largest, more = max(row.files, key=lambda file: file.bytes), len(row.files) - 1
    named = largest.path + "*" * largest.whole
    others = f" and {more} more" if more else ""
    hand = [file for file in row.files if file.source.startswith(_BY_HAND)]
    how = f"'loa models pull {row.name}' gets them" if len(hand) < len(row.files) else f"get it {hand[0].source}"
    return (
        f"the weights of '{row.name}' are not here: {named}{others}, about {human(sum(file.bytes for file in row.files))}, "
        f"licence {row.licence}; {how} (into {folder_of(row, home)})"
    )


def sizes(row: BackendConfig) -> list[str]:
    """For a person: a row's files, which of their sizes are known exactly, and what is checked of the others."""
    lines = []
    for file in row.files:
        known = f"about {human(file.bytes)}" if file.estimated else f"{file.bytes:,} bytes, sha256 {file.sha256}"
        lines.append(f"  {file.path + '*' * file.whole:<44} {known}; {file.source}")
    if any(file.estimated for file in row.files):
        lines.append(
            f"  'about' is an estimate from the number of parameters: 'loa models pull {row.name}' takes size and sha256 from there, "
            f"checks them and keeps them in {NOTE}"
        )
    return lines


@dataclass(frozen=True)
class Wanted:
    """One file to get: ``url`` None where a person must."""

    path: str
    target: Path
    url: str | None
    bytes: int | None  # None: not known exactly before it is there
    sha256: str | None
    source: str


@dataclass(frozen=True)
class Plan:
    """What a pull would do, before it does any of it."""

    row: BackendConfig
    folder: Path
    wanted: tuple[WeightFile, ...]  # not here yet

    @property
    def total(self) -> int:
        return sum(file.bytes for file in self.wanted)

    def lines(self) -> list[str]:
        """For a person to read before they agree."""
        heads = [
            f"{self.row.name}: {self.row.system}, about {human(self.total)} in {len(self.wanted)} "
            f"{'file' if len(self.wanted) == 1 else 'files or folders'}",
            f"licence: {self.row.licence}",
            f"into:    {self.folder}",
        ]
        return heads + [
            f"  {file.path:<40} {human(file.bytes):>8}  {file.source}{f'  ({file.licence})' if file.licence else ''}"
            for file in self.wanted
        ]


def plan(row: BackendConfig, home: Path) -> Plan:
    """What is still to be fetched for a row.

    Raises:
        MissingExtra: published numbers only. ConfigError: the row's weights ship with loa, or its folder is somebody's own: a row may
            name any, and what is fetched there could be read as something else than weights.
    """
    if row.kind == "published":
        raise MissingExtra(f"'{row.name}' is a row with published numbers only: {row.notes}")
    if not row.files:
        raise ConfigError(
            f"'{row.name}' names no files to fetch: what it needs comes with loa or its packages ('loa models show {row.name}')"
        )
    folder, own = folder_of(row, home), home / "checkpoints"
    if not Path(os.path.normpath(folder)).is_relative_to(os.path.normpath(own)):
        raise ConfigError(f"'{row.name}' lies in {folder}; files are fetched only below {own}: put them there yourself")
    noted = _noted(folder)
    return Plan(row, folder, tuple(file for file in row.files if not _here(file, folder, noted)))


def _here(file: WeightFile, folder: Path, noted: Mapping[str, Any]) -> bool:
    """Whether the file was got before; whole folders are taken from the note of the pull that finished them."""
    if file.whole:
        return f"{file.path}*" in noted and all(
            (folder / name).is_file() for name in noted if name.startswith(file.path) and "*" not in name
        )
    path = folder / file.path
    return path.is_file() and (
        file.sha256 is None or noted.get(file.path, {}).get("sha256") == file.sha256 or _digest(path) == file.sha256
    )


def pull(
    planned: Plan,
    *,
    offline: bool = False,
    local: Path | None = None,
    on_bytes: OnBytes = lambda *_: None,
    environ: Mapping[str, str] = os.environ,
) -> list[Path]:
    """Get what the plan names; each file appears whole or not at all, and a second call goes on where the first stopped.

    Args:
        offline: refuse to go to the network.
        local: a folder to copy from instead.

    Returns:
        The files that came.

    Raises:
        PullFailed: no connection, no such file, a gate, a wrong size or hash, no room on the disk.
    """
    hand = [file for file in planned.wanted if file.source.startswith(_BY_HAND)]
    if hand and local is None:
        told = "; ".join(f"{planned.folder / file.path}: {file.source.removeprefix(_BY_HAND)}" for file in hand)
        raise PullFailed(f"{len(hand)} of the files of '{planned.row.name}' must be got by hand: {told}")
    if offline and local is None and planned.wanted:
        raise PullFailed(
            "HF_HUB_OFFLINE is set, so nothing is fetched: unset it for this command, or copy the files from a folder with --from DIR"
        )
    _require_room(planned)
    planned.folder.mkdir(parents=True, exist_ok=True)
    came: list[Path] = []
    for file in planned.wanted:
        names = []
        for wanted in _copies(file, planned.folder, local) if local else _expanded(file, planned.folder, environ):
            if not wanted.target.is_file() or (wanted.sha256 and _digest(wanted.target) != wanted.sha256):
                digest = _copied(wanted, local) if local else _fetched(wanted, on_bytes, environ)
                _note(planned.folder, {wanted.path: {"sha256": digest, "bytes": wanted.target.stat().st_size, "source": wanted.source}})
                came.append(wanted.target)
            names.append(wanted.path)
        if file.whole:
            _note(planned.folder, {f"{file.path}*": {"files": names}})
    return came


# -- from a folder -----------------------------------------------------------------------------------------------------


def _copies(file: WeightFile, folder: Path, local: Path) -> Iterator[Wanted]:
    found = sorted(p for p in local.rglob("*") if p.is_file()) if file.whole else [local / file.path, local / Path(file.path).name]
    names = {p.relative_to(local).as_posix(): p for p in found if p.is_file()}
    if file.whole:
        names = {name: p for name, p in names.items() if name.startswith(file.path)}
    elif names:
        names = {file.path: next(iter(names.values()))}
    if not names:
        raise PullFailed(f"{local} holds no '{file.path}'; give the folder that holds it")
    for name, path in names.items():
        yield Wanted(name, folder / name, None, None, file.sha256, str(path))


def _copied(wanted: Wanted, local: Path) -> str:
    part = _part(wanted.target)
    shutil.copyfile(Path(wanted.source), part)
    return _settled(part, wanted)


# -- from the network --------------------------------------------------------------------------------------------------


def _endpoint(environ: Mapping[str, str]) -> str:
    return environ.get("HF_ENDPOINT", HUB).rstrip("/")


def _address(source: str, path: str, environ: Mapping[str, str]) -> tuple[str, str, str]:
    """Repository, revision and path there of ``owner/name[@revision][:path]``."""
    repo, _, inside = source.partition(":")
    repo, _, revision = repo.partition("@")
    return repo, revision or "main", inside or path


def _expanded(file: WeightFile, folder: Path, environ: Mapping[str, str]) -> Iterator[Wanted]:
    """The file, or the files that the hub lists for it, with the sizes and hashes that the hub states."""
    if file.source.startswith(("http://", "https://")):
        yield Wanted(file.path, folder / file.path, file.source, file.bytes if file.sha256 else None, file.sha256, file.source)
        return
    repo, revision, inside = _address(file.source, file.path, environ)
    base = f"{_endpoint(environ)}/{repo}/resolve/{revision}/"
    if not file.whole:
        yield Wanted(file.path, folder / file.path, base + urllib.parse.quote(inside), None, file.sha256, file.source)
        return
    found = _listed(f"{_endpoint(environ)}/api/models/{repo}/tree/{revision}?recursive=true", inside, environ)
    safe = {name.rpartition("/")[0] for name in found if name.endswith(".safetensors") and not any(v in name for v in _VARIANTS)}
    taken: list[Wanted] = []
    for name, (size, digest) in sorted(found.items()):
        if any(variant in name for variant in _VARIANTS) or (name.endswith((".bin", ".pt")) and name.rpartition("/")[0] in safe):
            continue
        try:
            WeightFile(path=name, bytes=max(1, size), source=repo, sha256=digest)
        except ValueError:
            raise PullFailed(f"the list of {repo} names '{shown(name)}', which is no plain path; nothing was fetched of it") from None
        if name.endswith(_NEEDED):
            taken.append(Wanted(name, folder / name, base + urllib.parse.quote(name), size, digest, file.source))
    if not taken:
        raise PullFailed(f"{repo} lists no file that begins with '{inside}'; the row '{file.path}' may be out of date")
    if (total := sum(one.bytes or 0 for one in taken)) > _BEYOND * file.bytes + _SPARE:
        raise PullFailed(
            f"{repo} lists {human(total)} as '{file.path}', where about {human(file.bytes)} were agreed to; nothing of it was fetched: "
            "look on the model's page and use --from DIR"
        )
    yield from taken


def _listed(url: str, inside: str, environ: Mapping[str, str]) -> dict[str, tuple[int, str | None]]:
    """The hub's list: path to bytes and sha256, of the files whose path begins with ``inside``."""
    try:
        items = [item for item in json.loads(_read(url, environ)) if item["type"] == "file" and item["path"].startswith(inside)]
        return {item["path"]: (int(item["size"]), (item.get("lfs") or {}).get("oid")) for item in items}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):  # a portal's page, another server
        raise PullFailed(
            f"{url} did not answer with a list of files; is HF_ENDPOINT, or the network's login page, in the way?"
        ) from None


class _Seen(urllib.request.HTTPRedirectHandler):
    """Keeps what the hub says of a file before it sends us on to where the bytes lie, and takes no password there."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        self.headers.update({key.lower(): value for key, value in headers.items()})
        there, here = urllib.parse.urlsplit(newurl), urllib.parse.urlsplit(req.full_url)
        if here.scheme == "https" and there.scheme != "https":
            raise PullFailed(f"{req.full_url} sends us on to {newurl}, which anybody on the way could change; nothing was fetched")
        made = super().redirect_request(req, fp, code, msg, headers, newurl)
        if made is not None and (there.scheme, there.netloc) != (here.scheme, here.netloc):
            made.remove_header("Authorization")
        return made


def _open(url: str, environ: Mapping[str, str], **headers: str) -> tuple[Any, dict[str, str]]:
    """The answer, and the headers of all stations on the way."""
    seen = _Seen()
    request = urllib.request.Request(url, headers={"User-Agent": "loa", **headers})
    token = environ.get("HF_TOKEN")
    if token and url.startswith(_endpoint(environ) + "/"):
        request.add_header("Authorization", f"Bearer {token}")
    try:
        answer = urllib.request.build_opener(seen).open(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is left to send
            raise
        raise PullFailed(_refused(url, error.code)) from None
    except (urllib.error.URLError, OSError, HTTPException) as error:
        raise PullFailed(
            f"no connection to {url} ({getattr(error, 'reason', error)}); try again, it goes on where it stopped"
        ) from None
    return answer, seen.headers | {key.lower(): value for key, value in answer.headers.items()}


def _refused(url: str, code: int) -> str:
    if code in (401, 403):
        return f"{url} asks who you are (HTTP {code}): accept the licence on the model's page, then set HF_TOKEN to a token of yours"
    if code == 404:
        return f"there is no {url} (HTTP 404); the files may have moved: look on the model's page and use --from DIR"
    return f"{url} answered HTTP {code}; try again later, it goes on where it stopped"


def _read(url: str, environ: Mapping[str, str]) -> bytes:
    answer, _ = _open(url, environ)
    with answer:
        return bytes(answer.read(20_000_000))


def _fetched(wanted: Wanted, on_bytes: OnBytes, environ: Mapping[str, str]) -> str:
    """The sha256 of the file once it is here and right."""
    assert wanted.url is not None
    wanted.target.parent.mkdir(parents=True, exist_ok=True)
    part = _part(wanted.target)
    have = part.stat().st_size if part.is_file() else 0
    headers: dict[str, str] = {}
    try:
        answer, headers = _open(wanted.url, environ, **({"Range": f"bytes={have}-"} if have else {}))
    except urllib.error.HTTPError:  # 416: the part is as long as the file, or longer
        if wanted.sha256 is None and wanted.bytes is None:
            part.unlink()
            return _fetched(wanted, on_bytes, environ)
    else:
        have = have if answer.status == 206 else 0
        length = _count(headers, "content-length")
        wanted = _told(wanted, headers, have + length if length else None)
        most = wanted.bytes or have + shutil.disk_usage(part.parent).free - _SPARE
        with answer, part.open("ab" if have else "wb") as file:
            try:
                while block := answer.read(_BLOCK):
                    file.write(block)
                    have += len(block)
                    on_bytes(have, wanted.bytes or 0)
                    if have > most:
                        raise _Endless
            except _Endless:
                part.unlink()
                raise PullFailed(f"{wanted.url} sends more than the {human(most)} that are its own; it was thrown away") from None
            except (OSError, HTTPException) as error:
                raise PullFailed(
                    f"the connection to {wanted.url} broke at {human(have)} ({error}); call again, it goes on there"
                ) from None
    return _settled(part, wanted)


def _told(wanted: Wanted, headers: Mapping[str, str], length: int | None) -> Wanted:
    """With the size and, where the row states none, the hash that the hub states in its headers."""
    etag = headers.get("x-linked-etag", "").strip('W/"')
    digest = wanted.sha256 or (etag if len(etag) == 64 and set(etag) <= set("0123456789abcdef") else None)
    return replace(wanted, bytes=_count(headers, "x-linked-size") or wanted.bytes or length, sha256=digest)


def _count(headers: Mapping[str, str], name: str) -> int:
    """A header's number of bytes; 0 where it states none."""
    said = headers.get(name, "")
    return int(said) if said.isascii() and said.isdigit() and len(said) < 16 else 0


def _settled(part: Path, wanted: Wanted) -> str:
    """Give the finished part its name, if it is what it should be."""
    size = part.stat().st_size
    if wanted.bytes is not None and size < wanted.bytes:
        raise PullFailed(f"'{wanted.path}' stopped at {human(size)} of {human(wanted.bytes)}; call again, it goes on there")
    digest = _digest(part)
    if (wanted.bytes is not None and size != wanted.bytes) or (wanted.sha256 is not None and digest != wanted.sha256):
        part.unlink()
        told = f"sha256 {digest[:16]}…, {size:,} bytes, instead of {(wanted.sha256 or 'any')[:16]}…, {wanted.bytes or 'any'} bytes"
        raise PullFailed(f"'{wanted.path}' from {wanted.source} is not the file that was expected ({told}); it was thrown away")
    os.replace(part, wanted.target)
    return digest


def _part(target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.with_name(f".{target.name}.part")


def _require_room(planned: Plan) -> None:
    place = next(p for p in (planned.folder, *planned.folder.parents) if p.exists())
    free = shutil.disk_usage(place).free
    if free < planned.total + _SPARE:
        raise PullFailed(
            f"'{planned.row.name}' takes about {human(planned.total)}, but {place} has {human(free)} free; make room or move LOA_HOME"
        )


# -- what came ---------------------------------------------------------------------------------------------------------


def _noted(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / NOTE).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _note(folder: Path, more: Mapping[str, Any]) -> None:
    write_whole(folder / NOTE, json.dumps({**_noted(folder), **more}, indent=1, sort_keys=True).encode())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def changed(row: BackendConfig, home: Path) -> dict[str, str]:
    """By path: how a file here differs from what the row states or its pull noted; "" where it is the same."""
    folder, told = folder_of(row, home), {}
    stated = {file.path: file.sha256 for file in row.files if file.sha256}
    noted = {name: said.get("sha256") for name, said in _noted(folder).items() if "*" not in name}
    for name, digest in {**noted, **stated}.items():
        path = folder / name
        if not path.is_file():
            told[name] = "it is missing"
        else:
            got = _digest(path)
            told[name] = "" if got == digest else f"its sha256 is {got[:16]}… instead of {str(digest)[:16]}…: pull it again"
    return told


def readable(files: Iterable[str]) -> dict[str, str]:
    """By path: why a weight file cannot be read; "" where its keys and shapes can. Nothing in a file runs, no values are read."""
    from encoders.weights import PICKLES, WeightsError, read_shapes

    told = {}
    for name in files:
        if Path(name).suffix not in (".safetensors", *PICKLES):
            continue
        try:
            told[name] = "" if read_shapes(Path(name)) else "it holds no tensors"
        except WeightsError as error:
            told[name] = str(error)
    return told
