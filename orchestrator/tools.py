"""The tools that the chat model may call, and the guard between its arguments and the generators.

A tool takes media ids of its own thread and nothing else that names a thing outside: no path, no address. What it
made goes into the message's artifact as JSON, so that nobody ever parses prose. Their arguments are in ``contract.py``;
who generates, describes, exports and scores is handed in; this file knows neither backends nor encoders.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from langchain.tools import ToolRuntime
from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool, StructuredTool, ToolException
from pydantic import BaseModel, ValidationError

from configs.registry import MissingExtra, UnknownName
from generators.base import (
    CheckpointMissing,
    Edit,
    Generated,
    GenerationFailed,
    GenerationRequest,
    MediaError,
    MissingMedia,
    OnProgress,
    Progress,
    UnsupportedRequest,
    canonical_json,
)
from media.refs import MediaRef
from orchestrator import contract
from orchestrator.conversation import Conversation, Sound, without_addresses

Label = tuple[str, float]  # name, probability 0..1
Runtime = ToolRuntime["TurnContext", Any]
Answer = tuple[str, dict[str, Any]]  # a line for the chat model, the artifact for us

SURE = 0.5  # a top label at least this probable is said plainly
LIKELY = 0.2  # below it we say that we do not know
STYLE_STRENGTH = 0.6  # new words need more room than a variation
MAX_PICTURES = 4  # of one call
REGENERATED = "made anew without it: this is no separation, so other parts may have changed too"


class Generator(Protocol):
    """Makes one sound (or picture, or video). ``backend`` None means: whoever is ready and covers the request."""

    def __call__(
        self,
        backend: str | None,
        request: GenerationRequest,
        *,
        on_progress: OnProgress | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Generated: ...


class Describer(Protocol):
    """Names what is in a picture, sound or video, most probable first."""

    def __call__(self, ref: MediaRef) -> list[Label]: ...


@dataclass(frozen=True)
class Written:
    """A stored file that is no new sound. ``notes``: what the person should know, each a clause; ``details`` is JSON."""

    media: MediaRef
    seconds: float
    notes: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)


class Exporter(Protocol):
    """Writes a sound in a format (wav, flac, ogg, mp3), at ``lufs`` where given. ``made``: its origin, if loa made it."""

    def __call__(self, ref: MediaRef, made: Generated | None, form: str, lufs: float | None) -> Written: ...


class Soundtracker(Protocol):
    """Gives a stored video a soundtrack; ``asked`` holds all other wishes."""

    def __call__(
        self,
        video: MediaRef,
        asked: contract.soundtrack_video,
        *,
        on_progress: OnProgress | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Written: ...


@dataclass(frozen=True)
class Offers:
    """What the house can do besides making and describing; a tool without its function is not offered at all.

    ``seconds_of``: the length of a stored sound. ``ready``: names of the systems for a task ("sound", "music", "speech") that could
    run now, in order of preference.
    """

    seconds_of: Callable[[MediaRef], float] | None = None
    export: Exporter | None = None
    ready: Callable[[str], Sequence[str]] | None = None
    soundtrack: Soundtracker | None = None
    generate_image: Generator | None = None
    generate_video: Generator | None = None


@dataclass(frozen=True)
class TurnContext:
    """What a running turn hands to its tools besides the history."""

    cancelled: Callable[[], bool] = lambda: False


def known_media(ids: Sequence[str], conversation: Conversation) -> tuple[MediaRef, ...]:
    """The media that ``ids`` name, if this thread knows them all.

    Raises:
        MissingMedia: an id that was invented or belongs to another thread; the message lists the known ones.
    """
    refs = []
    for media_id in dict.fromkeys(ids):
        ref = conversation.ref(media_id)
        if ref is None:
            known = ", ".join(f"{m.kind} {m.id}" for m in conversation.media) or "none"
            raise MissingMedia(f"this conversation has no medium {media_id[:80]!r}; known: {known}")
        refs.append(ref)
    return tuple(refs)


def verdict(ref: MediaRef, labels: Sequence[Label]) -> str:
    """One honest sentence about what was recognised.

    >>> verdict(MediaRef(id="sha256:" + 64 * "0", kind="image", mime="image/png"), [("tabby cat", 0.81)])
    'The image shows: tabby cat (81 %).'
    """
    seen = ref.kind in ("image", "video")
    shares = [f"{name} ({round(100 * share)} %)" for name, share in labels[:3]]
    listed, first = ", ".join(shares), next(iter(shares), "")
    best = labels[0][1] if labels else 0.0
    if best >= SURE:
        return f"The {ref.kind} shows: {first}." if seen else f"I hear: {first}."
    if best >= LIKELY:
        return f"I am not sure about the {ref.kind}; perhaps {listed}."
    return f"I am not sure what is in the {ref.kind}; the closest that I know: {listed or 'nothing'}."


def made_line(made: Generated) -> str:
    """What the chat model is told about a finished sound."""
    notes = [
        note for note, true in (("it is silent", made.guard.silent), ("some of it clips", made.guard.clipped_share > 0.01)) if true
    ]
    warning = f"; careful: {', '.join(notes)}" if notes else ""
    removed = made.request.edit is not None and made.request.edit.kind == "remove"
    return f"Made {made.media.id}: {made.seconds:g} s with {made.backend}, seed {made.request.seed}{warning}" + (
        f"; {REGENERATED}" if removed else ""
    )


def parent_of(request: GenerationRequest, conversation: Conversation) -> Sound | None:
    """The earlier sound that a request is another take or a rewording of; None for a new wish.

    The current sound is asked first, then the newest: the same words spoken, the same media followed, or the one prompt
    holds the other.
    """
    current = conversation.current
    for sound in ([current] if current else []) + list(reversed(conversation.sounds)):
        old = sound.request
        words, before = request.prompt.lower(), str(old.get("prompt") or "").lower()
        shared = bool(words and before) and (words in before or before in words)
        media = [ref.id for ref in request.media]
        followed = bool(media) and media == [ref["id"] for ref in old.get("media") or ()]
        spoken = request.transcript is not None and request.transcript == old.get("transcript")
        if shared or followed or spoken:
            return sound
    return None


def change_between(old: GenerationRequest, new: GenerationRequest) -> str:
    """What a request changes of an older one, for people.

    >>> rain = GenerationRequest(prompt="rain")
    >>> change_between(rain, GenerationRequest(prompt="rain with wind", seconds=8, seed=1))
    'prompt “rain with wind”, 5 → 8 s, seed 1'
    """
    changes = []
    if new.edit is not None:
        spans = " and ".join(f"{start:g}–{end:g} s" for start, end in new.edit.regions)
        kind = f"{new.edit.kind} {new.negative_prompt}" if new.edit.kind == "remove" else new.edit.kind
        changes.append(f"{kind} {spans}".strip())
        if new.edit.kind == "variation":
            changes.append(f"strength {new.edit.strength:g}")
    if new.prompt != old.prompt:
        changes.append(f"prompt “{new.prompt}”" if new.prompt else "no prompt")
    if new.seconds != old.seconds:
        changes.append(f"{old.seconds:g} → {new.seconds:g} s")
    if new.seed != old.seed:
        changes.append(f"seed {new.seed}")
    if new.negative_prompt != old.negative_prompt and (new.edit is None or new.edit.kind != "remove"):
        changes.append(f"without {new.negative_prompt}" if new.negative_prompt else "nothing excluded")
    changes += [
        f"{name} {getattr(new, name)}" for name in ("steps", "guidance") if getattr(new, name) not in (None, getattr(old, name))
    ]
    return ", ".join(changes)


def without_words(prompt: str, gone: str) -> str:
    """The prompt without what is to go, its article and what joined it; "" where nothing is left.

    >>> without_words("rain on a roof with birds and thunder", "the birds"), without_words("a bird", "birds")
    ('rain on a roof with thunder', '')
    """
    for name in filter(None, re.split(r",|\band\b", gone)):
        words = re.sub(r"^\s*(?:the|a|an|any|all|some)\s+", "", name.strip(), flags=re.I)
        stem = re.escape(words.removesuffix("s"))
        named = rf"(?:\b(?:the|a|an|some)\s+)?\b{stem}(?:s|es)?\b"
        for pattern, left in (
            (rf"(\bwith|\bof)\s+{named}\s*(?:,|\band\b)\s*", r"\1 "),
            (rf"(?:\s*,)?\s*\b(?:and|with|in|plus|over|by)\s+{named}", " "),
            (rf"^\s*{named}\s*(?:,|\band\b|\bwith\b)?", " "),
            (rf"(?:\s*,)?\s*{named}", " "),
        ):
            shorter, found = re.subn(pattern, left, prompt, flags=re.I)
            if found:
                prompt = " ".join(shorter.split()).strip(" ,")
                break
    return prompt


# -- the tools ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Workshop:
    """What stands behind the tools' names. Each method takes the arguments of the contract and answers for both readers."""

    generate: Generator
    describe: Describer
    offers: Offers

    def generate_audio(self, runtime: Runtime, asked: contract.generate_audio) -> Answer:
        conversation = _conversation(runtime)
        request = _request(asked, conversation, seconds=asked.seconds, transcript=asked.transcript)
        parent, unheard = parent_of(request, conversation), ""
        try:
            made = self.generate(asked.backend, request, **_watched(runtime))
        except UnsupportedRequest:  # a system with one voice can still speak the words
            if request.transcript is None or not request.prompt:
                raise
            unheard = request.prompt
            made = self.generate(asked.backend, request.model_copy(update={"prompt": ""}), **_watched(runtime))
        note = f"; it has a voice of its own: {unheard!r} is not followed" if unheard else ""
        return made_line(made) + note, _artifact("generate_audio", asked.backend, made, parent) | (
            {"unheard": unheard} if unheard else {}
        )

    def edit_audio(self, runtime: Runtime, asked: contract.edit_audio) -> Answer:
        conversation = _conversation(runtime)
        (source,) = known_media([asked.source], conversation)
        version = conversation.versions.by_id(source.id)
        parent = version.sound if version else None
        if asked.kind == "restore":
            return _restored(parent)
        request = self._edit(asked, source, parent)
        try:
            made = self.generate(asked.backend, request, **_watched(runtime))
        except UnsupportedRequest:  # a system that cannot edit can still make it anew
            if asked.kind not in ("style", "remove") or not request.prompt:
                raise
            made = self.generate(asked.backend, request.model_copy(update={"edit": None}), **_watched(runtime))
        return made_line(made), _artifact("edit_audio", asked.backend, made, parent or source)

    def _edit(self, asked: contract.edit_audio, source: MediaRef, parent: Sound | None) -> GenerationRequest:
        if source.kind != "audio":
            raise UnsupportedRequest(f"only sounds can be edited, {source.id[:19]}… is a {source.kind}; generate_audio can follow it")
        kind = "variation" if asked.kind == "style" else asked.kind
        assert kind != "restore"
        length = self._seconds(source, parent)
        if kind == "inpaint" and not asked.regions:
            raise UnsupportedRequest("inpaint needs regions: from and to, in seconds of the source; ask which part is meant")
        for start, end in asked.regions:
            if not 0 <= start < end <= length + 0.005:
                raise UnsupportedRequest(f"the region {start:g} to {end:g} s is not inside the sound, which is {length:.2f} s long")
        if kind == "extend" and (asked.seconds is None or asked.seconds <= length):
            raise UnsupportedRequest(f"extend needs the whole length in seconds, more than the {length:.2f} s that there are")
        if asked.kind == "style" and not asked.prompt:
            raise UnsupportedRequest("style needs a prompt: how it should sound now")
        old, gone = (str((parent.request if parent else {}).get("prompt") or "")), without_addresses(asked.negative_prompt)
        prompt = without_addresses(asked.prompt)
        if kind == "remove":
            gone, prompt = (gone, prompt) if gone else (prompt, "")
            if not gone:
                raise UnsupportedRequest("remove needs negative_prompt: what goes")
            prompt = prompt or without_words(old, gone)
        usual = STYLE_STRENGTH if asked.kind == "style" else 0.5
        return GenerationRequest(
            prompt=prompt or ("" if kind == "remove" else old),
            negative_prompt=gone,
            seconds=asked.seconds if kind == "extend" and asked.seconds else length,
            seed=asked.seed,
            steps=asked.steps,
            guidance=asked.guidance,
            edit=Edit(
                kind=kind,
                source=source,
                strength=usual if asked.strength is None else asked.strength,
                regions=asked.regions if kind == "inpaint" else (),
            ),
        )

    def _seconds(self, source: MediaRef, parent: Sound | None) -> float:
        if parent is not None:
            return parent.seconds
        if self.offers.seconds_of is None:
            raise UnsupportedRequest("only sounds that were made in this conversation can be edited here")
        return self.offers.seconds_of(source)

    def compare(self, runtime: Runtime, asked: contract.compare) -> Answer:
        assert self.offers.ready is not None
        conversation = _conversation(runtime)
        names = tuple(dict.fromkeys(asked.backends)) or tuple(self.offers.ready(asked.task))
        if not names:
            raise UnsupportedRequest(f"no system for {asked.task} is ready here; 'loa models list' says what is missing")
        request = _request(asked, conversation, seconds=asked.seconds, transcript=asked.transcript)
        watched, lines = _watched(runtime), []
        entries: list[dict[str, Any]] = []
        for name in names:
            try:
                made = self.generate(name, request, **watched)
            except (UnsupportedRequest, UnknownName, CheckpointMissing, MissingExtra, GenerationFailed) as error:
                entries.append({"asked_backend": name, "error": str(error)})
                lines.append(f"{name} made nothing: {error}")
            else:
                entries.append({"asked_backend": name, "generated": made.model_dump(mode="json")})
                lines.append(made_line(made))
        if not any("generated" in entry for entry in entries):
            raise ToolException("; ".join(lines))
        if len(names) == 1:
            lines.append(f"only {names[0]} is ready here, so there is nothing to compare it with; 'loa models list' says why")
        return ". ".join(lines), {"tool": "compare", "parent": None, "change": "", "compared": entries}

    def describe_media(self, runtime: Runtime, asked: contract.describe_media) -> Answer:
        refs = known_media(asked.media, _conversation(runtime))
        found = [
            {
                "media": ref.model_dump(mode="json"),
                "labels": [[str(name), float(share)] for name, share in labels],
                "verdict": verdict(ref, labels),
            }
            for ref, labels in [(ref, self.describe(ref)) for ref in refs]
        ]
        return canonical_json(found), {"tool": "describe_media", "described": found}

    def export_audio(self, runtime: Runtime, asked: contract.export_audio) -> Answer:
        assert self.offers.export is not None
        conversation = _conversation(runtime)
        (ref,) = known_media(asked.media, conversation)
        if ref.kind not in ("audio", "video"):  # of a video, its soundtrack
            raise UnsupportedRequest(f"export_audio writes sounds, {ref.id[:19]}… is a {ref.kind}")
        version = conversation.versions.by_id(ref.id)
        made = Generated.model_validate(version.sound.artifact["generated"]) if version else None
        return _file("export_audio", "Wrote", self.offers.export(ref, made, asked.format, asked.lufs))

    def soundtrack_video(self, runtime: Runtime, asked: contract.soundtrack_video) -> Answer:
        assert self.offers.soundtrack is not None
        (video,) = known_media(asked.media, _conversation(runtime))
        if video.kind != "video":
            raise UnsupportedRequest(f"a soundtrack belongs to a video, {video.id[:19]}… is a {video.kind}; use generate_audio for it")
        clean = asked.model_copy(update={"prompt": without_addresses(asked.prompt)})
        return _file(
            "soundtrack_video", "Made the video with its soundtrack", self.offers.soundtrack(video, clean, **_watched(runtime))
        )

    def generate_image(self, runtime: Runtime, asked: contract.generate_image) -> Answer:
        assert self.offers.generate_image is not None
        if not 1 <= asked.count <= MAX_PICTURES:
            raise UnsupportedRequest(f"one call makes 1 to {MAX_PICTURES} pictures, got {asked.count}")
        request = _request(asked, _conversation(runtime))
        requests = [request.model_copy(update={"seed": request.seed + k}) for k in range(asked.count)]
        return _seen("generate_image", [self.offers.generate_image(None, each, **_watched(runtime)) for each in requests])

    def generate_video(self, runtime: Runtime, asked: contract.generate_video) -> Answer:
        assert self.offers.generate_video is not None
        request = _request(asked, _conversation(runtime), seconds=asked.seconds)
        return _seen("generate_video", [self.offers.generate_video(None, request, **_watched(runtime))])


