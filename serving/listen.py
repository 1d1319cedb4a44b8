"""`loa study listen`: a listening test over a study's sounds, as a page that this machine serves.

Every answer is on disk before the page goes on, so a reload, a closed lid or a restarted server loses nothing. A rater is a random name
in the browser's storage; what the page is handed are opaque names, so that nothing tells which system is heard.
"""

from __future__ import annotations

import csv
import io
import json
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from fastapi import Body, FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.middleware.trustedhost import TrustedHostMiddleware

from configs.registry import ConfigError
from evaluation.listening import (
    GRADES,
    QUESTIONS,
    REFERENCE,
    Answer,
    BadAnswer,
    Kind,
    Sound,
    Test,
    Trial,
    analyse,
    as_rows,
    check_answer,
    keep,
    load,
    order,
    plan,
    prepare,
    read_answers,
    save,
)
from evaluation.study import read_study, reference_path, study_rows
from media.audio import read_audio
from media.refs import write_whole

# Nothing but what this server hands out itself; no inline script or style, no frame around it, no form to elsewhere.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
MAX_RATERS = 10_000
LOCAL = ("127.0.0.1", "localhost", "::1")
HOSTS = ("127.0.0.1", "localhost", "[::1]")
HEARD = 0.9  # share of every sound that must have been played before its rating counts
PAGE = {"": ("listen.html", "text/html"), "listen.js": ("listen.js", "text/javascript"), "listen.css": ("listen.css", "text/css")}


class Given(BaseModel):
    """What the page sends: ratings, and seconds of each sound that were played, by opaque name."""

    model_config = ConfigDict(extra="forbid")
    trial: str = Field(max_length=40)
    ratings: dict[Annotated[str, Field(max_length=40)], float] = Field(max_length=50)
    heard: dict[Annotated[str, Field(max_length=40)], float] = Field(max_length=50)


def material(folder: Path) -> tuple[list[Sound], dict[str, Path]]:
    """What a study made, and the recordings that its prompts name, by prompt id.

    Raises:
        ConfigError: the folder holds no study.
    """
    prompts = {prompt.id: prompt for prompt in read_study(folder).config.prompts}
    sounds = [
        Sound(
            system=row.backend,
            prompt=row.prompt,
            caption=prompts[row.prompt].caption or prompts[row.prompt].transcript or row.prompt,
            seed=row.seed,
            path=(folder / row.audio).resolve(),
        )
        for row in study_rows(folder)
        if row.audio is not None
    ]
    found = {name: reference_path(folder, prompt) for name, prompt in prompts.items()}
    return sounds, {name: path.resolve() for name, path in found.items() if path is not None}


def results(folder: Path) -> dict[str, Any]:
    """What the raters of a study's test said so far; written to ``listening/results.json`` and ``results.csv`` too.

    Raises:
        ConfigError: no test was begun there.
    """
    place = folder / "listening"
    test = load(place)
    if test is None:
        raise ConfigError(f"{folder} holds no listening test: 'loa study listen {folder}' begins one")
    answers = read_answers(place / "answers.jsonl")
    told = {"test": {"seed": test.seed, "kinds": test.kinds, "systems": test.systems}, **analyse(test, answers)}
    write_whole(place / "results.json", (json.dumps(told, indent=1) + "\n").encode())
    rows = as_rows(test, answers)
    table = io.StringIO()
    writer = csv.DictWriter(table, list(rows[0]) if rows else ["rater"])
    writer.writeheader()
    writer.writerows(rows)
    write_whole(place / "results.csv", table.getvalue().encode())
    return told


