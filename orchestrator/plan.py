"""What the small language model reads and writes: a few short lines of context and request in, one flat JSON object out.

Knows texts and JSON schemas; neither weights nor LangChain. Numbers, names of systems and quotations are no part of a plan: rules
read them exactly (parsing.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

CHANGE, ASK, TALK = "change", "ask", "talk"  # decisions beside the tools: an earlier sound anew, one short question, or words alone

# In the order in which they are written: what decides comes first.
FIELDS: dict[str, dict[str, Any]] = {
    "kind": {"enum": ["variation", "style", "inpaint", "extend", "restore"]},
    "prompt": {"type": "string", "maxLength": 200},
    "negative": {"type": "string", "maxLength": 80},
}


def question(text: str, english: str, attached: Sequence[str], earlier: Sequence[str], media: Sequence[str] = ()) -> str:
    """The request as the model reads it.

    Args:
        english: the text as English where it is not; the same as ``text``, or either of them "", and one line is left out.
        attached: kinds that came along. earlier: prompts of the sounds so far. media: kinds that came with earlier turns.

    >>> question("ruhiger", "calmer", [], ["rain"])
    'sounds: rain\\nruhiger\\n= calmer'
    """
    lines = [f"attached: {', '.join(attached)}"] if attached else []
    lines += [f"before: {', '.join(dict.fromkeys(media))}"] if media else []
    lines += [f"sounds: {'; '.join(prompt[:80] for prompt in earlier[-3:])}"] if earlier else []
    lines += [text] if text else []
    lines += [f"= {english}"] if english and english != text else []
    return "\n".join(lines)


def dialogue(asked: str) -> str:
    """The model's chat form around ``asked``, up to where its answer begins."""
    return f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n"


def written(plan: Mapping[str, Any]) -> str:
    """The plan as the model writes it: ``tool`` first, then the fields in their order, nothing that was not said."""
    kept = {"tool": plan["tool"]} | {name: plan[name] for name in FIELDS if plan.get(name) not in (None, "", [], ())}
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":"))


def schema(tools: Sequence[str], fields: Sequence[str] = tuple(FIELDS)) -> dict[str, Any]:
    """The JSON schema of a plan over the tools that are bound; ``fields`` are those that may be written."""
    return {
        "type": "object",
        "properties": {"tool": {"enum": decisions(tools)}} | {name: FIELDS[name] for name in FIELDS if name in fields},
        "required": ["tool"],
        "additionalProperties": False,
        "x-guidance": {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"},
    }


def decisions(tools: Sequence[str]) -> list[str]:
    """What a plan may say to do where ``tools`` are bound."""
    return [*tools, *([CHANGE] if "generate_audio" in tools else []), ASK, TALK]
