"""The command line: flags in, one result on stdout, progress and one-line errors on stderr, an exit code.

Thin on purpose: what a flag means is decided in serving/app.py. Importing this module costs Typer and nothing more, so
that ``loa --help`` answers at once; and what can be refused is refused before torch is imported.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from serving.studies import study

if TYPE_CHECKING:
    from generators.base import Generated
    from media.refs import MediaRef
    from serving.app import App

# Set for this process before a heavy library reads them; what the user has set stays.
ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",  # waiting threads sleep: beside one busy process, spinning ones cost a factor of ten
    "HF_HUB_OFFLINE": "1",  # nothing is ever fetched from a model hub
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "DIFFUSERS_DISABLE_REMOTE_CODE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    "LANGSMITH_TRACING": "false",
}

OFFLINE = os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0")  # the user's own word, before ours above is set
INTERRUPTED = 130
MAX_CONDITION = 16_000_000  # bytes; a LOA sequence has some thousand numbers

cli = typer.Typer(
    name="loa",
    help="Text, pictures, sounds and videos in, a fitting sound out. Offline.",
    epilog="Exit codes: 0 done, 2 wrong use or unusable input, 3 something is not installed, 1 our fault, 130 Ctrl-C.",
    add_completion=False,
    rich_markup_mode=None,  # rich would triple the time that --help takes
    pretty_exceptions_enable=False,
)
models = typer.Typer(help="Which systems there are and which are ready here.", rich_markup_mode=None)
bench = typer.Typer(help="Measure.", rich_markup_mode=None)
cli.add_typer(models, name="models")
cli.add_typer(bench, name="bench")
cli.add_typer(study, name="study")

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Backend = Annotated[str, typer.Option("--backend", metavar="NAME", help="A row of 'loa models list', or auto.")]


class Usage(Exception):
    """The command line itself is wrong."""

    exit_code = 2


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run one command and leave with its exit code; the only place that turns errors into lines and codes."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


# Set by Ctrl-C. The exception alone is not enough: raised while a library is being imported, some of them swallow it.
_stopped = threading.Event()


def _on_interrupt(number: int, frame: FrameType | None) -> None:
    _stopped.set()
    raise KeyboardInterrupt


def run(arguments: list[str]) -> int:
    """Exit code of the command in ``arguments``; errors become one line on stderr."""
    _stopped.clear()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _on_interrupt)
    try:
        code = cli(args=arguments or ["--help"], prog_name="loa", standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        return _say_stopped()
    except BrokenPipeError:  # the reader left (`loa models list | head`): not an error, and nobody is listening
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError:
        return _say("not enough memory: ask for fewer seconds or candidates, or close other programs", 1)
    except Exception as error:
        known = getattr(error, "exit_code", None)
        if known == INTERRUPTED:
            return _say_stopped()
        if isinstance(known, int):
            return _say(_message(error) + _got(error, arguments), known)
        if os.environ.get("LOA_DEBUG"):
            raise
        if isinstance(error, OSError):
            return _say(_message(error), 1)
        return _say(f"fault in loa: {type(error).__name__}: {_message(error)} (LOA_DEBUG=1 shows where)", 1)
    if code == INTERRUPTED:
        return _say_stopped()
    return code if isinstance(code, int) else 0


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"loa {version('loa')}")
        raise typer.Exit


@cli.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Say which.")] = False,
) -> None:
    """Text, pictures, sounds and videos in, a fitting sound out. Offline."""


# -- commands ----------------------------------------------------------------------------------------------------------


@cli.command()
def chat(
    message: Annotated[str | None, typer.Argument(help="One turn; without it a conversation starts.")] = None,
    attach: Annotated[list[Path] | None, typer.Option("--attach", metavar="FILE", help="Picture, sound, video.")] = None,
    thread: Annotated[str | None, typer.Option("--thread", metavar="ID", help="Go on with this conversation.")] = None,
    backend: Backend = "auto",
    as_json: Json = False,
) -> None:
    """Say what you want to hear; attach what it should fit."""
    if thread is not None and not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", thread):
        raise Usage(f"--thread takes letters, digits, '.', '_' and '-' (at most 64), got {thread[:80]!r}")
    files = attach or []
    if message is not None and not message.strip() and not files:
        raise Usage("the message is empty: say what you want to hear, or attach a file")
    _must_exist(files)
    app = _build(backend)
    from uuid import uuid4

    from serving.talk import Talk

    def complain(error: BaseException) -> None:
        _stopped.clear()
        _say(_message(error), 0)

    talk = Talk(
        app,
        thread or uuid4().hex[:12],
        as_json=as_json,
        bar=_bar,
        name_for=_free_name,
        complain=complain,
    )
    if message is None:
        talk.run(files)
        return
    talk.turn(message, files)
    if not as_json:
        print(f"(go on with --thread {talk.thread})", file=sys.stderr)


@cli.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="What should be heard.")] = "",
    image: Annotated[list[Path] | None, typer.Option("--image", metavar="F", help="A picture it should fit.")] = None,
    audio: Annotated[list[Path] | None, typer.Option("--audio", metavar="F", help="A sound it should resemble.")] = None,
    video: Annotated[list[Path] | None, typer.Option("--video", metavar="F", help="A video it should fit.")] = None,
    imu: Annotated[Path | None, typer.Option("--imu", metavar="F", help="Motion it should fit, 6 channels (.npy, .csv).")] = None,
    transcript: Annotated[str | None, typer.Option("--transcript", metavar="T", help="Words to be spoken.")] = None,
    envelope: Annotated[Path | None, typer.Option("--envelope", metavar="F", help="Loudness over time, 0 to 1 (.npy, .csv).")] = None,
    loa: Annotated[list[str] | None, typer.Option("--loa", metavar="F[:WEIGHT]", help="A stored LOA to reuse.")] = None,
    backend: Backend = "auto",
    seconds: Annotated[float, typer.Option("--seconds", metavar="S", help="Length.")] = 5.0,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Same seed, same sound.")] = 0,
    steps: Annotated[int | None, typer.Option("--steps", metavar="N", help="Denoising steps.")] = None,
    guidance: Annotated[float | None, typer.Option("--guidance", metavar="G", help="How closely to follow.")] = None,
    negative: Annotated[str, typer.Option("--negative", metavar="T", help="What should not be heard.")] = "",
    candidates: Annotated[int, typer.Option("--candidates", metavar="N", help="Best of N.")] = 1,
    loa_out: Annotated[Path | None, typer.Option("--loa-out", metavar="F", help="Where to write the LOA.")] = None,
    output: Annotated[Path | None, typer.Option("-o", metavar="OUT", help="wav, flac, ogg or mp3.")] = None,
    as_json: Json = False,
) -> None:
    """Make one sound from words, pictures, sounds and videos."""
    attached = [("image", f) for f in image or []]
    attached += [("audio", f) for f in audio or []]
    attached += [("video", f) for f in video or []]
    if transcript is not None and not transcript.strip():
        raise Usage("--transcript is empty: give the words to be spoken")
    stored_loa = [_weighted(text) for text in loa or []]
    if not prompt.strip() and not attached and not stored_loa and transcript is None and imu is None:
        raise Usage("nothing was asked: give a PROMPT, --image, --audio, --video, --transcript or --loa")
    if not (math.isfinite(seconds) and seconds > 0):
        raise Usage(f"--seconds must be more than 0, got {seconds:g}")
    _must_exist([file for _, file in attached] + [file for file, _ in stored_loa] + [file for file in (imu, envelope) if file])
    if loa_out is not None and not loa_out.absolute().parent.is_dir():
        raise Usage(f"cannot write '{loa_out}': there is no folder '{loa_out.absolute().parent}'; make it first")

    from serving.app import check_output, valid_request

    app = _build(backend)
    backend = app.config.default_backend  # what was named, or what the settings say
    row = None if backend == "auto" else app.row(backend)
    if output is not None:
        check_output(output, row.kind if row and row.kind in ("image", "video") else "audio")
    kinds = {kind for kind, _ in attached} | ({"text"} if prompt.strip() else set())
    kinds |= {"transcript"} if transcript is not None else set()
    kinds |= {"condition"} if stored_loa else set()
    kinds |= {"motion"} if imu else set()
    follows = imu is not None and app.follows_motion(backend, kinds)
    if follows:
        kinds -= {"motion"}
        if not kinds:
            raise Usage("no backend here knows what a motion is of, only how loud: say what should be heard, too (a PROMPT, --image)")
        if envelope:
            raise Usage("--imu gives the loudness here, and so does --envelope: leave one of them out")
    app.refuse_early(backend, kinds, seconds)  # before any file is decoded
    fields: dict[str, Any] = {
        "prompt": prompt,
        "transcript": transcript,
        "seconds": seconds,
        "seed": seed,
        "steps": steps,
        "guidance": guidance,
        "negative_prompt": negative,
        "candidates": candidates,
    }
    valid_request(**fields | {"prompt": prompt if prompt.strip() else "-"})  # a wrong number costs no decoding either
    media = tuple(_stored(app, kind, file) for kind, file in attached)
    reused = tuple((_condition(app, file), weight) for file, weight in stored_loa)
    drawn = app.store_envelope(envelope) if envelope else None
    if imu:
        from media.imu import load_motion

        if follows:
            drawn = app.store_motion_envelope(imu)
            _say("the motion gives the loudness over time: no backend here that takes it knows what it is of", 0)
        else:
            media += (app.store.put_motion(load_motion(imu)),)
    request = app.request(backend, **fields, media=media, loa=reused, envelope=drawn)
    if loa_out is not None:
        app.write_loa(request, backend, loa_out)
    with _bar("making the sound") as on_progress:
        made = app.generate(request, backend, on_progress=on_progress, cancelled=_stopped.is_set)
    path = app.export(made, output or _free_name(made))
    _print_sound(made, path, as_json)


@cli.command()
def edit(
    sound: Annotated[str, typer.Argument(help="A sound file, or the id of a stored sound (sha256:...).")],
    prompt: Annotated[str, typer.Argument(help="What should be heard; with --kind remove: what goes.")] = "",
    kind: Annotated[str, typer.Option("--kind", metavar="KIND", help="variation, inpaint, extend or remove.")] = "",
    strength: Annotated[float, typer.Option("--strength", metavar="S", help="Of a variation: 0 keeps all, 1 forgets all.")] = 0.5,
    regions: Annotated[list[str] | None, typer.Option("--region", metavar="A:B", help="Of inpaint: seconds.")] = None,
    seconds: Annotated[float | None, typer.Option("--seconds", metavar="S", help="Of extend: the whole new length.")] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Same seed, same sound.")] = 0,
    steps: Annotated[int | None, typer.Option("--steps", metavar="N", help="Denoising steps.")] = None,
    negative: Annotated[str, typer.Option("--negative", metavar="T", help="What should not be heard.")] = "",
    backend: Backend = "auto",
    output: Annotated[Path | None, typer.Option("-o", metavar="OUT", help="wav, flac, ogg or mp3.")] = None,
    as_json: Json = False,
) -> None:
    """Change a sound: vary it, redo parts, go on, take something out."""
    kinds = ("variation", "inpaint", "extend", "remove")
    if kind not in kinds:
        raise Usage(f"--kind takes {', '.join(kinds)}; got {repr(kind) if kind else 'none'}")
    if kind == "remove" and not (prompt.strip() or negative.strip()):
        raise Usage("remove needs to know what goes: name it after the sound")
    if not 0 <= strength <= 1:
        raise Usage(f"--strength is a number from 0 to 1, got {strength:g}")
    if kind == "inpaint" and not regions:
        raise Usage("inpaint needs --region A:B, the seconds that are to be made anew, e.g. --region 1.5:2.5")
    if kind == "extend" and seconds is None:
        raise Usage("extend needs --seconds, the whole new length")
    if seconds is not None and not (math.isfinite(seconds) and seconds > 0):
        raise Usage(f"--seconds must be more than 0, got {seconds:g}")
    if not sound.startswith("sha256:"):
        _must_exist([Path(sound)])
    from serving.app import check_output, edit_of, kinds_of, valid_request
    from serving.sounds import edit_request, region, source_of

    if output is not None:
        check_output(output)
    spans = [region(text) for text in regions or ()]
    valid_request(prompt=prompt or "-", negative_prompt=negative, seed=seed, steps=steps)
    app = _build(backend)
    backend = app.config.default_backend
    source = source_of(app.store, sound)
    request = edit_request(
        app.store, source, kind, prompt, strength=strength, regions=spans, seconds=seconds, seed=seed, steps=steps, negative=negative
    )
    app.refuse_early(backend, kinds_of(request), request.seconds, edit_of(request))
    with _bar("changing the sound") as on_progress:
        made = app.generate(request, backend, on_progress=on_progress, cancelled=_stopped.is_set)
    path = app.export(made, output or _free_name(made))
    _print_sound(made, path, as_json)
    if kind == "remove":
        _say("the sound was made anew without it; that is no separation, so other parts may have changed too", 0)


@cli.command()
def soundtrack(
    video: Annotated[Path, typer.Argument(metavar="VIDEO|FOLDER", help="A video, or a folder of videos.")],
    output: Annotated[Path | None, typer.Option("-o", metavar="OUT", help="mp4, mov, mkv or webm; a folder for many.")] = None,
    only_plan: Annotated[bool, typer.Option("--plan", help="Print what would be made, as JSON; nothing is made.")] = False,
    prompt: Annotated[str, typer.Option("--prompt", metavar="T", help="What should be heard; 'no music' leaves a layer out.")] = "",
    layers: Annotated[str, typer.Option("--layers", metavar="A,B", help="Of ambience, foley, music.")] = "ambience,foley,music",
    stems: Annotated[Path | None, typer.Option("--stems", metavar="DIR", help="Keep each layer and a plot of the timing.")] = None,
    original: Annotated[str, typer.Option("--original", metavar="M", help="Its own sound: keep, duck (under speech), drop.")] = "duck",
    lufs: Annotated[float, typer.Option("--lufs", metavar="L", help="Integrated loudness.")] = -16.0,
    rerolls: Annotated[int, typer.Option("--rerolls", metavar="N", help="New tries of a sound that fails its check.")] = 2,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Same seed, same soundtrack.")] = 0,
    backend: Backend = "auto",
    as_json: Json = False,
) -> None:
    """Give a video a soundtrack: ambience, events on what is seen, music. The picture is copied bit for bit.

    Stopped or killed, the same command goes on. Of a folder every video that can be is made, the others are named; the exit code is
    then that of the first failure.
    """
    from serving.soundtracks import asked, output_for, videos_in

    if not video.is_dir():
        _must_exist([video])
    wanted = asked(layers, prompt=prompt, original=original, lufs=lufs, rerolls=rerolls, seed=seed, stems=stems)
    many = video.is_dir()
    if many and output is not None and not output.is_dir():
        raise Usage(f"-o takes a folder for a folder of videos, got '{output}'; make it first")
    files = videos_in(video) if many else [video]
    targets = [video if only_plan else output_for(file, output, many) for file in files]
    app = _build(backend)
    from dataclasses import replace

    from serving.soundtracks import Studio, outcomes, told

    wanted = replace(wanted, backend=app.config.default_backend)
    results: list[dict[str, Any]] = []
    failed = 0
    with _bar("soundtrack") as on_progress:
        studio = Studio(app, lambda stage, share: on_progress(SimpleNamespace(step=share, of=1.0, stage=stage)), _stopped.is_set)
        for outcome in outcomes(studio, wanted, files, targets, only_plan=only_plan, many=many):
            if outcome.error is not None:
                failed = failed or _say(f"{outcome.video}: {_message(outcome.error)}", getattr(outcome.error, "exit_code", 1))
                results.append({"path": str(outcome.video.absolute()), "error": _message(outcome.error)})
            elif outcome.plan is not None:
                results.append(outcome.plan.model_dump(mode="json"))
            elif outcome.made is not None:
                results.append(outcome.made.facts)
                if not as_json:
                    print(f"{outcome.made.path}  {outcome.made.seconds:.2f} s; {'; '.join(told(outcome.made))}")
    if as_json or only_plan:
        _print_json({"videos": results} if many else results[0])
    if failed:
        raise typer.Exit(failed)


@cli.command()
def replay(
    file: Annotated[Path, typer.Argument(help="A sound that loa wrote.")],
    output: Annotated[Path | None, typer.Option("-o", metavar="OUT", help="Default: FILE.replay.* here.")] = None,
    as_json: Json = False,
) -> None:
    """Make the same bytes again, from the provenance inside the file."""
    _must_exist([file])
    from serving.app import check_output, read_provenance

    target = output or Path(f"{file.stem}.replay{file.suffix}")
    check_output(target)
    note = read_provenance(file)
    if note.threads is not None:  # sums depend on how many threads share them; torch reads this when it is imported
        os.environ["OMP_NUM_THREADS"] = str(note.threads)
    app = _build("auto")
    with _bar("making it again") as on_progress:
        again = app.replay(file, note, target, on_progress)
    if as_json:
        _print_json(_sound_json(again.made, again.path) | {"identical": not again.difference, "reason": again.difference})
    else:
        print(f"{again.path}  {'the same bytes' if not again.difference else 'not the same bytes'}")
    if again.difference:
        raise typer.Exit(_say(again.difference, 1))


@models.callback(invoke_without_command=True)
def models_default(context: typer.Context) -> None:
    """Which systems there are and which are ready here."""
    if context.invoked_subcommand is None:
        models_list(as_json=False)


@models.command("list")
def models_list(as_json: Json = False) -> None:
    """One line per system: ready or not, and why."""
    app = _build("auto")
    rows = [_row_json(app, name) for name in app.rows]
    if as_json:
        _print_json(rows)
        return
    for row in rows:
        state = "ready" if row["ready"] else f"not ready: {row['reason']}"
        rate = f"{row['sample_rate']:>6} Hz  to {row['max_seconds']:g} s" if row["sample_rate"] else row["kind"]
        print(f"{row['name']:<26} {row['system']:<24} {rate:<20} {state}")


@models.command("show")
def models_show(name: Annotated[str, typer.Argument()], as_json: Json = False) -> None:
    """All that is known about one system."""
    app = _build("auto")
    row = app.row(name)
    keys = ("path", "bytes", "estimated", "sha256", "source")
    weights = [{key: getattr(file, key) for key in keys} for file in row.files]
    facts = _row_json(app, name) | {"backend": row.backend, "options": row.options, "notes": row.notes, "weights": weights}
    if as_json:
        _print_json(facts)
        return
    for key, value in facts.items():
        if key != "weights":
            print(f"{key:<12} {', '.join(map(str, value)) if isinstance(value, list) else value}")
    if row.files:
        from serving.weights import sizes

        print("\n".join(["weights", *sizes(row)]))


@models.command("pull")
def models_pull(
    name: Annotated[str, typer.Argument()],
    local: Annotated[Path | None, typer.Option("--from", metavar="DIR", help="Copy from this folder instead.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Get the files of one system: says size, licence and place first, goes on where it stopped, checks what came."""
    if local is not None and not local.is_dir():
        raise Usage(f"--from takes a folder, got '{local}'")
    app = _build("auto")
    from serving.weights import plan, pull

    planned = plan(app.row(name), app.config.home)
    if planned.wanted:
        print("\n".join(planned.lines()), file=sys.stderr)
        if not yes and not sys.stdin.isatty():
            raise Usage(f"nothing was fetched: 'loa models pull {name} --yes' agrees to the size and the licence")
        if not yes:
            typer.confirm("Get them?", abort=True, err=True)
    with _bar("pulling") as on_progress:
        came = pull(
            planned, offline=OFFLINE, local=local, on_bytes=lambda here, of: on_progress(SimpleNamespace(step=here, of=of or None))
        )
    if as_json:
        _print_json({"name": name, "folder": str(planned.folder), "files": [str(path) for path in came]})
        return
    print(f"{name}: {len(came)} files came; all are in {planned.folder}")


