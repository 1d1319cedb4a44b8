"""What a conversation is made of: turns, the sounds so far, the events of an answer, and their LangChain form.

Everything is read from the messages, so that the checkpointed history is the only memory. Media are ids: no path, no
address and no byte of a medium ever enters a message. Knows nothing about models or graphs; LangChain is imported
only where a message is built.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from media.imu import MIME as MOTION
from media.refs import MediaRef

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage, HumanMessage

MAX_TEXT = 8000  # characters of one turn
INTERRUPTED = "This call was interrupted before it finished; nothing was made."
_BLOCK_TYPES = {"image": "image", "audio": "audio", "video": "video", "motion": "file", "condition": "file"}


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Turn(_Value):
    """What a person says at once: words, media of the store, or both."""

    text: str = Field(default="", max_length=MAX_TEXT)
    media: tuple[MediaRef, ...] = Field(default=(), max_length=16)

    @model_validator(mode="after")
    def _says_something(self) -> Turn:
        if not self.text.strip() and not self.media:
            raise ValueError("the turn is empty: say something or attach a file")
        return self


# -- events: what an answer is made of, the same in Python, HTTP, MCP and the terminal ---------------------------------


class TextDelta(_Value):
    """The next piece of the answer's text."""

    type: Literal["text_delta"] = "text_delta"
    text: str


class ToolStarted(_Value):
    """The model decided on a call; ``args`` are what it asked for, before any guard."""

    type: Literal["tool_started"] = "tool_started"
    tool: str
    args: dict[str, JsonValue]


class Progress(_Value):
    """``step`` of ``of`` steps are done; ``eta_s`` seconds are left, None where not known yet."""

    type: Literal["progress"] = "progress"
    step: int
    of: int
    eta_s: float | None = None


class Preview(_Value):
    """An unfinished sound that can already be listened to."""

    type: Literal["preview"] = "preview"
    media: MediaRef


class MediaReady(_Value):
    """A finished medium is in the store. ``details`` is the tool's whole artifact (request, fingerprint, guard)."""

    type: Literal["media_ready"] = "media_ready"
    media: MediaRef
    seconds: float
    sample_rate: int  # Hz
    backend: str
    seed: int
    details: dict[str, JsonValue]


class TurnDone(_Value):
    """The answer is complete and stored; ``text`` is all of it."""

    type: Literal["turn_done"] = "turn_done"
    thread: str
    text: str


class Failed(_Value):
    """The turn ended early. ``error`` is the exception's name, ``exit_code`` what the command line leaves with."""

    type: Literal["failed"] = "failed"
    error: str
    message: str
    exit_code: int = 1


Event = Annotated[TextDelta | ToolStarted | Progress | Preview | MediaReady | TurnDone | Failed, Field(discriminator="type")]


# -- messages ----------------------------------------------------------------------------------------------------------


def to_block(ref: MediaRef) -> dict[str, Any]:
    """The content block of a medium: its id as ``file_id`` and nothing else that could be opened."""
    block: dict[str, Any] = {"type": _BLOCK_TYPES[ref.kind], "file_id": ref.id, "mime_type": ref.mime}
    if ref.span is not None:
        block["extras"] = {"span": list(ref.span)}
    return block


def from_block(block: Any) -> MediaRef | None:
    """The medium that a content block stands for; None for text and for blocks that are not ours."""
    kinds = {block_type: kind for kind, block_type in _BLOCK_TYPES.items()}
    if not isinstance(block, dict) or block.get("type") not in kinds or "file_id" not in block:
        return None
    span = (block.get("extras") or {}).get("span")
    kind = "motion" if block.get("mime_type") == MOTION else kinds[block["type"]]
    return MediaRef.model_validate({"id": block["file_id"], "kind": kind, "mime": block.get("mime_type", ""), "span": span})


def to_message(turn: Turn) -> HumanMessage:
    """The turn as one LangChain message: a text block, then one block per medium."""
    from langchain_core.messages import HumanMessage

    words = [{"type": "text", "text": turn.text}] if turn.text.strip() else []
    return HumanMessage(content=[*words, *map(to_block, turn.media)])


