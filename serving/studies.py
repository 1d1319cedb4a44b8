"""`loa study`: comparisons on the command line. Flags in, one result on stdout, progress on stderr; evaluation/ does the work."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from evaluation.forecast import Forecast
    from evaluation.study import Plan, Summary

study = typer.Typer(help="Compare systems on the same prompts: run, report, listen.", rich_markup_mode=None)

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A folder of 'loa study run'.")]


@study.command("run")
def study_run(
    spec: Annotated[str, typer.Argument(metavar="SPEC.yaml", help="A specification, or a shipped one: first-look.")],
    output: Annotated[Path, typer.Option("-o", metavar="DIR", help="Where sounds, ledger and report go.")],
    executor: Annotated[str, typer.Option("--executor", metavar="local|ray", help="Processes here, or Ray's workers.")] = "local",
    jobs: Annotated[int, typer.Option("--jobs", min=0, max=1024, help="Workers; 0: what this machine bears.")] = 0,
    retry: Annotated[bool, typer.Option("--retry", help="Make failed cells again.")] = False,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Measure and write the report at the end.")] = True,
    as_json: Json = False,
) -> None:
    """Make every sound that DIR does not have yet, then measure them all. Stopped or killed, the same command goes on."""
    from serving.cli import Usage, _bar, _lines, _print_json, _quieten

    if executor not in ("local", "ray"):
        raise Usage(f"--executor is local or ray, got '{executor}'")
    from configs.schema import study_config

    config = study_config(spec)
    _check_folder(output)
    _quieten()
    from evaluation.catalogue import check

    check(config.metrics)  # before anything is made
    from evaluation.study import plan, run
    from serving.app import build, synthesised

    app = build()
    planned = plan(config, output, app.config.home, app.rows, synthesised)
    ahead, workers = _forecast(planned, output, app.config.home, jobs, retry)
    reach = _reach(ahead, workers, app.config.home)
    _say_before(ahead, workers, len(planned.cells), reach)
    with _bar(config.name) as on_progress:
        lines = _lines()

        def tell(done: int, of: int) -> None:
            if sys.stderr.isatty():
                on_progress(SimpleNamespace(step=done, of=of, stage=config.name))
            else:
                lines("sounds", done, of)

        kind: Any = executor
        summary = run(planned, output, executor=kind, jobs=workers, retry=retry, on_progress=tell)
    if summary.made:  # the yardstick of today says nothing about yesterday's rows
        _remember(planned, output, app.config.home)
        if summary.made == ahead.cells:
            _remember_error(ahead, workers, summary, app.config.home)
    written = _written(output, as_lines=_lines()) if report and config.metrics else None
    if as_json:
        _print_json(_told(summary, ahead, workers, reach, output) | {"report": written})
        return
    _say_after(summary, ahead, workers)
    print(output / "report.html" if written else output)


@study.command("report")
def study_report(folder: Folder, as_json: Json = False) -> None:
    """Measure a study's sounds and write report.html, table.md, table.csv and table.tex beside them."""
    from serving.cli import _lines, _print_json, _quieten

    _quieten()
    from evaluation.study import read_study

    read_study(folder)
    written = _written(folder, as_lines=_lines())
    if as_json:
        _print_json(written)
        return
    print(folder / "report.html")


@study.command("listen")
def study_listen(
    folder: Folder,
    ask: Annotated[str, typer.Option("--ask", metavar="KINDS", help="Of mos, ovl, rel, pair, mushra; with commas.")] = "ovl,rel",
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of everybody's order.")] = 0,
    results: Annotated[bool, typer.Option("--results", help="Say what the raters answered so far, and serve nothing.")] = False,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Where the page is served.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any free one.")] = 7861,
    as_json: Json = False,
) -> None:
    """Ask people: serve a blind listening test over a study's sounds until Ctrl-C; answers lie in DIR/listening."""
    from serving.cli import Usage, _print_json, _quieten

    _quieten()
    from evaluation.listening import KINDS

    kinds: Any = [name for name in (part.strip() for part in ask.split(",")) if name]
    if not kinds or set(kinds) - set(KINDS) or len(set(kinds)) < len(kinds):
        raise Usage(f"--ask takes each of {', '.join(KINDS)} at most once, got '{ask[:60]}'")
    from serving import listen

    if results:
        told = listen.results(folder)
        if as_json:
            _print_json(told)
        else:
            print("\n".join(listen.as_lines(told)))
        return
    sounds, references = listen.material(folder)
    test = listen.begin(folder / "listening", sounds, references, kinds, seed)

    def say(url: str) -> None:
        if as_json:
            _print_json({"url": url, "trials": len(test.trials), "systems": test.systems, "folder": str(folder / "listening")})
        else:
            print(
                f"{len(test.trials)} questions a rater at {url} (Ctrl-C ends; 'loa study listen {folder} --results' counts)", flush=True
            )

    try:
        listen.serve(test, folder / "listening", host, port, say)
    except OSError as error:
        raise Usage(f"nothing can be served at {host}:{port} ({error.strerror}); choose another --port") from None


