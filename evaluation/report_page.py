"""A report as one HTML file that asks nobody for anything: style, script, pictures and, up to a limit, sounds are inside.

Up to ``EMBEDDED_SECONDS`` of sound the page holds Ogg Vorbis copies and may be mailed; beyond, its players name the WAV files in
``audio/`` beside it. A policy in the page forbids every other source. All foreign text is escaped.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from evaluation.measures import Figure, usable
from evaluation.pictures import Dot, png, scatter, spectrogram, whisker
from evaluation.report_text import best, cost_columns, mark, missing, number
from media.audio import encode_audio, read_audio
from media.refs import MediaError, write_whole

if TYPE_CHECKING:
    from evaluation.catalogue import Measure
    from evaluation.report import OnProgress, Report

EMBEDDED_SECONDS = 1_800.0  # about 12 MB of Vorbis at 16 kHz
WORKERS = 2
CHARTS = 2


@dataclass(frozen=True)
class Tile:
    """A sound as the page shows it: a picture and something to play, or why there is neither."""

    picture: str = ""  # data URI
    sound: str = ""  # data URI or a path beside the page
    fault: str = ""


def page(report: Report, on_progress: OnProgress = lambda what, done, of: None) -> str:
    """The whole page. Where sounds are too many to be inside, references from elsewhere are copied to ``references/``."""
    here = files("evaluation") / "pages"
    style, script = ((here / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:; "
        "media-src data: 'self' file:; base-uri 'none'; form-action 'none'"
    )
    body = "\n".join(part for part in _sections(report, on_progress) if part)
    return (
        "<!doctype html>\n"
        f'<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="referrer" content="no-referrer">'
        f'<link rel="icon" href="data:,"><title>{escape(report.name)} · loa study</title>'
        f"<style>{style}</style></head>\n<body>\n{body}\n"
        '<footer class="bar" id="bar" hidden><audio id="player" controls preload="none"></audio><output id="told"></output></footer>\n'
        f"<script>{script}</script>\n</body></html>\n"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _sections(report: Report, on_progress: OnProgress) -> Iterator[str]:
    yield _top(report)
    yield "<main>"
    yield _figures(report)
    yield _notes(report)
    yield _charts(report)
    yield _differences(report)
    yield _opinions(report)
    yield from _sounds(report, on_progress)
    yield _failures(report)
    yield _published(report)
    yield "</main>"


# -- the head and the table ---------------------------------------------------------------------------------------------


def _top(report: Report) -> str:
    table = report.table
    made = sum(row.status == "done" for row in report.rows)
    facts = [
        (str(len(table.backends)), "systems"),
        (str(len(report.prompts)), "prompts"),
        (str(len(table.seeds)), "seed" if len(table.seeds) == 1 else "seeds"),
        (f"{made:,}", "sounds"),
        (f"{len(report.failed):,}", "failures"),
    ]
    listed = "".join(f"<li><b>{value}</b> {what}</li>" for value, what in facts)
    about = f'<p class="lead">{escape(report.about)}</p>' if report.about else ""
    return f'<div class="top"><h1>{escape(report.name)}</h1>{about}<ul class="facts">{listed}</ul></div>'


def _protocol(report: Report, opened: bool = False) -> str:
    """The head of every table: the most important words, the rest unfolds."""
    lines = report.header()
    short = " · ".join(f"{what}: {how}" for what, how in lines[:6])
    listed = "".join(f"<dt>{escape(what)}</dt><dd>{escape(how)}</dd>" for what, how in lines)
    return f'<details class="protocol"{" open" if opened else ""}><summary>{escape(short)}</summary><dl>{listed}</dl></details>'


def _figures(report: Report) -> str:
    table, costs = report.table, cost_columns(report)
    # A column without a single figure is a line of "What to know" instead.
    metrics = [m for m in table.metrics if any(table.figure(name, m.name).value is not None for name in table.backends)]
    head = "".join(f'<th title="{escape(m.about)}">{escape(m.title)} {m.arrow}</th>' for m in metrics)
    head += "".join(f"<th>{escape(title)} ↓</th>" for _, title in costs)
    spans = {m.name: _span([table.figure(name, m.name) for name in table.backends]) for m in metrics}
    lines = []
    for name in table.backends:
        cells = "".join(_cell(report, name, metric, spans[metric.name]) for metric in metrics)
        cells += "".join(f"<td>{number(report.costs.get(name, {}).get(key))}</td>" for key, _ in costs)
        lines.append(f"<tr><th scope=row>{escape(name)}<small>{escape(_setting(report, name))}</small></th>{cells}</tr>")
    return (
        f"<h2>Figures</h2>{_protocol(report)}<div class=scroll><table><thead><tr><th>system</th>{head}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div>{_legend(report)}"
    )


def _legend(report: Report) -> str:
    listed = "".join(f"<dt>{escape(m.title)} {m.arrow}</dt><dd>{escape(m.about)}</dd>" for m in report.table.metrics)
    return f'<details class="protocol"><summary>what the columns are</summary><dl>{listed}</dl></details>'


def _setting(report: Report, name: str) -> str:
    told = report.systems.get(name, {})
    parts = [str(told["system"])] if told.get("system") and told["system"] != name else []
    if told.get("parameters"):
        parts.append(f"{float(told['parameters']) / 1e6:.0f} M")
    parts += [f"{key} {told[key]:g}" for key in ("steps", "guidance") if told.get(key) is not None]
    parts += [f"best of {told['candidates']}"] if (told.get("candidates") or 1) > 1 else []
    return ", ".join(parts)


def _span(figures: Sequence[Figure]) -> tuple[float, float]:
    ends = [x for f in figures if f.low is not None for x in (f.low, f.high) if x is not None]
    return (min(ends), max(ends)) if ends else (0.0, 1.0)


def _cell(report: Report, name: str, metric: Measure, span: tuple[float, float]) -> str:
    table = report.table
    figure = table.figure(name, metric.name)
    if figure.value is None:
        return f'<td title="{escape(figure.reason)}">–</td>'
    sign = mark(table, name, metric)
    tone = {"▲": "better", "▼": "worse"}.get(sign, "")
    text = f"<b>{number(figure.value)}</b>" + (f'<span class="mark {tone}">{sign}</span>' if sign else "")
    if figure.low is not None and figure.high is not None:
        middle = figure.value if figure.corrected is None else figure.corrected
        moved = "" if figure.corrected is None else f"→ {number(figure.corrected)} "
        text += f"<small>{moved}[{number(figure.low)}, {number(figure.high)}]</small>"
        text += whisker(middle, figure.low, figure.high, span)
    elif figure.warning:
        text += "<small>no interval</small>"
    kind = ' class="best"' if name in best(table, metric) else ""
    return f"<td{kind}>{text}</td>"


def _notes(report: Report) -> str:
    notes = missing(report)
    listed = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f"<h2>What to know</h2><ul>{listed}</ul>" if notes else ""


def _charts(report: Report) -> str:
    """Quality over cost, for the first metrics that have a better side and a spread."""
    charts = []
    for metric in report.table.metrics:
        if not metric.better or metric.formula in ("failures", "duplicates"):
            continue
        dots = []
        for name in report.table.backends:
            figure, cost = report.table.figure(name, metric.name), report.costs.get(name, {}).get("rtf")
            if figure.value is not None and cost:
                middle = figure.value if figure.corrected is None or figure.low is None else figure.corrected
                reach = (math.nan, math.nan) if figure.low is None or figure.high is None else (figure.low, figure.high)
                dots.append(Dot(name, cost, middle, *reach))
        if len(dots) > 1:
            drawn = scatter(
                dots, "real-time factor (seconds of work a second of sound), less is faster", f"{metric.title} {metric.arrow}"
            )
            charts.append(f'<figure class="chart">{drawn}</figure>')
    shown = "".join(charts[:CHARTS])
    return f'<h2>Quality and cost</h2>{_protocol(report)}<div class="charts">{shown}</div>' if charts else ""


def _differences(report: Report) -> str:
    table = report.table
    titles = {metric.name: metric for metric in table.metrics}
    lines = []
    for (name, metric), d in table.differences.items():
        sign = mark(table, name, titles[metric])
        low, high = number(d.estimate.low), number(d.estimate.high)
        lines.append(
            f"<tr><th scope=row>{escape(d.first)} − {escape(d.second)}</th>"
            f"<td>{escape(titles[metric].title)} {titles[metric].arrow}</td>"
            f"<td>{number(d.estimate.value)} <small>[{low}, {high}]</small></td>"
            f"<td>{number(d.p)}</td><td>{number(d.p_holm)} {sign}</td></tr>"
        )
    if not lines:
        return ""
    head = "<tr><th>difference</th><th>metric</th><th>value</th><th>p</th><th>p (Holm)</th></tr>"
    return (
        f"<h2>Comparisons</h2>{_protocol(report)}"
        f"<details><summary>{len(lines)} paired comparisons with {escape(table.backends[0])}</summary>"
        f"<div class=scroll><table><thead>{head}</thead><tbody>{''.join(lines)}</tbody></table></div></details>"
    )


def _opinions(report: Report) -> str:
    """Mean opinions of a listening test over the same sounds, each with its interval over raters and prompts."""
    parts = []
    for kind, told in report.opinions.items():
        lines = "".join(
            f"<tr><th scope=row>{escape(str(name))}</th><td><b>{number(f['mean'])}</b>"
            f"<small>[{number(f['interval'][0])}, {number(f['interval'][1])}]</small></td><td>{int(f['n'])}</td></tr>"
            for name, f in told["systems"].items()
        )
        left = len(told.get("left_out", {}))
        raters = f"{int(told.get('raters', 0))} raters, {left} left out by the checks; intervals over raters and prompts"
        parts.append(
            f'<h3>{escape(kind.upper())}</h3><p class="protocol">{raters}</p><div class=scroll><table><thead><tr><th>system</th>'
            f"<th>mean ↑</th><th>ratings</th></tr></thead><tbody>{lines}</tbody></table></div>"
        )
    return f"<h2>Listeners</h2>{''.join(parts)}" if parts else ""


# -- sounds ---------------------------------------------------------------------------------------------------------------


def _sounds(report: Report, on_progress: OnProgress) -> Iterator[str]:
    """A section for each prompt: the true sound, then every system's, side by side."""
    total = sum(row.seconds or 0 for row in report.rows) + 5 * sum(p.reference is not None for p in report.prompts)
    inside = total <= EMBEDDED_SECONDS
    wanted: dict[Path, Callable[[], str]] = {}
    for row in report.rows:
        if row.status == "done" and row.audio:
            wanted[report.folder / row.audio] = lambda audio=row.audio: quote(audio)  # type: ignore[misc]
    for prompt in report.prompts:
        if prompt.reference is not None:
            wanted[prompt.reference] = lambda path=prompt.reference: _beside(report.folder, path)  # type: ignore[misc]
    tiles = dict(_tiles(wanted, inside, on_progress))
    by_cell = {(row.prompt, row.backend, row.seed): row for row in report.rows}
    where = "Sounds are inside this page." if inside else "Players read the folder audio/ beside this page; keep the two together."
    yield (
        f'<h2>Sounds</h2><p class="quiet">Click a spectrogram to play from there: 0 to 8 kHz upwards, 70 dB. {where}</p>'
        '<p><input class="find" id="find" type="search" placeholder="Find a prompt" aria-label="Find a prompt"></p>'
    )
    numbers = [m for m in report.table.metrics if any(report.table.figure(b, m.name).by_prompt for b in report.table.backends)][:2]
    for prompt in report.prompts:
        caption = prompt.caption or prompt.transcript or prompt.id
        shown = []
        if prompt.reference is not None:
            shown.append(_tile(tiles.get(prompt.reference, Tile(fault="not to be read")), "true sound", "", caption, "true"))
        for name in report.table.backends:
            for seed in report.table.seeds:
                if (prompt.id, name, seed) not in by_cell:
                    continue
                row = by_cell[prompt.id, name, seed]
                why = usable(row)
                tile = (
                    Tile(fault=why)
                    if row.status != "done" or not row.audio
                    else tiles.get(report.folder / row.audio, Tile(fault="lost"))
                )
                values = [(m.title, report.table.figure(name, m.name).by_cell.get((prompt.id, seed))) for m in numbers]
                small = " · ".join(f"{title} {number(value)}" for title, value in values if value is not None)
                label = f"{name} · {seed}" if len(report.table.seeds) > 1 else name
                shown.append(_tile(tile, label, why if tile.sound and why else small, caption))
        yield (
            f'<section class="prompt"><h3>{escape(caption)}<small>{escape(prompt.id)}</small></h3>'
            f'<div class="tiles">{"".join(shown)}</div></section>'
        )