def begin(place: Path, sounds: Sequence[Sound], references: Mapping[str, Path], kinds: Sequence[Kind], seed: int) -> Test:
    """The test that lies in ``place``, or a new one over ``sounds``, with its files prepared.

    Raises:
        ConfigError: the test that was begun asks other questions, or there is nothing to ask.
    """
    test = load(place)
    if test is None:
        test = plan(sounds, references, kinds, seed)
        prepare(test, place / "stimuli")
        save(test, place)  # last: a test that is there has all its sounds
    elif test.kinds != tuple(kinds) or test.seed != seed:
        raise ConfigError(
            f"{place} holds a test of {', '.join(test.kinds)} with seed {test.seed}: go on with those, or move it away to begin another"
        )
    return test


class Sessions:
    """Who has answered what; the file of answers is the only memory that counts."""

    def __init__(self, test: Test, folder: Path) -> None:
        self.test = test
        self.folder = folder
        self._lock = threading.Lock()
        self._done: dict[str, set[str]] = {}
        self._shown: dict[tuple[str, str], float] = {}  # when a trial was first handed out
        self._seconds: dict[str, float] = {}
        for answer in read_answers(self.answers):
            self._done.setdefault(answer.rater, set()).add(answer.trial)

    @property
    def answers(self) -> Path:
        return self.folder / "answers.jsonl"

    def enter(self) -> str:
        with self._lock:
            if len(self._done) >= MAX_RATERS:
                raise HTTPException(503, "this test has as many raters as it takes")
            rater = secrets.token_hex(12)
            self._done[rater] = set()
        return rater

    def known(self, rater: str) -> bool:
        return rater in self._done

    def state(self, rater: str) -> dict[str, Any]:
        """How far a rater is, and the next question."""
        asked = order(self.test, rater)
        left = [(trial, names) for trial, names in asked if trial.id not in self._done[rater]]
        told: dict[str, Any] = {"done": len(asked) - len(left), "of": len(asked), "next": None}
        if left:
            trial, names = left[0]
            self._shown.setdefault((rater, trial.id), time.monotonic())
            told["next"] = self._question(trial, names)
        return told

    def _question(self, trial: Trial, names: dict[str, str]) -> dict[str, Any]:
        known = next((name for name, key in names.items() if self.test.stimuli[key].system == REFERENCE), None)
        return {
            "id": trial.id,
            "kind": trial.kind,
            "question": QUESTIONS[trial.kind],
            # Quality is asked without words: a sound that misses them is not a bad sound.
            "caption": None if trial.kind in ("mos", "ovl") else trial.caption,
            "stimuli": list(names),
            # The known reference is the hidden one's bytes under a name of its own.
            "reference": None if known is None else f"known-{trial.id}",
            "grades": {} if trial.kind in ("pair", "mushra") else {str(k): word for k, word in GRADES.items()},
            "check": trial.wanted,
        }

    def sound(self, rater: str, name: str) -> Path | None:
        for trial, names in order(self.test, rater):
            key = names.get(name)
            if key is None and name == f"known-{trial.id}":
                key = next((k for k in names.values() if self.test.stimuli[k].system == REFERENCE), None)
            if key is not None:
                return self.folder / "stimuli" / f"{key}.wav"
        return None

    def answer(self, rater: str, given: Given) -> None:
        """Keep an answer.

        Raises:
            BadAnswer: ratings that the trial does not allow, or sounds that were not listened to.
        """
        with self._lock:
            asked = {trial.id: (trial, names) for trial, names in order(self.test, rater)}
            if given.trial not in asked:
                raise BadAnswer("there is no such question")
            if given.trial in self._done[rater]:
                return  # sent twice: the first counts
            trial, names = asked[given.trial]
            if unknown := (set(given.ratings) | set(given.heard)) - set(names):
                raise BadAnswer(f"{len(unknown)} of the sounds do not belong to this question")
            ratings = {names[name]: value for name, value in given.ratings.items()}
            heard = {names[name]: value for name, value in given.heard.items()}
            check_answer(trial, ratings)
            shown = self._shown.get((rater, trial.id))
            spent = 0.0 if shown is None else time.monotonic() - shown
            needed = [self._length(key) * HEARD for key in trial.stimuli]
            unheard = sum(heard.get(key, 0.0) < least for key, least in zip(trial.stimuli, needed, strict=True))
            if unheard or spent < sum(needed):
                raise BadAnswer("listen to every sound to its end first")
            keep(
                self.answers,
                Answer(rater=rater, trial=trial.id, ratings=ratings, heard=heard, seconds=round(spent, 2)),
            )
            self._done[rater].add(trial.id)

    def _length(self, key: str) -> float:
        if key not in self._seconds:
            self._seconds[key] = read_audio(self.folder / "stimuli" / f"{key}.wav").seconds
        return self._seconds[key]