def media_of(message: BaseMessage) -> tuple[MediaRef, ...]:
    """The media that a message carries: attachments of a person, or what a tool made."""
    if message.type == "tool":
        return tuple(sound.media for sound in sounds_of(message)) + tuple(file.media for file in files_of(message))
    if message.type != "human" or isinstance(message.content, str):
        return ()
    return tuple(ref for ref in map(from_block, message.content) if ref is not None)


def text_of(message: BaseMessage) -> str:
    """The words of a message, without its media."""
    return str(message.text)


def described(ref: MediaRef) -> str:
    """How a medium is named to a model that reads only text."""
    return f"[attached {ref.kind}: {ref.id}]"


@dataclass(frozen=True)
class Sound:
    """A sound that a tool made in this thread, and the request that made it (``GenerationRequest`` as JSON).

    ``artifact`` is ``{"tool", "asked_backend", "parent", "change", "generated"}``; ``restored`` means that the tool made
    nothing and went back to a sound that was there.
    """

    media: MediaRef
    request: dict[str, Any]
    backend: str
    seconds: float
    sample_rate: int
    artifact: dict[str, Any]
    restored: bool = False

    @property
    def change(self) -> str:
        """What is different from the sound that it came from; "" for one that came from none."""
        return str(self.artifact.get("change") or "")


@dataclass(frozen=True)
class File:
    """A medium that is no new sound: an export, a video with its soundtrack, a picture. ``artifact`` is ``{"tool", "file"}``."""

    media: MediaRef
    seconds: float
    artifact: dict[str, Any]


def sounds_of(message: BaseMessage) -> tuple[Sound, ...]:
    """The sounds that a tool message brings, in order; none where the tool failed or made none."""
    artifact = _artifact(message)
    if "compared" in artifact:
        shared = {key: value for key, value in artifact.items() if key != "compared"}
        each = [{**shared, **entry} for entry in artifact["compared"] if "generated" in entry]
        return tuple(sound for sound in map(_sound, each) if sound is not None)
    sound = _sound(artifact)
    return (sound,) if sound else ()


def sound_of(message: BaseMessage) -> Sound | None:
    """The first sound that a tool message brings."""
    return next(iter(sounds_of(message)), None)


def files_of(message: BaseMessage) -> tuple[File, ...]:
    """The files that a tool message brings, in order."""
    artifact = _artifact(message)
    found = artifact.get("files") or ()
    return tuple(
        File(MediaRef.model_validate(f["media"]), float(f["seconds"]), {"tool": artifact.get("tool"), "file": f}) for f in found
    )


REGENERATED = "It was made anew without that, not separated, so other parts may have changed too."


def outcome(message: BaseMessage) -> str | None:
    """What a tool's answer means to a person, where it is more than one new sound or a description; None elsewhere.

    English, from the artifact alone: nothing is said that is not there.
    """
    artifact = _artifact(message)
    sound = next(iter(sounds_of(message)), None)
    if "compared" in artifact:
        each = [
            f"{entry['generated']['backend']}: {entry['generated']['seconds']:g} s"
            if "generated" in entry
            else f"{entry['asked_backend']} made nothing ({str(entry['error']).rstrip('.')})"
            for entry in artifact["compared"]
        ]
        alone = "" if len(each) > 1 else " No other one is ready here: 'loa models list' says what they need."
        return f"Here is the comparison. {'; '.join(each)}.{alone}"
    if artifact.get("tool") == "export_audio":
        (file,) = artifact["files"]
        notes = "".join(f"; {note}" for note in file["notes"])
        return f"Here is “{file['name']}” as {file['format'].upper()}: {file['seconds']:g} s{notes}."
    if "files" in artifact:
        return f"{str(message.text).rstrip('.')}."
    if sound is None:
        return None
    name = sound.request.get("transcript") or sound.request.get("prompt") or "the earlier sound"
    if sound.restored:
        return f"Back to “{name}”: {sound.seconds:g} s, made with {sound.backend} before (seed {sound.request['seed']})."
    edit = sound.request.get("edit") or {}
    if edit.get("kind") == "remove":
        gone = sound.request["negative_prompt"]
        return f"Here is the sound without “{gone}”: {sound.seconds:g} s, made with {sound.backend}. {REGENERATED}"
    return None