@models.command("verify")
def models_verify(name: Annotated[str, typer.Argument()], as_json: Json = False) -> None:
    """Whether the files here are whole and fit their network: hashes, keys and shapes; no weights are loaded."""
    app = _build("auto")
    told = app.verify(name)
    wrong = {part: said for part, said in told.items() if said}
    if as_json:
        _print_json(
            {"name": name, "ok": not wrong, "parts": [{"part": part, "ok": not said, "reason": said} for part, said in told.items()]}
        )
    else:
        for part, said in told.items():
            print(f"{'ok  ' if not said else 'FAIL'}  {part}{f': {said}' if said else ''}")
    if wrong:
        raise typer.Exit(3)


@cli.command()
def doctor(as_json: Json = False) -> None:
    """What works here, what does not, and what to do about it."""
    from serving.doctor import examine

    findings = examine(lambda: _build("auto"))
    if as_json:
        _print_json({"ok": all(f.ok for f in findings), "checks": [f.as_dict() for f in findings]})
    else:
        for found in findings:
            print(f"{'ok  ' if found.ok else 'FAIL'}  {found.what:<14} {found.got}")
            if not found.ok:
                print(f"      {'':<14} -> {found.fix}")
    if not all(f.ok for f in findings):
        raise typer.Exit(max(f.exit_code for f in findings if not f.ok))


