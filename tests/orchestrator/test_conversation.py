"""Turns, events and messages."""

from __future__ import annotations

import subprocess
import sys

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from pydantic import TypeAdapter, ValidationError

from media.refs import MediaRef
from orchestrator.conversation import (
    INTERRUPTED,
    Conversation,
    Event,
    MediaReady,
    Progress,
    Turn,
    media_of,
    outcome,
    repaired,
    to_message,
    without_addresses,
)
from tests.orchestrator.routing import generated

PICTURE = MediaRef(id="sha256:" + 64 * "a", kind="image", mime="image/png")
CLIP = MediaRef(id="sha256:" + 64 * "b", kind="video", mime="video/mp4", span=(1.0, 2.5))


def test_media_enter_a_message_as_ids_and_come_back_whole() -> None:
    message = to_message(Turn(text="hello", media=(PICTURE, CLIP)))
    assert message.content[1] == {"type": "image", "file_id": PICTURE.id, "mime_type": "image/png"}
    assert media_of(message) == (PICTURE, CLIP)
    assert message.text == "hello"


def test_an_empty_turn_is_refused() -> None:
    with pytest.raises(ValidationError, match="say something or attach a file"):
        Turn(text="  \n")


def test_a_conversation_knows_attachments_and_sounds_in_order() -> None:
    made = ToolMessage("Made it", tool_call_id="1", artifact=generated(7, "a dog"))
    seen = Conversation.read([to_message(Turn(media=(PICTURE,))), made, to_message(Turn(text="x", media=(CLIP, PICTURE)))])
    assert [ref.id for ref in seen.media] == [PICTURE.id, f"sha256:{7:064x}", CLIP.id]
    assert [sound.request["prompt"] for sound in seen.sounds] == ["a dog"]
    assert seen.last("image") == PICTURE and seen.ref("sha256:" + 64 * "c") is None


def test_a_failed_call_brings_no_sound() -> None:
    failed = ToolMessage("no", tool_call_id="1", status="error", artifact=generated(7, "a dog"))
    assert Conversation.read([failed]).sounds == ()


def test_what_a_tool_did_is_told_from_its_artifact_alone() -> None:
    sound = generated(7, "rain")
    told = {
        "restored": {**sound, "restored": True},
        "compared": {"compared": [{"generated": sound["generated"]}, {"asked_backend": "big", "error": "big.bin is not here."}]},
        "plain": sound,
    }
    said = {name: outcome(ToolMessage("x", tool_call_id="1", artifact=artifact)) for name, artifact in told.items()}
    assert said["restored"] == "Back to “rain”: 5 s, made with nano before (seed 0)."
    assert said["compared"] == "Here is the comparison. nano: 5 s; big made nothing (big.bin is not here)."
    assert said["plain"] is None
    request = {**sound["generated"]["request"], "negative_prompt": "birds", "edit": {"kind": "remove"}}
    removed = outcome(ToolMessage("x", tool_call_id="1", artifact={"generated": {**sound["generated"], "request": request}}))
    assert removed is not None and "without “birds”" in removed and "not separated" in removed
    alone = {"compared": [{"generated": sound["generated"]}]}
    only = outcome(ToolMessage("x", tool_call_id="1", artifact=alone))
    assert only == "Here is the comparison. nano: 5 s. No other one is ready here: 'loa models list' says what they need."
    written = {"format": "mp3", "name": "rain", "seconds": 4.5, "notes": ["softer than asked"]}
    export = outcome(ToolMessage("x", tool_call_id="1", artifact={"tool": "export_audio", "files": [written]}))
    assert export == "Here is “rain” as MP3: 4.5 s; softer than asked."
    file = {"media": PICTURE.model_dump(), "seconds": 0}
    assert outcome(ToolMessage("Wrote it", tool_call_id="1", artifact={"files": [file]})) == "Wrote it."
    assert outcome(ToolMessage("no", tool_call_id="1", status="error", artifact=told["compared"])) is None


def test_open_calls_are_answered_where_they_stand() -> None:
    calls = [{"name": "generate_audio", "args": {}, "id": name, "type": "tool_call"} for name in ("1", "2")]
    history = [
        HumanMessage("a"),
        AIMessage("", tool_calls=calls),
        ToolMessage("ok", tool_call_id="1"),
        HumanMessage("b"),
    ]
    whole = repaired(history)
    assert whole is not None
    assert [m.type for m in whole] == ["human", "ai", "tool", "tool", "human"]
    assert (whole[3].tool_call_id, whole[3].status, whole[3].content) == ("2", "error", INTERRUPTED)
    assert repaired(whole) is None


@pytest.mark.parametrize(
    "event",
    [Progress(step=1, of=4), MediaReady(media=PICTURE, seconds=1, sample_rate=1, backend="b", seed=0, details={})],
)
def test_events_survive_json(event: Event) -> None:
    adapter: TypeAdapter[Event] = TypeAdapter(Event)
    assert adapter.validate_json(adapter.dump_json(event)) == event


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("rain http://a.b/c and wind", "rain and wind"),
        ("rain file:///etc/passwd", "rain"),
        ("rain concat:a.wav|b.wav", "rain"),
        ("rain /etc/passwd", "rain"),
        ("rain ../../x/y.png", "rain"),
        ("rain ~/.ssh/id_rsa", "rain"),
        ("rain C:\\secret\\x", "rain"),
        ("rain \\\\host\\share", "rain"),
        ("rain www.evil.example", "rain"),
        ("rain secrets.txt", "rain"),
        ("rain and/or wind, 3.5 s: fine", "rain and/or wind, 3.5 s: fine"),
    ],
)
def test_addresses_and_paths_leave_the_text(text: str, left: str) -> None:
    assert without_addresses(text) == left


def test_importing_it_loads_no_langchain_and_no_torch() -> None:
    code = (
        "import sys, orchestrator.conversation\n"
        "print([m for m in ('langchain', 'langchain_core', 'langgraph', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