def _written(folder: Path, as_lines: Callable[[str, int, int], None]) -> dict[str, str]:
    """The report's files by kind."""
    from importlib import import_module

    files = import_module("evaluation.report").write_report(folder, on_progress=as_lines)
    return {name: str(path) for name, path in vars(files).items() if isinstance(path, Path)}


def _check_folder(folder: Path) -> None:
    """A folder that can be written: new, empty, or a study's."""
    from media.refs import MediaError

    if folder.exists() and not folder.is_dir():
        raise MediaError(f"-o takes a folder, and '{folder}' is a file")
    if (
        folder.is_dir()
        and any(folder.iterdir())
        and not any((folder / name).exists() for name in ("study.json", "ledger.jsonl", "store", "references"))
    ):
        raise MediaError(f"'{folder}' holds other things than a study; name a new folder")
    if not folder.exists() and not folder.absolute().parent.is_dir():
        raise MediaError(f"there is no folder '{folder.absolute().parent}' to make '{folder.name}' in; make it first")


def _forecast(planned: Plan, folder: Path, home: Path, jobs: int, retry: bool) -> tuple[Forecast, int]:
    """What is left to do, and how many workers do it."""
    from evaluation.forecast import forecast, jobs_for, measured_costs, read_costs, yardstick
    from evaluation.ledger import Ledger
    from evaluation.workers import finished

    ledger = Ledger(folder)
    left = [cell for cell in planned.cells if not finished(cell, ledger, retry)]
    threads = planned.config.threads
    known = [*measured_costs(ledger.rows, planned.recipes, threads, planned.buckets), *read_costs(home)]
    pace = yardstick() if left else None
    ahead = forecast(left, planned.recipes, threads, planned.buckets, planned.megabytes, known, pace)
    return ahead, jobs or jobs_for(ahead.memory_mb, threads)


def _remember(planned: Plan, folder: Path, home: Path) -> None:
    """What this run measured helps to foretell the next; a full disk keeps no study from its end."""
    from contextlib import suppress

    from evaluation.forecast import keep_costs, measured_costs, yardstick
    from evaluation.study import study_rows

    with suppress(OSError):
        rows = study_rows(folder)
        keep_costs(home, measured_costs(rows, planned.recipes, planned.config.threads, planned.buckets, yardstick()))


def _remember_error(ahead: Forecast, workers: int, summary: Summary, home: Path) -> None:
    from contextlib import suppress

    from evaluation.forecast import keep_error

    with suppress(OSError):
        keep_error(home, ahead.basis, ahead.wall(workers), summary.wall_seconds)


def _reach(ahead: Forecast, workers: int, home: Path) -> tuple[float, float] | None:
    from evaluation.forecast import reach, read_errors

    return reach(ahead.wall(workers), read_errors(home, ahead.basis)) if ahead.cells else None


def _say_before(ahead: Forecast, workers: int, cells: int, reach: tuple[float, float] | None) -> None:
    have = cells - ahead.cells
    line = f"{cells} sounds" + (f", {have} of them made before" if have else "")
    if ahead.cells:
        line += (
            f"; about {_minutes(ahead.wall(workers))} with {workers} worker{'s' if workers > 1 else ''} of {ahead.memory_mb:.0f} MB "
            f"({ahead.basis})"
        )
        line += f"; {_minutes(reach[0])} to {_minutes(reach[1])} if it errs as earlier ones did" if reach else ""
    print(line, file=sys.stderr, flush=True)


def _say_after(summary: Summary, ahead: Forecast, workers: int) -> None:
    for row in summary.failed:
        print(f"failed: {row.backend}, {row.prompt}, seed {row.seed}: {row.error}", file=sys.stderr)
    foretold = f" (foretold {_minutes(ahead.wall(workers))})" if summary.made else ""
    print(
        f"{summary.done} of {summary.cells} sounds are there, {len(summary.failed)} failed; {summary.made} made now in "
        f"{_minutes(summary.wall_seconds)}{foretold}",
        file=sys.stderr,
    )


def _told(summary: Summary, ahead: Forecast, workers: int, reach: tuple[float, float] | None, folder: Path) -> dict[str, Any]:
    return {
        "folder": str(folder),
        "cells": summary.cells,
        "done": summary.done,
        "failed": [{"prompt": r.prompt, "backend": r.backend, "seed": r.seed, "error": r.error} for r in summary.failed],
        "made": summary.made,
        "wall_seconds": round(summary.wall_seconds, 3),
        "workers": workers,
        "predicted": {
            "wall_seconds": round(ahead.wall(workers), 3),
            "between": None if reach is None else [round(end, 3) for end in reach],
            "peak_mb": round(ahead.memory_mb, 1),
            "basis": ahead.basis,
        },
        "backends": summary.backends,
    }


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
