"""A turn put to the real router with its past simulated and nothing made: which calls come of it, and when.

The tools take what the contract says, write down their arguments and make no sound.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import BaseTool, StructuredTool

from media.refs import MediaRef
from orchestrator.contract import TOOLS
from orchestrator.conversation import TextDelta, ToolStarted, Turn, TurnDone, to_message
from orchestrator.router import Router

PROMPTS = ("a dog barking in the wind", "rain on a roof", "a piano")  # of "audio", "audio2", "audio3"
_MIMES = {"image": "image/png", "audio": "audio/wav", "video": "video/mp4"}
_SECONDS = 5.0


@dataclass(frozen=True)
class Rehearsed:
    """The calls in order with their arguments, the words of the answer, and seconds to the first event and the decision."""

    calls: tuple[tuple[str, dict[str, Any]], ...]
    text: str
    first_s: float
    decided_s: float


class Rehearsal:
    """A router whose tools only write down. Each turn is a thread of its own."""

    def __init__(self, chat_model: BaseChatModel, folder: Path) -> None:
        self._router = Router(chat_model, _tools(), folder / "rehearsal.sqlite")
        self._numbers = itertools.count()

    def close(self) -> None:
        self._router.close()

    def answer(self, say: str, attach: Sequence[str] = (), history: Sequence[str] = ()) -> Rehearsed:
        """What comes of ``say`` with media of the kinds ``attach``, after what ``history`` names.

        Args:
            history: of "image", "video", "audio", "audio2", "audio3" (so many sounds) and "compare".
        """
        media = tuple(medium(kind, 100 + k) for k, kind in enumerate(attach))
        if not say.strip() and not media:
            return Rehearsed((), "", 0.0, 0.0)
        thread = str(next(self._numbers))
        earlier = past(history)
        if earlier:
            self._router.remember(thread, earlier)
        begun = time.perf_counter()
        first = decided = None
        calls, text = [], ""
        for event in self._router.reply(thread, Turn(text=say, media=media)):
            now = time.perf_counter() - begun
            if isinstance(event, ToolStarted):
                calls.append((event.tool, dict(event.args)))
            if isinstance(event, ToolStarted | TextDelta | TurnDone):
                first = now if first is None else first
                decided = now if decided is None else decided
            if isinstance(event, TurnDone):
                text = event.text
        return Rehearsed(tuple(calls), text, first or 0.0, decided or 0.0)


def medium(kind: str, number: int) -> MediaRef:
    """A medium that is named and does not exist."""
    return MediaRef.model_validate({"id": f"sha256:{number:064x}", "kind": kind, "mime": _MIMES[kind]})


def past(history: Sequence[str]) -> list[BaseMessage]:
    """The messages of what came before."""
    messages: list[BaseMessage] = []
    for what in history:
        if what in ("image", "video"):
            messages += [to_message(Turn(text="look at this", media=(medium(what, 900),))), AIMessage("I see it.")]
        elif what == "compare":
            messages += _made("compare", [(PROMPTS[0], backend) for backend in ("nano", "audioldm2")], "compare two systems", 500)
        else:
            for k, prompt in enumerate(PROMPTS[: int(what.removeprefix("audio") or 1)]):
                messages += _made("generate_audio", [(prompt, "nano")], prompt, k)
    return messages


def _made(tool: str, sounds: Sequence[tuple[str, str]], said: str, number: int) -> list[BaseMessage]:
    names = [f"past_{number + k}" for k in range(len(sounds))]
    args = {"prompt": sounds[0][0]}
    calls = [{"name": tool, "args": args, "id": name, "type": "tool_call"} for name in names]
    results = [
        ToolMessage("Made it", tool_call_id=name, name=tool, artifact=generated(tool, prompt, backend, number + k))
        for k, (name, (prompt, backend)) in enumerate(zip(names, sounds, strict=True))
    ]
    return [HumanMessage(said), AIMessage("", tool_calls=calls), *results, AIMessage(f"Here is “{sounds[0][0]}”.")]


def generated(tool: str, prompt: str, backend: str, number: int) -> dict[str, Any]:
    """A tool's artifact of a sound, as ``tools.py`` writes it."""
    request: dict[str, Any] = {
        "prompt": prompt, "media": [], "transcript": None, "seconds": _SECONDS, "seed": 0, "steps": None, "guidance": None,
        "negative_prompt": "", "candidates": 1, "edit": None, "loa": [],
    }  # fmt: skip
    sound = {
        "media": medium("audio", number).model_dump(mode="json"), "request": request, "backend": backend,
        "fingerprint": "f", "sample_rate": 16000, "seconds": _SECONDS, "wall_seconds": 1.0,
        "guard": {"silent": False}, "rows": 1,
    }  # fmt: skip
    return {"tool": tool, "asked_backend": backend if tool == "compare" else None, "generated": sound}


def _tools() -> list[BaseTool]:
    def noted(**arguments: Any) -> str:
        return "Noted; this is a rehearsal, so nothing was made."

    return [StructuredTool.from_function(noted, name=tool.__name__, description=tool.__doc__, args_schema=tool) for tool in TOOLS]
