"""What the small language model reads and writes: one short line of context and request in, one flat JSON object out.

Knows texts and JSON schemas; neither weights nor LangChain.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

ASK, TALK = "ask", "talk"  # decisions beside the tools: one short question, or words alone

# In the order in which they are written: what decides comes first, what rules read better comes last.
FIELDS: dict[str, dict[str, Any]] = {
    "prompt": {"type": "string", "maxLength": 200},
    "negative": {"type": "string", "maxLength": 80},
    "kind": {"enum": ["variation", "style", "inpaint", "extend", "remove", "restore"]},
    "which": {"type": "integer", "minimum": 1, "maximum": 9},
    "transcript": {"type": "string", "maxLength": 400},
    "seconds": {"type": "number", "minimum": 0, "maximum": 3600},
    "region": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
    "seed": {"type": "integer", "minimum": 0},
    "steps": {"type": "integer", "minimum": 1, "maximum": 1000},
    "guidance": {"type": "number", "minimum": 0, "maximum": 50},
    "count": {"type": "integer", "minimum": 2, "maximum": 4},
    "backends": {"type": "array", "items": {"type": "string", "maxLength": 40}, "minItems": 1, "maxItems": 5},
    "without": {"enum": ["ambience", "foley", "music"]},
    "original": {"enum": ["keep", "duck", "drop"]},
    "format": {"enum": ["wav", "flac", "ogg", "mp3"]},
    "lufs": {"type": "number", "minimum": -70, "maximum": 0},
}


def question(text: str, attached: Sequence[str], earlier: Sequence[str], media: Sequence[str] = ()) -> str:
    """The request as the model reads it.

    Args:
        attached: kinds that came along. earlier: prompts of the sounds so far. media: kinds that came with earlier turns.

    >>> question("calmer", [], ["rain"])
    'sounds: rain\\ncalmer'
    """
    lines = [f"attached: {', '.join(attached)}"] if attached else []
    lines += [f"before: {', '.join(dict.fromkeys(media))}"] if media else []
    lines += [f"sounds: {'; '.join(earlier[-4:])}"] if earlier else []
    return "\n".join([*lines, text])


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
        "properties": {"tool": {"enum": [*tools, ASK, TALK]}} | {name: FIELDS[name] for name in FIELDS if name in fields},
        "required": ["tool"],
        "additionalProperties": False,
        "x-guidance": {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"},
    }
