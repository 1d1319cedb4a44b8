"""The tools that the chat model may call, and the guard between its arguments and the generators.

A tool takes media ids of its own thread and nothing else that names a thing outside: no path, no address. What it
made goes into the message's artifact as JSON, so that nobody ever parses prose. Who generates and who describes is
handed in; this file knows neither backends nor encoders.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from langchain.tools import ToolRuntime
from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool, StructuredTool, ToolException
from pydantic import Field, ValidationError

from configs.registry import UnknownName
from generators.base import (
    Generated,
    GenerationRequest,
    MediaError,
    MissingMedia,
    OnProgress,
    Progress,
    UnsupportedRequest,
    canonical_json,
)
from media.refs import MediaRef
from orchestrator.conversation import Conversation, without_addresses

Label = tuple[str, float]  # name, probability 0..1

SURE = 0.5  # a top label at least this probable is said plainly
LIKELY = 0.2  # below it we say that we do not know


class Generator(Protocol):
    """Makes one sound. ``backend`` None means: whoever is ready and covers the request."""

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
    return f"Made {made.media.id}: {made.seconds:g} s with {made.backend}, seed {made.request.seed}{warning}"


def build_tools(generate: Generator, describe: Describer) -> list[BaseTool]:
    """The tools over what ``serving/app.py`` hands in.

    A request that cannot be served (``UnsupportedRequest``, ``MediaError``, an unknown backend, values out of range)
    goes back to the model as error text: it may ask or try again. All other errors leave the tool.
    """

    def generate_audio(
        runtime: ToolRuntime[TurnContext, Any],
        prompt: Annotated[str, Field(description="what is heard, in English, without wishes or durations")] = "",
        media: Annotated[tuple[str, ...], Field(description="ids of pictures, sounds or videos to follow")] = (),
        seconds: Annotated[float, Field(description="length of the sound")] = 5.0,
        seed: Annotated[int, Field(description="the same seed gives the same sound")] = 0,
        transcript: Annotated[str | None, Field(description="words to be spoken")] = None,
        negative_prompt: Annotated[str, Field(description="what must not be heard")] = "",
        steps: Annotated[int | None, Field(description="denoising steps")] = None,
        guidance: Annotated[float | None, Field(description="how closely to follow the prompt")] = None,
        backend: Annotated[str | None, Field(description="a system's name, only if the person named one")] = None,
    ) -> tuple[str, dict[str, Any]]:
        """Make a sound from words, pictures, sounds or videos of this conversation, or speak a transcript."""
        context = runtime.context or TurnContext()
        write = runtime.stream_writer

        def report(progress: Progress) -> None:
            write({"step": progress.step, "of": progress.of, "eta_s": progress.eta_s})

        try:
            request = GenerationRequest(
                prompt=without_addresses(prompt),
                media=known_media(media, Conversation.read(runtime.state["messages"])),
                seconds=seconds,
                seed=seed,
                transcript=transcript,
                negative_prompt=without_addresses(negative_prompt),
                steps=steps,
                guidance=guidance,
            )
            made = generate(backend, request, on_progress=report, cancelled=context.cancelled)
        except ValidationError as error:
            raise ToolException(_readable(error)) from error
        except (UnsupportedRequest, MediaError, UnknownName) as error:
            raise ToolException(str(error)) from error
        return made_line(made), {
            "tool": "generate_audio",
            "asked_backend": backend,
            "generated": made.model_dump(mode="json"),
        }

    def describe_media(
        runtime: ToolRuntime[TurnContext, Any],
        media: Annotated[tuple[str, ...], Field(description="ids of this conversation", min_length=1)],
    ) -> tuple[str, dict[str, Any]]:
        """Tell what is in a picture, sound or video of this conversation, with confidences."""
        try:
            refs = known_media(media, Conversation.read(runtime.state["messages"]))
            seen = [(ref, describe(ref)) for ref in refs]
        except (UnsupportedRequest, MediaError) as error:
            raise ToolException(str(error)) from error
        found = [
            {
                "media": ref.model_dump(mode="json"),
                "labels": [[str(name), float(share)] for name, share in labels],
                "verdict": verdict(ref, labels),
            }
            for ref, labels in seen
        ]
        return canonical_json(found), {"tool": "describe_media", "described": found}

    return [
        StructuredTool.from_function(
            function, response_format="content_and_artifact", handle_tool_error=True, handle_validation_error=True
        )
        for function in (generate_audio, describe_media)
    ]


def failure(message: ToolMessage) -> str | None:
    """Why a tool call gave nothing; None where it succeeded."""
    return str(message.text) if message.status == "error" else None


def _readable(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    got = f", got {first['input']!r}" if where else ""
    return f"{where or 'request'}: {first['msg'].removeprefix('Value error, ')}{got}"[:400]