@cli.command()
def train(
    stage: Annotated[str, typer.Argument(help="audiomae, vae, vocoder, tower, latent, translator, joint; all; or bridge, signal.")],
    config: Annotated[str, typer.Option("--config", metavar="FILE", help="A recipe: a YAML file, or nano-cpu, nano-gpu, ...")],
    data: Annotated[Path | None, typer.Option("--data", metavar="DIR", help="Clips that 'python -m training.data' made.")] = None,
    recordings: Annotated[Path | None, typer.Option("--recordings", metavar="DIR", help="Make missing clips of these.")] = None,
    soundfont: Annotated[Path | None, typer.Option("--soundfont", metavar="F", help="Make music for the clips, too.")] = None,
    work: Annotated[Path | None, typer.Option("--work", metavar="DIR", help="Where the stages keep their states.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", metavar="DIR", help="The checkpoint that 'all' ends with; the bridge's file.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a stopped run left off.")] = False,
    as_json: Json = False,
) -> None:
    """Train one stage of a recipe, or all of them and write the checkpoint with its card.

    'bridge' fits the way from ImageBind to AudioLDM 2; its --config names captions, examples and the two encoders' folders.
    'signal' trains a language model with media before it and sounds behind it: signal-input, signal-output, signal-instruct.
    """
    from configs.registry import UnknownName
    from configs.schema import SIGNAL_STAGES, STAGES, signal_config, train_config

    if stage == "bridge":
        _train_bridge(Path(config), output or Path("bridge.safetensors"), as_json)
        return
    if stage not in (*STAGES, "all", *SIGNAL_STAGES):
        raise UnknownName("stage", stage, (*STAGES, "all", "bridge", *SIGNAL_STAGES))
    _must_exist([soundfont] if soundfont else [])

    def log(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    with _bar("training") as on_progress:

        def notify(name: str, share: float) -> None:
            on_progress(SimpleNamespace(step=share, of=1.0, stage=name))

        if stage in SIGNAL_STAGES:
            wanted = signal_config(config).placed(recordings=recordings, work=work, out=output)
            _quieten()
            from training.signal import SignalTraining

            told = SignalTraining(wanted, resume, log, notify).run(stage.removeprefix("signal").removeprefix("-") or "all")
        else:
            recipe = train_config(config).placed(data=data, recordings=recordings, soundfont=soundfont, work=work, out=output)
            _quieten()
            from training.stages import Recipe

            told = Recipe(recipe, resume, log, notify).run(stage)
    if as_json:
        _print_json(told)
        return
    for name, done in told["stages"].items():
        print(f"{name:<12} {done['steps']} steps, {done['minutes']:.2f} minutes, loss {done['last'].get('loss', math.nan):.4g}")
    print(told.get("checkpoint", told["work"]))


def _train_bridge(config: Path, out: Path, as_json: bool) -> None:
    from configs.schema import bridge_config

    settings = bridge_config(config)
    _quieten()
    from training.bridge import train_bridge

    with _bar("bridge") as on_progress:
        bridge = train_bridge(settings, out, lambda what, share: on_progress(SimpleNamespace(step=share, of=1.0, stage=what)))
    if as_json:
        _print_json({"stage": "bridge", "path": str(out.absolute()), "captions": len(bridge.texts), **bridge.about})
        return
    print("\n".join(f"{name:<12} {said}" for name, said in bridge.about.items()))
    print(out.absolute())


@bench.command("nano")
def bench_nano(
    checkpoint: Annotated[list[Path] | None, typer.Option("--checkpoint", metavar="DIR", help="Several are compared.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Minutes instead of an hour; compares with no full run.")] = False,
    core: Annotated[bool, typer.Option("--core", help="Classes, LOA, pictures and cost alone; the full run's figures.")] = False,
    work: Annotated[Path | None, typer.Option("--work", metavar="DIR", help="Keeps finished sounds: the same command goes on.")] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", min=1, help="Processes that make sounds. Default: one a processor.")] = None,
    clips: Annotated[Path | None, typer.Option("--clips", metavar="DIR", help="Recordings by training.data.")] = None,
    build_j2: Annotated[bool, typer.Option("--build-j2", help="First build judge J2: downloads 0.6 GB, trains 5 minutes.")] = False,
    as_json: Json = False,
) -> None:
    """Judges listen to the small model, probes measure it, beside what is possible."""
    for flag, folders in (("--checkpoint", checkpoint or []), ("--clips", [clips] if clips else [])):
        for folder in folders:
            if not folder.is_dir():
                raise Usage(f"{flag} takes a folder, got '{folder}'")
    from evaluation.table import table
    from serving.app import bench_nano as run_bench

    with _bar("listening") as on_progress:
        tell = (
            _lines() if not sys.stderr.isatty() else lambda stage, done, of: on_progress(SimpleNamespace(step=done, of=of, stage=stage))
        )
        figures = run_bench(checkpoint, quick=quick, core=core, work=work, jobs=jobs, clips=clips, make_j2=build_j2, on_progress=tell)
    if as_json:
        _print_json(figures)
        return
    print(table(figures))


@bench.command("bridge")
def bench_bridge(
    pictures: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of pictures, some of them not asked about.")],
    rows: Annotated[Path, typer.Option("--rows", metavar="FILE.jsonl", help='Rows {"file", "says", "accepts"}.')],
    as_json: Json = False,
) -> None:
    """How much of pictures and sounds a bridge brings across, by the small model: beside words, and beside other inputs."""
    if not pictures.is_dir():
        raise Usage(f"bench bridge takes a folder, got '{pictures}'")
    _must_exist([rows])
    from serving.app import bench_bridge as run_bench

    figures = run_bench(pictures, rows, _lines())
    if as_json:
        _print_json(figures)
    else:
        _print_tree(figures)


@bench.command("routing")
def bench_routing(
    file: Annotated[Path, typer.Argument(metavar="FILE.jsonl", help='Rows such as {"say": "a dog", "tool": "generate_audio"}.')],
    as_json: Json = False,
) -> None:
    """Say what a file's rows say to the configured chat model: is the right tool called, with the right arguments?"""
    from evaluation.routing import read_rows, run
    from serving.app import build
    from serving.rehearsed import rehearsed

    rows = read_rows(file)
    with rehearsed(build()) as (answer, language), _bar("routing") as on_progress:

        def notify(done: int, of: int) -> None:
            on_progress(SimpleNamespace(step=done, of=of, stage="routing"))

        figures = run(rows, answer, language, notify)
    if as_json:
        _print_json(figures.model_dump(mode="json"))
        return
    _print_tree(figures.model_dump(mode="json", exclude={"wrong"}))


# -- small parts -------------------------------------------------------------------------------------------------------


def _build(backend: str) -> App:
    _quieten()
    from configs.schema import load_config
    from serving.app import build

    return build(load_config(overrides=None if backend == "auto" else {"default_backend": backend}))


def _quieten() -> None:
    """Log records in one line each; warnings of libraries, which a user can do nothing about, only where asked for."""
    import logging
    import warnings

    if os.environ.get("LOA_DEBUG"):
        logging.basicConfig()
        return
    if not sys.warnoptions:
        warnings.simplefilter("ignore")

    class OneLine(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return "loa: " + " ".join(record.getMessage().split())

    handler = logging.StreamHandler()
    handler.setFormatter(OneLine())
    logging.basicConfig(handlers=[handler], level=logging.WARNING)


def _stored(app: App, kind: str, file: Path) -> MediaRef:
    """The file in the store, if its content is what the flag says."""
    ref = app.store.put_file(file)
    if ref.kind != kind:
        raise Usage(f"--{kind} takes {_A[kind]}, but the content of '{file}' is {_A[ref.kind]}; use --{ref.kind}")
    return ref


def _weighted(text: str) -> tuple[Path, float]:
    """``F[:WEIGHT]`` as path and weight (1 where none is given)."""
    name, _, tail = text.rpartition(":")
    try:
        weight = float(tail) if name else 1.0
    except ValueError:
        return Path(text), 1.0
    if not math.isfinite(weight):
        raise Usage(f"--loa takes a finite weight, got '{text}'")
    return Path(name or text), weight


def _condition(app: App, file: Path) -> MediaRef:
    if file.stat().st_size > MAX_CONDITION:
        raise Usage(f"--loa takes files of at most {MAX_CONDITION:,} bytes, '{file}' has {file.stat().st_size:,}")
    return app.store.put_bytes(file.read_bytes(), "application/x-safetensors", "condition")


_A = {"image": "a picture", "audio": "a sound", "video": "a video", "motion": "a motion recording", "condition": "a stored condition"}


def _must_exist(files: list[Path]) -> None:
    for file in files:
        if not file.exists():
            if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", str(file)):
                raise Usage(f"only files on this machine are read, got '{file}'; save it first and give its path")
            raise Usage(f"no such file: '{file}'")
        if not file.is_file():
            raise Usage(f"'{file}' is not a file; give the path of a picture, sound or video")


def _free_name(made: Generated) -> Path:
    """``a-dog-barks-1f2e3d4c.wav`` in the current folder: readable, and another content is another name."""
    words = made.request.prompt or made.request.transcript or "-".join(ref.kind for ref in made.request.media)
    words = words or (made.request.edit.kind if made.request.edit else "")
    slug = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")[:40].strip("-") or "sound"
    suffix = {"image": ".png", "video": ".mp4"}.get(made.media.kind, ".wav")
    return Path(f"{slug}-{made.media.id.removeprefix('sha256:')[:8]}{suffix}")


def _sound_json(made: Generated, path: Path) -> dict[str, Any]:
    return {
        "path": str(path.absolute()),
        "id": made.media.id,
        "seconds": made.seconds,
        "sample_rate": made.sample_rate,
        "backend": made.backend,
        "seed": made.request.seed,
        "wall_seconds": round(made.wall_seconds, 3),
        "fingerprint": made.fingerprint,
        "request": made.request.model_dump(mode="json"),
        "guard": made.guard.model_dump(mode="json"),
    }


def _print_sound(made: Generated, path: Path, as_json: bool) -> None:
    if as_json:
        _print_json(_sound_json(made, path))
        return
    print(f"{path}  {made.seconds:.2f} s, {made.sample_rate} Hz, {made.backend}, seed {made.request.seed}")
    if made.guard.silent:
        _say("careful: the sound is silent; another seed or prompt may help", 0)


def _row_json(app: App, name: str) -> dict[str, Any]:
    row = app.rows[name]
    state = app.readiness(row)
    files, size = app.files_of(row) if not state.files else (list(state.files), state.bytes)
    return {
        "name": row.name,
        "system": row.system,
        "ready": state.ready,
        "reason": state.reason,
        "files": files,
        "bytes": size,
        "licence": row.licence,
        "sample_rate": row.sample_rate,
        "max_seconds": row.max_seconds,
        "accepts": sorted(row.accepts),
        "tasks": sorted(row.tasks),
        "edits": sorted(row.edits),
        "parameters": row.parameters,
        "kind": row.kind,
        "parity": row.parity,
    }


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, allow_nan=False))