def _tile(tile: Tile, label: str, small: str, caption: str, kind: str = "") -> str:
    if tile.fault or not tile.sound:
        return f'<div class="tile none"><span class="name"><span>{escape(label)}</span></span><small>{escape(tile.fault)}</small></div>'
    said = escape(f"{label}: {caption}")
    return (
        f'<button type="button" class="tile {kind}" aria-pressed="false" aria-label="{said}" data-src="{escape(tile.sound)}">'
        f'<img src="{tile.picture}" alt="" loading="lazy"><progress max="1" value="0" hidden></progress>'
        f'<span class="name"><span>{escape(label)}</span></span><small>{escape(small)}</small></button>'
    )


def _tiles(wanted: Mapping[Path, Callable[[], str]], inside: bool, on_progress: OnProgress) -> Iterator[tuple[Path, Tile]]:
    """Each file read once, drawn, and packed or named."""

    def one(path: Path) -> Tile:
        try:
            audio = read_audio(path)
        except MediaError as error:
            return Tile(fault=str(error))
        picture = f"data:image/png;base64,{base64.b64encode(png(spectrogram(audio))).decode()}"
        if not inside:
            return Tile(picture, wanted[path]())
        return Tile(picture, f"data:audio/ogg;base64,{base64.b64encode(encode_audio(audio, 'ogg')).decode()}")

    with ThreadPoolExecutor(WORKERS) as pool:
        for number_, (path, tile) in enumerate(zip(wanted, pool.map(one, wanted), strict=True), 1):
            on_progress("pictures and sounds", number_, len(wanted))
            yield path, tile


