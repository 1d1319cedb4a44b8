"""Scores rows of a routing file against a chat model: which tool, and with which arguments."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from media.refs import MediaRef
from orchestrator.conversation import Turn, to_message

PROMPTS = ("a dog barking in the wind", "rain on a roof", "a piano")
MIMES = {"image": "image/png", "audio": "audio/wav", "video": "video/mp4"}
TOOLS = [{"type": "function", "function": {"name": name}} for name in ("generate_audio", "describe_media")]


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]


def ref(kind: str, number: int) -> MediaRef:
    return MediaRef.model_validate({"id": f"sha256:{number:064x}", "kind": kind, "mime": MIMES[kind]})


def generated(number: int, prompt: str) -> dict[str, Any]:
    """A tool artifact as ``generate_audio`` writes it."""
    request = {
        "prompt": prompt, "media": [], "transcript": None, "seconds": 5.0, "seed": 0, "steps": None, "guidance": None,
        "negative_prompt": "", "candidates": 1, "edit": None, "loa": [],
    }  # fmt: skip
    sound = {
        "media": ref("audio", number).model_dump(mode="json"), "request": request, "backend": "nano",
        "fingerprint": "f", "sample_rate": 16000, "seconds": 5.0, "wall_seconds": 1.0,
        "guard": {"silent": False}, "rows": 1,
    }  # fmt: skip
    return {"tool": "generate_audio", "asked_backend": None, "generated": sound}


def messages(row: Mapping[str, Any]) -> list[BaseMessage]:
    """The row as the history that a chat model would see."""
    past: list[BaseMessage] = []
    for what in row.get("history", ()):
        if what in ("image", "video"):
            past += [to_message(Turn(text="look at this", media=(ref(what, 900),))), AIMessage("I see it.")]
            continue
        for k, prompt in enumerate(PROMPTS[: int(what.removeprefix("audio") or 1)]):
            call = {"name": "generate_audio", "args": {"prompt": prompt}, "id": f"c{k}", "type": "tool_call"}
            past += [HumanMessage(prompt), AIMessage("", tool_calls=[call])]
            past += [ToolMessage("Made it", tool_call_id=f"c{k}", name="generate_audio", artifact=generated(k, prompt))]
            past += [AIMessage(f"Here is “{prompt}”.")]
    media = tuple(ref(kind, 100 + k) for k, kind in enumerate(row.get("attach", ())))
    if not row["say"]:
        return [*past, HumanMessage(content=to_message(Turn(media=media)).content)]
    return [*past, to_message(Turn(text=row["say"], media=media))]


def faults(row: Mapping[str, Any], answer: AIMessage) -> tuple[bool, list[str]]:
    """Whether the tool is right, and which expected arguments are not."""
    call = answer.tool_calls[0] if answer.tool_calls else None
    if (call["name"] if call else None) not in (row["tool"].split("|") if row["tool"] else [None]):
        return False, [f"called {call and call['name']}: {str(answer.text)[:60]}"]
    args = call["args"] if call else {}
    prompt = args.get("prompt", "").lower()
    wrong = [f"no {word!r} in {prompt!r}" for word in row.get("words", ()) if word.lower() not in prompt]
    wrong += [f"{word!r} in {prompt!r}" for word in row.get("not_words", ()) if word.lower() in prompt]
    if "media" in row and len(args.get("media", ())) != row["media"]:
        wrong.append(f"media {args.get('media')}")
    if "negative" in row and row["negative"] not in args.get("negative_prompt", ""):
        wrong.append(f"negative {args.get('negative_prompt')!r}")
    if row.get("asks") and not str(answer.text).rstrip().endswith(("?", "attach it.")):
        wrong.append(f"no question in {str(answer.text)!r}")
    default = {"seconds": 5.0, "seed": 0}
    for key in ("seconds", "seed", "steps", "guidance", "backend", "transcript"):
        if key in row and args.get(key, default.get(key)) != (default.get(key) if row[key] is None else row[key]):
            wrong.append(f"{key} {args.get(key)!r}")
    return True, wrong


def score(path: Path, model: BaseChatModel) -> dict[str, Any]:
    """Shares over all rows, with what went wrong; a row with a wrong tool has wrong arguments too."""
    table = rows(path)
    results = []
    for row in table:
        answer = model.invoke(messages(row), tools=TOOLS)
        results.append((row["say"], *faults(row, answer)))
    return {
        "rows": len(table),
        "tool_accuracy": sum(right for _, right, _ in results) / len(table),
        "argument_accuracy": sum(right and not wrong for _, right, wrong in results) / len(table),
        "wrong": [(say, wrong) for say, _, wrong in results if wrong],
    }