def build_tools(generate: Generator, describe: Describer, offers: Offers | None = None) -> list[BaseTool]:
    """The tools over what ``serving/app.py`` hands in.

    A request that cannot be served (``UnsupportedRequest``, ``MediaError``, an unknown backend, values out of range)
    goes back to the model as error text: it may ask or try again. All other errors leave the tool.
    """
    offers = offers or Offers()
    workshop = _Workshop(generate, describe, offers)
    needs = {
        "compare": offers.ready,
        "export_audio": offers.export,
        "soundtrack_video": offers.soundtrack,
        "generate_image": offers.generate_image,
        "generate_video": offers.generate_video,
    }
    offered = [schema for schema in contract.TOOLS if needs.get(schema.__name__, True) is not None]
    return [_tool(schema, getattr(workshop, schema.__name__)) for schema in offered]


Asked = TypeVar("Asked", bound=BaseModel)


def _tool(schema: type[Asked], function: Callable[[Runtime, Asked], Answer]) -> BaseTool:
    def call(runtime: ToolRuntime[TurnContext, Any], **arguments: Any) -> Answer:
        try:
            return function(runtime, schema.model_validate(arguments))
        except ValidationError as error:
            raise ToolException(_readable(error)) from error
        except (UnsupportedRequest, MediaError, UnknownName) as error:
            raise ToolException(str(error)) from error

    return StructuredTool.from_function(
        call,
        name=schema.__name__,
        description=" ".join((schema.__doc__ or "").split()),
        args_schema=schema.model_json_schema(),  # as JSON: the arguments are checked here, with messages that a reader understands
        response_format="content_and_artifact",
        handle_tool_error=True,
    )


