"""`loa chat`: turns and slash commands in, answers out, as text for people or as JSON lines.

Thin: who answers is the router. Imported when a chat begins; heavy libraries are imported by the first turn.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from generators.base import UnsupportedRequest
from media.refs import require_file

if TYPE_CHECKING:
    from generators.base import Generated
    from orchestrator.conversation import MediaReady, Turn, Version
    from serving.app import App

MAX_FILES = 16  # of one message
COLUMNS = 64
Bar = Callable[[str], AbstractContextManager[Callable[..., None]]]
HELP = """\
Say what you want to hear; "calmer", "without the bird", "the second one, but longer" change what is there.
/attach FILE   add a picture, sound or video to the next message
/versions      the sounds so far, as a tree
/undo [N]      back to the sound before, or to version N
/play [N]      play the current sound, or version N
/show [N]      its waveform and spectrogram
/save [N] FILE write it as wav, flac, ogg or mp3
/thread        the name of this conversation, for --thread
/quit          end; the conversation is kept"""
_COMMAND = re.compile(r"/([a-z]+)(?:\s+(.*))?$", re.S)
_SUFFIXES = {
    "audio/mpeg": ".mp3",
    "audio/flac": ".flac",
    "audio/ogg": ".ogg",
    "video/mp4": ".mp4",
    "image/png": ".png",
    "image/jpeg": ".jpg",
}


class TurnFailed(Exception):
    """A turn ended early; carries the exit code of what ended it."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Talk:
    """One conversation at a terminal or in a pipe.

    Args:
        bar: a progress bar by its label, as a context.
        name_for: the free file name of a new sound in the current folder.
        complain: prints one line to stderr.
    """

    def __init__(
        self,
        app: App,
        thread: str,
        *,
        as_json: bool,
        bar: Bar,
        name_for: Callable[[Generated], Path],
        complain: Callable[[BaseException], None],
    ) -> None:
        self.app, self.thread, self.as_json = app, thread, as_json
        self._bar, self._name_for, self._complain = bar, name_for, complain
        self._files: list[Path] = []
        self._shown = sys.stdout.isatty() and not as_json

    # -- one turn --------------------------------------------------------------------------------------------------
    def turn(self, text: str, files: list[Path]) -> None:
        """Say ``text`` with ``files`` and print the answer.

        Raises:
            UnsupportedRequest, MediaError: the turn cannot be said. TurnFailed: it could not be answered.
        """
        answer = self._answer(self._turn(text, files))
        if self.as_json:
            _print_json(answer)
            return
        print("" if self._shown else answer["text"])
        for medium in answer["media"]:
            print(f"{medium['path']}  {medium['seconds']:.2f} s")
            if self._shown and medium["kind"] == "audio":
                self._draw(Path(medium["path"]), spectrum=False)

    def _turn(self, text: str, files: list[Path]) -> Turn:
        from orchestrator.conversation import MAX_TEXT, Turn

        if len(text) > MAX_TEXT:
            raise UnsupportedRequest(f"a message has at most {MAX_TEXT:,} characters, got {len(text):,}")
        if len(files) > MAX_FILES:
            raise UnsupportedRequest(f"a message carries at most {MAX_FILES} files, got {len(files)}")
        return Turn(text=text, media=tuple(self.app.store.put_file(file) for file in files))

    def _answer(self, turn: Turn) -> dict[str, Any]:
        """The JSON object of one turn; what was made lies in the current folder by then."""
        from orchestrator import conversation as events

        answer: dict[str, Any] = {"thread": self.thread, "text": "", "media": [], "calls": []}
        failed: events.Failed | None = None
        with ExitStack() as open_bar:
            on_progress: Callable[..., None] | None = None
            for event in self.app.router.reply(self.thread, turn):
                if isinstance(event, events.Progress):
                    on_progress = on_progress or open_bar.enter_context(self._bar("making the sound"))
                    on_progress(event)
                    continue
                open_bar.close()  # text is written where the bar was
                on_progress = None
                if isinstance(event, events.TextDelta):
                    if self._shown:
                        print(event.text, end="", flush=True)
                elif isinstance(event, events.ToolStarted):
                    answer["calls"].append({"tool": event.tool, "args": event.args})
                elif isinstance(event, events.MediaReady):
                    answer["media"].append(self._delivered(event))
                elif isinstance(event, events.TurnDone):
                    answer |= {"thread": event.thread, "text": event.text}
                elif isinstance(event, events.Failed):
                    failed = event  # and on: an error that nobody foresaw is raised by the router itself
        if failed is not None:
            raise TurnFailed(failed.message, failed.exit_code)
        return answer

    def _delivered(self, event: MediaReady) -> dict[str, Any]:
        """A finished medium as a file in the current folder: sounds with their provenance, other media as they are stored."""
        from generators.base import Generated
        from media.refs import write_whole

        if "generated" in event.details:
            made = Generated.model_validate(event.details["generated"])
            path = self.app.export(made, self._name_for(made))
        else:
            file = event.details["file"]
            assert isinstance(file, dict)
            slug = re.sub(r"[^a-z0-9]+", "-", str(file.get("name") or event.media.kind).lower()).strip("-")[:40].strip("-")
            suffix = _SUFFIXES.get(event.media.mime, ".wav" if event.media.kind == "audio" else "")
            path = Path(f"{slug or event.media.kind}-{event.media.id.removeprefix('sha256:')[:8]}{suffix}")
            write_whole(path, self.app.store.path(event.media).read_bytes())
        return {"path": str(path.absolute()), "id": event.media.id, "kind": event.media.kind, "seconds": event.seconds}

    # -- a conversation --------------------------------------------------------------------------------------------
    def run(self, files: list[Path]) -> None:
        """Turns and commands from stdin until it ends. At a terminal a turn that fails, or is stopped, ends only itself."""
        self._files = list(files)
        talking = sys.stdin.isatty()
        if talking:
            print(f"thread {self.thread}; /help tells what can be said", file=sys.stderr)
            self.app.router.prepare()  # while the first line is typed
        for line in _lines(talking):
            try:
                if not self._said(line):
                    return
            except KeyboardInterrupt:
                if not talking:
                    raise
                self._complain(TurnFailed("stopped; nothing half-written is left", 130))
            except Exception as error:
                if not talking or not isinstance(getattr(error, "exit_code", None), int):
                    raise
                self._complain(error)
                self._files = []

    def _said(self, line: str) -> bool:
        """Do what one line asks; False where it ends the conversation."""
        command = _COMMAND.fullmatch(line)
        if command is None:
            if line or self._files:
                self.turn(line, self._files)
                self._files = []
            return True
        name, rest = command[1], (command[2] or "").strip()
        if name in ("quit", "exit"):
            return False
        does = getattr(self, f"_do_{name}", None)
        if does is None:
            raise UnsupportedRequest(f"there is no command /{name}; /help lists them")
        does(rest)
        return True

    def _do_help(self, rest: str) -> None:
        self._tell({"commands": re.findall(r"^/([a-z]+)", HELP, re.M)}, HELP.splitlines())

    def _do_thread(self, rest: str) -> None:
        self._tell({"thread": self.thread}, [self.thread])

    def _do_attach(self, rest: str) -> None:
        file = _path(rest, "/attach FILE")
        require_file(file)
        self._files.append(file)
        self._tell({"attached": [str(f) for f in self._files]}, [f"attached: {len(self._files)} for the next message"])

    def _do_versions(self, rest: str) -> None:
        from serving.terminal import tree

        versions = self.app.router.conversation(self.thread).versions
        current = versions.current.number if versions.current else None
        rows = [
            {
                "number": v.number,
                "parent": v.parent,
                "id": v.sound.media.id,
                "change": v.sound.change,
                "seconds": v.sound.seconds,
                "seed": v.sound.request.get("seed"),
                "backend": v.sound.backend,
                "fingerprint": v.sound.artifact["generated"].get("fingerprint"),
                "current": v.number == current,
            }
            for v in versions.made
        ]
        self._tell({"thread": self.thread, "versions": rows}, tree(versions) or ["no sound yet"])

    def _do_undo(self, rest: str) -> None:
        event = self.app.router.restore(self.thread, _number(rest) if rest else None)
        medium = self._delivered(event)
        current = self.app.router.conversation(self.thread).versions.current
        assert current is not None
        text = f"Back to version {current.number}."
        self._tell(
            {"thread": self.thread, "text": text, "media": [medium], "calls": []},
            [text, f"{medium['path']}  {medium['seconds']:.2f} s"],
        )

    def _do_play(self, rest: str) -> None:
        from serving.terminal import player

        stored = self.app.store.path(self._version(rest).sound.media)
        with TemporaryDirectory(prefix="loa-play-") as folder:
            path = Path(folder) / "sound.wav"  # some players go by the suffix
            command = player(path)
            if command is None:
                raise UnsupportedRequest("no player was found here (afplay, paplay, aplay, ffplay, mpv or play); /save writes a file")
            copyfile(stored, path)
            nothing = subprocess.DEVNULL
            subprocess.run(command, check=False, stdin=nothing, stdout=nothing, stderr=nothing)

    def _do_show(self, rest: str) -> None:
        self._draw(self.app.store.path(self._version(rest).sound.media), spectrum=True)

    def _do_save(self, rest: str) -> None:
        from generators.base import Generated
        from serving.app import check_output

        number, _, name = rest.partition(" ") if re.match(r"\d+\s+\S", rest) else ("", "", rest)
        path = _path(name, "/save [N] FILE")
        version = self._version(number)
        check_output(path)
        self.app.export(Generated.model_validate(version.sound.artifact["generated"]), path)
        self._tell({"path": str(path.absolute()), "id": version.sound.media.id}, [f"{path}  version {version.number}"])

    def _version(self, rest: str) -> Version:
        versions = self.app.router.conversation(self.thread).versions
        if not versions.made:
            raise UnsupportedRequest("there is no sound in this conversation yet")
        number = _number(rest) if rest else versions.trail[-1]
        if not 1 <= number <= len(versions.made):
            raise UnsupportedRequest(f"there is no version {number}; there are versions 1 to {len(versions.made)}")
        return versions.made[number - 1]

    def _draw(self, path: Path, spectrum: bool) -> None:
        from media.audio import read_audio
        from serving.terminal import spectrogram, waveform

        sound = read_audio(path)
        lines = [f"      {line}" for line in waveform(sound.samples, COLUMNS)]
        lines += spectrogram(sound.samples, sound.sample_rate, COLUMNS) if spectrum else []
        if not self._shown:
            print("\n".join(lines))
            return
        from rich.console import Console
        from rich.text import Text

        Console().print(Text("\n".join(lines), style="cyan"))

    def _tell(self, value: Mapping[str, Any], lines: list[str]) -> None:
        if self.as_json:
            _print_json(value)
        else:
            print("\n".join(lines))


def _lines(talking: bool) -> Iterator[str]:
    """Lines of stdin; at a terminal with a prompt and, where Python has it, a history."""
    if not talking:
        yield from (line.strip() for line in sys.stdin)
        return
    with suppress(ImportError):
        import readline  # noqa: F401 - input() uses it once it is there
    while True:
        try:
            yield input("> ").strip()
        except EOFError:
            return


def _path(text: str, usage: str) -> Path:
    """A file name as a terminal gives it: plain, quoted, or with escaped blanks."""
    if not text:
        raise UnsupportedRequest(f"say which file: {usage}")
    plain = Path(text).expanduser()
    if plain.exists():
        return plain
    try:
        parts = shlex.split(text)
    except ValueError:
        parts = []
    return Path(parts[0]).expanduser() if len(parts) == 1 else plain


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > 6:
        raise UnsupportedRequest(f"a version is a number such as 2 (/versions lists them), got '{text[:40]}'")
    return int(text)


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, allow_nan=False), flush=True)
