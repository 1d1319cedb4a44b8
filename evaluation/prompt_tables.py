"""Prompts from files: our own CSV and JSONL, and AudioCaps, MusicCaps, LJSpeech and VGGSound as their authors lay them out.

Knows columns and where clips lie. Reads no sound and fetches nothing. A row without its clip is left out where references are what the
table was given for (``audio``), and kept without a reference otherwise.

Sources: AudioCaps (Kim et al., NAACL 2019; audiocap_id, youtube_id, start_time, caption), MusicCaps (Agostinelli et al., 2023; ytid,
start_s, end_s, caption, is_audioset_eval), LJSpeech 1.1 (metadata.csv: id|text|normalised text, wavs/), VGGSound (Chen et al., ICASSP
2020; vggsound.csv without a header: YouTube id, start second, label, split).
"""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from configs.registry import ConfigError
from configs.schema import PromptTable, StudyPrompt, parse, placed_prompt

SOUNDS = (".wav", ".flac", ".mp3", ".ogg", ".m4a")
VIDEOS = (".mp4", ".mkv", ".webm")
_MAX_BYTES = 200_000_000  # VGGSound's table, the largest of these, has 13 MB


def read_prompts(table: PromptTable) -> tuple[StudyPrompt, ...]:
    """The prompts of a table, in its order; with ``limit`` so many of them, the same for the same ``shuffle``.

    Raises:
        ConfigError: naming the file and the line or column.
    """
    found = list(_LAYOUTS[table.layout](table))
    if not found:
        of = f" of the split '{table.split}'" if table.split else ""
        raise ConfigError(f"{table.path} holds no prompts{of} in the layout '{table.layout}'{_clips_hint(table)}")
    if table.limit is not None and table.limit < len(found):
        kept = set(random.Random(table.shuffle).sample(range(len(found)), table.limit))
        found = [prompt for at, prompt in enumerate(found) if at in kept]
    ids = [prompt.id for prompt in found]
    if len(set(ids)) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise ConfigError(f"{table.path}: two prompts are called '{twice}'; 'id' is one of a kind")
    return tuple(found)


def _clips_hint(table: PromptTable) -> str:
    return f"; is there a clip of each in {table.audio}?" if table.audio is not None else ""


# -- our own ----------------------------------------------------------------------------------------------------------


def _plain(table: PromptTable) -> Iterator[StudyPrompt]:
    path = table.path
    rows: Iterable[tuple[int, dict[str, Any]]]
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        rows = _jsonl(path)
    elif path.suffix.lower() in (".csv", ".tsv"):
        rows = _csv(path, "\t" if path.suffix.lower() == ".tsv" else ",")
    else:
        raise ConfigError(f"'{path.name}' is no table of prompts: name a .csv, .tsv or .jsonl file, or say its 'layout'")
    for number, row in rows:
        if table.split is not None and row.pop("split", table.split) != table.split:
            continue
        row.pop("split", None)
        given = {key: value for key, value in row.items() if value not in (None, "")}
        given.setdefault("id", f"{number - 1:04d}")
        given["id"] = str(given["id"])
        yield placed_prompt(parse(given, StudyPrompt, f"{path}, line {number}"), path.parent)


def _jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ConfigError(f"{path}, line {number} is not JSON: {error}") from None
        if not isinstance(row, dict):
            raise ConfigError(f"{path}, line {number} must be an object with 'caption', got a {type(row).__name__}")
        yield number, row