def failure(message: ToolMessage) -> str | None:
    """Why a tool call gave nothing; None where it succeeded."""
    return str(message.text) if message.status == "error" else None


def restoring(sound: Sound) -> Answer:
    """The line and artifact of going back to ``sound``; nothing is made."""
    return (
        f"Back to {sound.media.id}: {sound.seconds:g} s, made before with {sound.backend}; nothing new was made",
        {**sound.artifact, "tool": "edit_audio", "restored": True},
    )


def _restored(sound: Sound | None) -> Answer:
    if sound is None:
        raise UnsupportedRequest("restore goes back to a sound that was made in this conversation; an attached file is still there")
    return restoring(sound)


def _conversation(runtime: Runtime) -> Conversation:
    return Conversation.read(runtime.state["messages"])


def _watched(runtime: Runtime) -> dict[str, Any]:
    """Progress to whoever listens to the turn, and whether it was cancelled."""
    context, write = runtime.context or TurnContext(), runtime.stream_writer

    def report(progress: Progress) -> None:
        write({"step": progress.step, "of": progress.of, "eta_s": progress.eta_s})

    return {"on_progress": report, "cancelled": context.cancelled}


def _request(asked: Any, conversation: Conversation, **more: Any) -> GenerationRequest:
    """The request in the arguments that several tools share; only media of this thread, no addresses in its words."""
    return GenerationRequest(
        prompt=without_addresses(asked.prompt),
        negative_prompt=without_addresses(asked.negative_prompt),
        media=known_media(asked.media, conversation),
        seed=asked.seed,
        steps=asked.steps,
        guidance=asked.guidance,
        **more,
    )