def _beside(folder: Path, reference: Path) -> str:
    """The way to a reference from the page; one that lies elsewhere is copied."""
    if reference.is_relative_to(folder):
        return quote(reference.relative_to(folder).as_posix())
    name = hashlib.sha256(str(reference).encode()).hexdigest()[:16] + reference.suffix.lower()
    goal = folder / "references" / name
    if not goal.is_file():
        goal.parent.mkdir(exist_ok=True)
        write_whole(goal, reference.read_bytes())
    return f"references/{quote(name)}"


# -- what failed, and what others printed -----------------------------------------------------------------------------------


def _failures(report: Report) -> str:
    failed = report.failed
    if not failed:
        return ""
    lines = "".join(
        f"<tr><th scope=row>{escape(row.backend)}</th><td class=words>{escape(row.prompt)}</td><td>{row.seed}</td>"
        f"<td class=words>{escape(why)}</td></tr>"
        for row, why in failed[:200]
    )
    more = f"<p class=quiet>and {len(failed) - 200} more in ledger.jsonl</p>" if len(failed) > 200 else ""
    head = "<tr><th>system</th><th class=words>prompt</th><th>seed</th><th class=words>why</th></tr>"
    return (
        f"<h2>Failures</h2>{_protocol(report)}<details><summary>{len(failed)} cells without a usable sound</summary>"
        f"<div class=scroll><table><thead>{head}</thead><tbody>{lines}</tbody></table></div>{more}</details>"
    )