def _artifact(message: BaseMessage) -> dict[str, Any]:
    artifact = getattr(message, "artifact", None)
    done = message.type == "tool" and getattr(message, "status", "") == "success"
    return artifact if done and isinstance(artifact, dict) else {}


def _sound(artifact: dict[str, Any]) -> Sound | None:
    made = artifact.get("generated")
    if not isinstance(made, dict):
        return None
    return Sound(
        MediaRef.model_validate(made["media"]),
        made["request"],
        made["backend"],
        made["seconds"],
        made["sample_rate"],
        artifact,
        bool(artifact.get("restored")),
    )


# -- versions ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Version:
    """A sound's place in the tree. ``number`` counts from 1 in the order of making; ``turn`` counts a person's messages."""

    number: int
    sound: Sound
    parent: int | None
    turn: int


@dataclass(frozen=True)
class Versions:
    """The tree of a thread's sounds, and the way through it.

    ``trail`` holds the numbers that were current, oldest first; its last one is. A new sound is put on top (of several sounds of
    one turn the last), on the sound that it was made from: who changes the second of three has gone to the second. Going back to
    the number below the top takes the top off (an undo); going to any other one puts that on top (a new branch starts there).
    """

    made: tuple[Version, ...] = ()
    trail: tuple[int, ...] = ()

    @classmethod
    def read(cls, messages: Iterable[BaseMessage]) -> Versions:
        made: list[Version] = []
        trail: list[int] = []
        turn = 0
        for message in messages:
            turn += message.type == "human"
            for sound in sounds_of(message):
                known = _newest(made, sound.media.id)
                if sound.restored and known:
                    trail = _gone_to(trail, known)
                    continue
                if trail and made[trail[-1] - 1].sound.media.id == sound.media.id:
                    continue  # made again, as one side of a comparison: there is nothing new to go back from
                parent = _newest(made, str(sound.artifact.get("parent") or ""))
                if made and trail and made[trail[-1] - 1].turn == turn:
                    trail.pop()  # three takes are one step
                if parent is not None and made[parent - 1].turn != turn:
                    trail = _gone_to(trail, parent)
                made.append(Version(len(made) + 1, sound, parent, turn))
                trail.append(len(made))
        return cls(tuple(made), tuple(trail))

    @property
    def current(self) -> Version | None:
        """What "it" means."""
        return self.made[self.trail[-1] - 1] if self.trail else None

    def before(self, steps: int = 1) -> Version | None:
        """What was current ``steps`` steps ago: where an undo goes. None where there is nothing to go back to."""
        return self.made[self.trail[-1 - steps] - 1] if len(self.trail) > steps else None

    @property
    def latest(self) -> tuple[Version, ...]:
        """The sounds of the last turn that made any, such as three takes of one wish."""
        return tuple(v for v in self.made if v.turn == self.made[-1].turn)

    def root(self, version: Version) -> Version:
        """The sound that ``version`` goes back to."""
        while version.parent is not None:
            version = self.made[version.parent - 1]
        return version

    def by_id(self, media_id: str) -> Version | None:
        """The newest version with that sound."""
        number = _newest(self.made, media_id)
        return self.made[number - 1] if number else None


def caption(version: Version) -> str:
    """What a version is: what it changed, or what it was made from; its length, system and seed."""
    sound = version.sound
    request = sound.request
    said = request.get("transcript") or request.get("prompt") or "from " + ", ".join(m["kind"] for m in request.get("media") or ())
    what = sound.change or f"“{said}”"
    return f"{what[:80]}  ({sound.seconds:g} s, {sound.backend}, seed {request.get('seed')})"