def listening_app(test: Test, folder: Path, hosts: Sequence[str] = HOSTS) -> FastAPI:
    """The page and its five addresses.

    Args:
        folder: the study's ``listening`` folder.
        hosts: names under which the page may be asked for; others are refused, so that no foreign page reaches it by a name of its own.
    """
    sessions = Sessions(test, folder)
    app = FastAPI(title="loa listening test", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))

    @app.middleware("http")
    async def guard(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers.update(HEADERS)
        return response

    def require(rater: str) -> None:
        if not re.fullmatch(r"[0-9a-f]{24}", rater) or not sessions.known(rater):
            raise HTTPException(404, "nobody of that name takes this test")

    @app.get("/")
    @app.get("/{name}")
    def page(name: str = "") -> Response:
        if name not in PAGE:
            raise HTTPException(404, "there is no such page")
        file, kind = PAGE[name]
        return Response((files("serving") / "pages" / file).read_bytes(), media_type=f"{kind}; charset=utf-8")

    @app.post("/api/raters")
    def enter() -> dict[str, str]:
        return {"rater": sessions.enter()}

    @app.get("/api/raters/{rater}")
    def state(rater: str) -> dict[str, Any]:
        require(rater)
        return sessions.state(rater)

    @app.get("/api/raters/{rater}/sounds/{name}")
    def sound(rater: str, name: str) -> Response:
        require(rater)
        path = sessions.sound(rater, name)
        if path is None:
            raise HTTPException(404, "there is no such sound")
        return FileResponse(path, media_type="audio/wav")

    @app.post("/api/raters/{rater}/answers")
    def answer(rater: str, given: Annotated[Given, Body()]) -> dict[str, Any]:
        require(rater)
        try:
            sessions.answer(rater, given)
        except BadAnswer as error:
            raise HTTPException(422, str(error)) from error
        return sessions.state(rater)

    return app


def serve(test: Test, folder: Path, host: str, port: int, say: Callable[[str], None]) -> None:
    """Serve the page until Ctrl-C; ``say`` is told its address once it can be asked for.

    Raises:
        OSError: the address is taken or not this machine's.
    """
    import uvicorn

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind((host, port))
        port = door.getsockname()[1]
        local = host in LOCAL
        app = listening_app(test, folder, HOSTS if local else ("*",))  # who opens it to others says by which names it is reached
        say(f"http://{f'[{host}]' if ':' in host else host}:{port}/")
        uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[door])


def as_lines(told: Mapping[str, Any]) -> list[str]:
    """The figures of ``results`` for reading."""
    lines = []
    for kind in told["test"]["kinds"]:
        part = told[kind]
        lines.append(f"{kind}: {part['raters']} raters, {part['ratings']} ratings")
        lines += [f"  left out {rater[:8]}: {why}" for rater, why in part["left_out"].items()]
        for name, figure in part.get("systems", {}).items():
            low, high = figure["interval"]
            lines.append(f"  {name:24} {figure['mean']:6.2f}  [{low:.2f}, {high:.2f}]  n = {figure['n']}")
        for pair in part.get("pairs", []):
            figure = pair["first_better"]
            low, high = figure["interval"]
            lines.append(f"  {pair['first']} over {pair['second']}: {figure['mean']:.2f}  [{low:.2f}, {high:.2f}]  n = {figure['n']}")
    return lines