def _published(report: Report) -> str:
    parts = [
        "<h2>Published figures</h2><p class=quiet>Others' figures, as printed. Ours stand beside them only where data set, split and "
        "the embedder's weights are the same.</p>"
    ]
    for table, beside in report.published:
        head = "".join(f"<th>{escape(name)} {m.arrow}</th>" for name, m in table.metrics.items())
        lines = []
        for row in table.rows:
            cells = "".join(
                f"<td>{row.figures[n]:g}{f' ± {row.plus_minus[n]:g}' if n in row.plus_minus else ''}</td>"
                if n in row.figures
                else "<td>–</td>"
                for n in table.metrics
            )
            size = "–" if row.parameters is None else f"{row.parameters / 1e6:,.0f} M"
            length = row.seconds or table.protocol.get("seconds")
            shown = "–" if length is None else f"{length:g} s"
            lines.append(f"<tr><th scope=row>{escape(row.system)}</th><td>{size}</td><td>{shown}</td>{cells}</tr>")
        for name in report.table.backends if beside.columns else ():
            ours = [report.table.figure(name, beside.columns[n]) if n in beside.columns else None for n in table.metrics]
            cells = "".join("<td></td>" if f is None else f"<td>{number(f.value)}</td>" for f in ours)
            told = report.systems.get(name, {})
            size = f"{float(told['parameters']) / 1e6:,.0f} M" if told.get("parameters") else "–"
            lines.append(
                f'<tr class="ours"><th scope=row>{escape(name)} <small>this study</small></th><td>{size}</td>'
                f"<td>{report.protocol.get('seconds', '–')} s</td>{cells}</tr>"
            )
        told_of = [("source", f"{table.source} ({table.checked})"), ("data", f"{table.dataset} {table.split}")]
        told_of += [(key.replace("_", " "), str(value)) for key, value in table.protocol.items()]
        told_of += [(f"{name}", m.embedder) for name, m in table.metrics.items() if m.embedder]
        told_of += [("differs", "; ".join(beside.differences) or "nothing that is known")]
        told_of += [("apart", "; ".join(f"{name}: {why}" for name, why in beside.apart.items()))] if beside.apart else []
        told_of += [("notes", table.notes)] if table.notes else []
        listed = "".join(f"<dt>{escape(what)}</dt><dd>{escape(how)}</dd>" for what, how in told_of)
        parts.append(
            f"<details{' open' if beside.columns else ''}><summary><b>{escape(table.title)}</b> "
            f"<span class=quiet>{escape(table.dataset)} {escape(table.split)}, {len(table.rows)} rows</span></summary>"
            f'<div class="protocol"><dl>{listed}</dl></div><div class=scroll><table><thead><tr><th>system</th><th>parameters</th>'
            f"<th>length</th>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div></details>"
        )
    return "".join(parts)