def _csv(path: Path, comma: str = ",", columns: list[str] | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows by column name, with the line that each ends on; ``columns`` where the file has no header."""
    reader = csv.DictReader(io.StringIO(_text(path), newline=""), fieldnames=columns, delimiter=comma)
    try:
        for row in reader:
            extra = row.pop(None, None)
            if extra:
                raise ConfigError(f"{path}, line {reader.line_num} has {len(extra)} fields too many: quote text with '{comma}'")
            yield reader.line_num, dict(row)
    except csv.Error as error:
        raise ConfigError(f"{path}, line {reader.line_num} is not CSV: {error}") from None


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
        if len(raw) > _MAX_BYTES:
            raise ConfigError(f"{path} is larger than {_MAX_BYTES:,} bytes: is it the right file?")
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"cannot read the prompts {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8") from None


# -- public data sets -------------------------------------------------------------------------------------------------


def _audiocaps(table: PromptTable) -> Iterator[StudyPrompt]:
    """``test.csv`` of the repository: five captions a clip in test and val, each a row; clips are named by YouTube id, or id_start."""
    path = _table_in(table, f"{table.split or 'test'}.csv", "audiocaps_*.csv")
    for row in _columns(path, "audiocap_id", "youtube_id", "start_time", "caption"):
        video, start = row["youtube_id"], row["start_time"]
        start = str(int(float(start))) if start.replace(".", "", 1).isdigit() else start
        yield from _prompt(
            table, path, row["audiocap_id"], row["caption"], (f"{video}_{start}", video, f"Y{video}", row["audiocap_id"])
        )


def _musiccaps(table: PromptTable) -> Iterator[StudyPrompt]:
    """``musiccaps-public.csv``; split ``eval`` keeps the rows of AudioSet's evaluation set, ``balanced`` the genre-balanced ones."""
    path = _table_in(table, "musiccaps-public.csv", "*.csv")
    kept = {"eval": "is_audioset_eval", "balanced": "is_balanced_subset"}
    if table.split is not None and table.split not in kept:
        raise ConfigError(f"MusicCaps has the splits eval and balanced, got '{table.split}'")
    for row in _columns(path, "ytid", "start_s", "caption", *([kept[table.split]] if table.split else [])):
        if table.split is None or row[kept[table.split]].lower() == "true":
            names = (row["ytid"], f"{row['ytid']}_{row['start_s']}", f"[{row['ytid']}]-[{row['start_s']}-{row.get('end_s', '')}]")
            yield from _prompt(table, path, row["ytid"], row["caption"], names)


def _ljspeech(table: PromptTable) -> Iterator[StudyPrompt]:
    """``metadata.csv``: id|text|text with numbers spelt out, which is spoken. A split is a file of ids, ``SPLIT.txt``, beside it."""
    path = _table_in(table, "metadata.csv")
    wanted = None
    if table.split is not None:
        listed = _text(path.parent / f"{table.split}.txt").splitlines()
        wanted = {Path(line.split("|")[0]).stem for line in listed if line.strip()}
    for number, line in enumerate(_text(path).splitlines(), 1):
        fields = line.split("|")
        if len(fields) not in (2, 3):
            raise ConfigError(f"{path}, line {number} must be id|text|normalised text, got {len(fields)} fields")
        if wanted is None or fields[0] in wanted:
            yield from _prompt(table, path, fields[0], "", (fields[0],), transcript=" ".join(fields[-1].split()))


def _vggsound(table: PromptTable) -> Iterator[StudyPrompt]:
    """``vggsound.csv``: a label a video; split ``test`` unless another is said. A clip ID_SSSSSS is a video, a reference, or both."""
    path = _table_in(table, "vggsound.csv")
    for number, row in _csv(path, columns=["id", "start", "label", "split"]):
        if row["split"] is None or not str(row["start"]).strip().isdigit():
            raise ConfigError(f"{path}, line {number} must be YouTube id, start second, label, split")
        if row["split"].strip() != (table.split or "test"):
            continue
        name = f"{row['id']}_{int(row['start']):06d}"
        folder = table.audio or _first_folder(path.parent, "video", "videos", "clips", "audio")
        video = _first_file(folder, (name,), VIDEOS)
        yield from _prompt(table, path, name, row["label"], (name,), **({"video": video} if video else {}))


def _table_in(table: PromptTable, *patterns: str) -> Path:
    """The table itself, or the one in the folder that was named."""
    if not table.path.is_dir():
        return table.path
    for pattern in patterns:
        for folder in (table.path, table.path / "dataset"):
            if found := sorted(folder.glob(pattern)):
                return found[0]
    raise ConfigError(f"{table.path} holds no {patterns[0]}, which the layout '{table.layout}' has; name the file itself in 'path'")


def _columns(path: Path, *needed: str) -> Iterator[dict[str, str]]:
    for number, row in _csv(path):
        for column in needed:
            if row.get(column) is None:
                known = ", ".join(map(str, row))
                raise ConfigError(f"{path}, line {number} has no '{column}' (columns: {known})")
        yield {str(key): "" if value is None else str(value) for key, value in row.items()}


def _prompt(table: PromptTable, path: Path, name: str, caption: str, clips: tuple[str, ...], **more: Any) -> Iterator[StudyPrompt]:
    folder = table.audio or _first_folder(path.parent, "audio", "wavs", "wav", "audios", table.split or "test")
    clip = _first_file(folder, clips, SOUNDS)
    if clip is None and table.audio is not None and "video" not in more:
        return  # videos go off line; a study with references is one of the clips that are left
    given = {"id": name, "caption": " ".join(caption.split()), "reference": None if clip is None else str(clip), **more}
    yield parse(given, StudyPrompt, f"{path}, '{name}'")


def _first_folder(root: Path, *names: str) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def _first_file(folder: Path | None, names: Iterable[str], suffixes: Iterable[str]) -> Path | None:
    if folder is None:
        return None
    return next((path for name in names for suffix in suffixes if (path := folder / f"{name}{suffix}").is_file()), None)


_LAYOUTS: dict[str, Callable[[PromptTable], Iterator[StudyPrompt]]] = {
    "table": _plain,
    "audiocaps": _audiocaps,
    "musiccaps": _musiccaps,
    "ljspeech": _ljspeech,
    "vggsound": _vggsound,
}
