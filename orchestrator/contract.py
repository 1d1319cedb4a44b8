"""The arguments of each tool, as a chat model writes them; names and meanings are a contract with every model.

`tools.py` holds what is behind them. Whatever a model is, it may name media only by ids of its thread.
"""

from __future__ import annotations

from typing import Annotated, Literal

from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, ConfigDict, Field

Edit = Literal["variation", "style", "inpaint", "extend", "remove", "restore"]
Layer = Literal["ambience", "foley", "music"]
Task = Literal["sound", "music", "speech"]

Prompt = Annotated[str, Field(description="what is heard, in English, without wishes or durations")]
Negative = Annotated[str, Field(description="what must not be heard")]
Media = Annotated[tuple[str, ...], Field(description="ids of pictures, sounds or videos to follow")]
One = Annotated[tuple[str, ...], Field(description="the id of one medium of this conversation", min_length=1, max_length=1)]
Seed = Annotated[int, Field(description="the same seed gives the same sound")]
Steps = Annotated[int | None, Field(description="denoising steps")]
Guidance = Annotated[float | None, Field(description="how closely to follow the prompt")]
Backend = Annotated[str | None, Field(description="a system's name, only if the person named one")]
Lufs = Annotated[float | None, Field(description="integrated loudness, such as -16")]


class _Arguments(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class generate_audio(_Arguments):
    """Make a sound from words, pictures, sounds or videos of this conversation, or speak a transcript."""

    prompt: Prompt = ""
    media: Media = ()
    seconds: float = 5.0
    seed: Seed = 0
    transcript: Annotated[str | None, Field(description="words to be spoken")] = None
    negative_prompt: Negative = ""
    steps: Steps = None
    guidance: Guidance = None
    backend: Backend = None


class edit_audio(_Arguments):
    """Change an earlier sound: vary it, give it another style, redo regions, extend it, take something out, restore a version."""

    source: Annotated[str, Field(description="id of the sound to change")]
    kind: Edit
    prompt: Prompt = ""
    negative_prompt: Negative = ""
    regions: Annotated[tuple[tuple[float, float], ...], Field(description="from and to, in seconds of the source")] = ()
    strength: Annotated[float | None, Field(description="0 keeps the sound, 1 forgets it", ge=0, le=1)] = None
    seconds: Annotated[float | None, Field(description="whole length after the change")] = None
    seed: Seed = 0
    steps: Steps = None
    guidance: Guidance = None
    backend: Backend = None


class soundtrack_video(_Arguments):
    """Give a video of this conversation a whole soundtrack, in layers, and join it to the picture."""

    media: One
    prompt: Prompt = ""
    layers: tuple[Layer, ...] = ("ambience", "foley", "music")
    original: Annotated[Literal["keep", "duck", "drop"], Field(description="what happens to the sound that is there")] = "drop"
    lufs: Lufs = None
    seed: Seed = 0
    backend: Backend = None


class compare(_Arguments):
    """Make the same sound with several systems, to hear them side by side."""

    prompt: Prompt = ""
    media: Media = ()
    backends: Annotated[tuple[str, ...], Field(description="systems by name; empty: all that are ready")] = ()
    task: Task = "sound"
    seconds: float = 5.0
    seed: Seed = 0
    transcript: str | None = None
    negative_prompt: Negative = ""
    steps: Steps = None
    guidance: Guidance = None


class describe_media(_Arguments):
    """Tell what is in a picture, sound or video of this conversation, with confidences."""

    media: Annotated[tuple[str, ...], Field(description="ids of this conversation", min_length=1)]


class export_audio(_Arguments):
    """Write an earlier sound as a file."""

    media: One
    format: Literal["wav", "flac", "ogg", "mp3"] = "wav"
    lufs: Lufs = None


class generate_image(_Arguments):
    """Make a picture."""

    prompt: Prompt = ""
    media: Media = ()
    seed: Seed = 0
    negative_prompt: Negative = ""
    count: int = 1
    steps: Steps = None
    guidance: Guidance = None


class generate_video(_Arguments):
    """Make a video."""

    prompt: Prompt = ""
    media: Media = ()
    seconds: float = 5.0
    seed: Seed = 0
    negative_prompt: Negative = ""
    steps: Steps = None
    guidance: Guidance = None


TOOLS: tuple[type[_Arguments], ...] = (
    generate_audio, edit_audio, soundtrack_video, compare, describe_media, export_audio, generate_image, generate_video,
)  # fmt: skip
NAMES = tuple(tool.__name__ for tool in TOOLS)


def schemas() -> list[dict[str, object]]:
    """All tools in the form that chat models are bound to."""
    return [convert_to_openai_tool(tool) for tool in TOOLS]