def _newest(made: Sequence[Version], media_id: str) -> int | None:
    return next((v.number for v in reversed(made) if v.sound.media.id == media_id), None)


def _gone_to(trail: Sequence[int], number: int) -> list[int]:
    if trail and trail[-1] == number:
        return list(trail)
    if len(trail) > 1 and trail[-2] == number:
        return list(trail[:-1])
    return [*trail, number]


@dataclass(frozen=True)
class Conversation:
    """A thread so far, in order. ``media`` holds each id once: attachments and generated media alike."""

    messages: tuple[BaseMessage, ...] = ()
    media: tuple[MediaRef, ...] = ()
    versions: Versions = Versions()

    @classmethod
    def read(cls, messages: Iterable[BaseMessage]) -> Conversation:
        kept = tuple(messages)
        media = {ref.id: ref for message in kept for ref in media_of(message)}
        return cls(kept, tuple(media.values()), Versions.read(kept))

    @property
    def sounds(self) -> tuple[Sound, ...]:
        """The sounds that were made, in order; what was only gone back to is not repeated."""
        return tuple(version.sound for version in self.versions.made)

    @property
    def current(self) -> Sound | None:
        """The sound that "it" means: the last one made or gone back to."""
        return self.versions.current.sound if self.versions.current else None

    def ref(self, media_id: str) -> MediaRef | None:
        """The medium of this thread with that id; None where the thread has never seen it."""
        return next((ref for ref in self.media if ref.id == media_id), None)

    def last(self, *kinds: str) -> MediaRef | None:
        """The newest attachment or sound of one of ``kinds``."""
        return next((ref for ref in reversed(self.media) if ref.kind in kinds), None)


def repaired(messages: Sequence[BaseMessage]) -> list[BaseMessage] | None:
    """The history with an error answer after each tool call that was never answered; None where nothing is missing.

    A crash or a cancel leaves such calls behind, and chat models refuse histories that hold them.
    """
    from langchain_core.messages import AIMessage, ToolMessage

    answered = {m.tool_call_id for m in messages if isinstance(m, ToolMessage)}
    whole: list[BaseMessage] = []
    waiting: list[ToolMessage] = []  # answers belong after the tool messages that directly follow the call
    for message in messages:
        if not isinstance(message, ToolMessage):
            whole += waiting
            waiting = []
        whole.append(message)
        if isinstance(message, AIMessage):
            waiting = [
                ToolMessage(INTERRUPTED, tool_call_id=call["id"] or "", name=call["name"], status="error")
                for call in message.tool_calls
                if call["id"] not in answered
            ]
    whole += waiting
    return whole if len(whole) > len(messages) else None


# -- addresses ---------------------------------------------------------------------------------------------------------

_ADDRESS = re.compile(
    r"""(?:\b[a-z][a-z0-9+.-]{1,12}://\S*          # any scheme with //
      | \b(?:concat|data|file|subfile|pipe|javascript):\S+
      | \bwww\.\S+
      | (?<![\w/])(?:~|\.{1,2})?/(?:[\w.%~-]+/?)+  # /etc/passwd ../x ~/x
      | \b[A-Za-z]:\\\S*                           # C:\x
      | \\\\[\w.-]+\\\S*                           # \\host\share
      | (?<![\w.])[\w%-]+(?:[./][\w%-]+)*\.(?:wav|mp3|flac|ogg|png|jpe?g|webp|mp4|mkv|webm|mov|m3u8?
          |html?|txt|sh|py|exe|safetensors|sqlite)\b\S*
    )""",
    re.VERBOSE | re.IGNORECASE,
)


def without_addresses(text: str) -> str:
    """The text without URLs, paths and file names: they are never opened, and never reach a tool.

    >>> without_addresses("a waterfall, see http://a.b/c?d or /etc/passwd")
    'a waterfall, see or'
    """
    return " ".join(_ADDRESS.sub(" ", text).split())