def _print_tree(value: Any, indent: int = 0) -> None:
    """Nested figures for a reader: one name and number a line."""
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
    for key, below in pairs:
        if isinstance(below, Mapping | list) and below:
            print(f"{'  ' * indent}{key}")
            _print_tree(below, indent + 1)
        else:
            print(f"{'  ' * indent}{key}: {f'{below:.4g}' if isinstance(below, float) else below}")


def _lines(every: float = 30.0) -> Callable[[str, int, int], None]:
    """Progress for a log: a line on stderr when a stage begins or ends, and every half minute."""
    told: dict[str, float] = {}

    def tell(stage: str, done: int, of: int) -> None:
        now = time.monotonic()
        if stage not in told or done == of or now - told[stage] >= every:
            told[stage] = now
            print(f"{stage}: {done} of {of}", file=sys.stderr, flush=True)

    return tell


@contextmanager
def _bar(label: str) -> Iterator[Callable[..., None]]:
    """A progress bar on stderr (nothing where stderr is no terminal); takes objects with ``step`` and ``of``."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=None)

        def on_progress(done: Any) -> None:
            progress.update(task, completed=done.step, total=done.of, description=getattr(done, "stage", label))

        yield on_progress


def _message(error: BaseException) -> str:
    """The error in one line, without control characters that a file name may have smuggled in."""
    text = getattr(error, "format_message", lambda: str(error))() or type(error).__name__
    return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))


def _got(error: BaseException, arguments: list[str]) -> str:
    """ ", got 'many'" for an option whose value could not be read; Typer's own message does not say it."""
    for option in getattr(getattr(error, "param", None), "opts", ()):
        if option in arguments[:-1]:
            return f", got {arguments[arguments.index(option) + 1]!r:.80}"
    return ""


def _say_stopped() -> int:
    # Ctrl-C inside an exec() of a string (libraries do that while they are imported) leaves a mark in the interpreter with
    # which `python -m` dies by the signal instead of returning our code; any exec that ends well wipes it out.
    exec("")
    return _say("stopped; nothing half-written is left", INTERRUPTED)


def _say(line: str, code: int) -> int:
    print(f"loa: {line}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