def _artifact(tool: str, backend: str | None, made: Generated, parent: Sound | MediaRef | None) -> dict[str, Any]:
    change, parent_id = "", None
    if isinstance(parent, Sound):
        change, parent_id = change_between(GenerationRequest.model_validate(parent.request), made.request), parent.media.id
    elif parent is not None:
        change, parent_id = change_between(GenerationRequest(prompt=made.request.prompt or "-"), made.request), parent.id
    return {
        "tool": tool,
        "asked_backend": backend,
        "parent": parent_id,
        "change": change,
        "generated": made.model_dump(mode="json"),
    }


def _file(tool: str, done: str, written: Written) -> Answer:
    notes = "".join(f"; {note}" for note in written.notes)
    known = {"seconds": written.seconds, "notes": list(written.notes)}
    file = {"media": written.media.model_dump(mode="json"), **known, **written.details}
    return f"{done}: {written.media.id}, {written.media.mime}, {written.seconds:g} s{notes}", {"tool": tool, "files": [file]}


def _seen(tool: str, made: Sequence[Generated]) -> Answer:
    files = [{"media": m.media.model_dump(mode="json"), "seconds": m.seconds, "generated": m.model_dump(mode="json")} for m in made]
    lines = [f"Made {m.media.kind} {m.media.id} with {m.backend}, seed {m.request.seed}" for m in made]
    return "; ".join(lines), {"tool": tool, "files": files}


def _readable(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    got = f", got {first['input']!r}" if where else ""
    return f"{where or 'request'}: {first['msg'].removeprefix('Value error, ')}{got}"[:400]
