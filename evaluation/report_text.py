"""A report as text: Markdown, CSV and LaTeX. Captions and labels are foreign: each form escapes what it would take for its own."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from evaluation.catalogue import Measure
from evaluation.measures import Figure, Table

if TYPE_CHECKING:
    from evaluation.report import Report


def number(value: float | None, digits: int = 3) -> str:
    """Three significant digits, no exponent for everyday sizes; a dash for none.

    >>> [number(x) for x in (0.01234, 1.5, 15.34, 1234.5, -2, None)]
    ['0.0123', '1.50', '15.3', '1234', '-2.00', '–']
    """
    if value is None or value != value:
        return "–"
    if value == 0:
        return "0"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{value:.{min(max(places, 0), 6)}f}"


def said(figure: Figure) -> str:
    """``12.3 → 4.1 [3.2, 5.0]``: the plain value, the one freed of its bias, and its interval."""
    if figure.value is None:
        return "–"
    text = number(figure.value)
    if figure.corrected is not None and figure.low is not None:
        text += f" → {number(figure.corrected)}"
    return text + (f" [{number(figure.low)}, {number(figure.high)}]" if figure.low is not None else "")


def mark(table: Table, backend: str, metric: Measure) -> str:
    """▲ or ▼: certainly better or worse than the first system; ◆ where neither way is better; "" where it is not certain."""
    difference = table.differences.get((backend, metric.name))
    if difference is None or not difference.certain:
        return ""
    if not metric.better:
        return "◆"
    return "▲" if (difference.estimate.value < 0) == (metric.better == "lower") else "▼"


def best(table: Table, metric: Measure) -> set[str]:
    """The systems with the best value, by the corrected one where all have it; empty where no way is better, or all are alike."""
    values = {name: table.figure(name, metric.name) for name in table.backends}
    known = {name: figure for name, figure in values.items() if figure.value is not None}
    if not metric.better or len(known) < 2:
        return set()
    whole = all(figure.corrected is not None for figure in known.values())
    keyed = {name: (figure.corrected if whole else figure.value) or 0.0 for name, figure in known.items()}
    wanted = min(keyed.values()) if metric.better == "lower" else max(keyed.values())
    found = {name for name, value in keyed.items() if value == wanted}
    return found if len(found) < len(known) else set()


COSTS = (("rtf", "real-time factor"), ("peak_mb", "peak MB"), ("energy_j", "J a sound"))


def cost_columns(report: Report) -> list[tuple[str, str]]:
    """Costs that were measured of some system."""
    return [(key, title) for key, title in COSTS if any(c.get(key) is not None for c in report.costs.values())]


# -- Markdown -----------------------------------------------------------------------------------------------------------


def plain_markdown(text: str) -> str:
    """Foreign text as itself, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~&-])", r"\\\1", " ".join(text.split()))


def _grid(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] + ["---:"] * (len(head) - 1), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def as_markdown(report: Report) -> str:
    """Table, comparisons, what is missing, published tables: each under its protocol."""
    e, table, costs = plain_markdown, report.table, cost_columns(report)
    protocol = "\n".join(f"- {e(what)}: {e(how)}" for what, how in report.header())
    head = ["system", *(f"{e(m.title)} {m.arrow}".strip() for m in table.metrics), *(e(title) for _, title in costs)]
    lines = []
    for name in table.backends:
        cells = []
        for metric in table.metrics:
            figure = table.figure(name, metric.name)
            text = said(figure)
            text = f"**{text}**" if name in best(table, metric) else text
            cells.append(f"{text} {mark(table, name, metric)}".strip())
        lines.append([e(name), *cells, *(number(report.costs.get(name, {}).get(key)) for key, _ in costs)])
    parts = [f"# {e(report.name)}", e(report.about), protocol, _grid(head, lines)]
    parts.append("\n".join(f"- {e(m.title)}: {e(m.about)}" for m in table.metrics))
    if table.differences:
        rows = [
            [
                f"{e(d.first)} − {e(d.second)}",
                e(next(m.title for m in table.metrics if m.name == name)),
                f"{number(d.estimate.value)} [{number(d.estimate.low)}, {number(d.estimate.high)}]",
                number(d.p_holm),
            ]
            for (_, name), d in table.differences.items()
        ]
        parts += ["## Comparisons", protocol, _grid(["difference", "metric", "value", "p (Holm)"], rows)]
    notes = missing(report)
    if notes:
        parts += ["## What to know", "\n".join(f"- {e(note)}" for note in notes)]
    parts += [*_published_markdown(report)]
    return "\n\n".join(part for part in parts if part) + "\n"


def missing(report: Report) -> list[str]:
    """Warnings, and why figures are absent, each once."""
    table = report.table
    notes = list(table.warnings)
    for metric in table.metrics:
        reasons: dict[str, list[str]] = {}
        for name in table.backends:
            if (reason := table.figure(name, metric.name).reason) != "":
                reasons.setdefault(reason, []).append(name)
        notes += [f"{metric.title}: {'' if len(n) == len(table.backends) else ', '.join(n) + ': '}{r}" for r, n in reasons.items()]
    return list(dict.fromkeys(notes))


def _published_markdown(report: Report) -> list[str]:
    e = plain_markdown
    parts = ["## Published figures", "Not ours, and not comparable unless a column says so."]
    for table, beside in report.published:
        head = ["system", "parameters", *(f"{e(name)} {m.arrow}".strip() for name, m in table.metrics.items())]
        rows = [
            [
                e(r.system),
                "–" if r.parameters is None else f"{r.parameters / 1e6:.0f} M",
                *(_printed(r, name) for name in table.metrics),
            ]
            for r in table.rows
        ]
        for name in report.table.backends if beside.columns else ():
            ours = [said(report.table.figure(name, beside.columns[m])) if m in beside.columns else "" for m in table.metrics]
            rows.append([f"**{e(name)} (this study)**", "", *ours])
        apart = "; ".join(f"{name}: {why}" for name, why in beside.apart.items())
        told = [
            f"- source: {e(table.source)} ({table.checked})",
            f"- differences: {e('; '.join(beside.differences) or 'none known')}",
            f"- not beside ours: {e(apart)}" if apart else "",
            f"- {e(table.notes)}" if table.notes else "",
        ]
        parts += [
            f"### {e(table.title)}: {e(table.dataset)} {e(table.split)}",
            "\n".join(line for line in told if line),
            _grid(head, rows),
        ]
    return parts


def _printed(row: object, name: str) -> str:
    figures, spread = row.figures, row.plus_minus  # type: ignore[attr-defined]
    if name not in figures:
        return "–"
    return f"{figures[name]:g}" + (f" ± {spread[name]:g}" if name in spread else "")


# -- CSV ----------------------------------------------------------------------------------------------------------------


def plain_cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def as_csv(report: Report) -> str:
    """One line a system and metric; the protocol stands above as comments."""
    out = io.StringIO()
    for what, how in report.header():
        out.write(f"# {what}: {how}".replace("\n", " ") + "\n")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["system", "metric", "better", "value", "corrected", "low", "high", "prompts", "sounds", "difference", "p_holm", "note"]
    )
    table = report.table
    for name in table.backends:
        for metric in table.metrics:
            f, d = table.figure(name, metric.name), table.differences.get((name, metric.name))
            writer.writerow(
                [
                    plain_cell(name), metric.name, metric.better,
                    *("" if x is None else repr(float(x)) for x in (f.value, f.corrected, f.low, f.high)),
                    f.prompts, f.sounds,
                    *(("", "") if d is None else (repr(float(d.estimate.value)), repr(float(d.p_holm)))),
                    plain_cell(f.reason or f.warning),
                ]
            )  # fmt: skip
        for key, _ in cost_columns(report):
            value = report.costs.get(name, {}).get(key)
            writer.writerow([plain_cell(name), key, "lower", "" if value is None else repr(float(value)), *[""] * 8])
    return out.getvalue()


# -- LaTeX --------------------------------------------------------------------------------------------------------------

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "↓": r"$\downarrow$", "↑": r"$\uparrow$", "→": r"$\rightarrow$",
    "▲": r"$\blacktriangle$", "▼": r"$\blacktriangledown$", "◆": r"$\blacklozenge$", "×": r"$\times$", "∞": r"$\infty$",
    "σ": r"$\sigma$", "⁻": r"$^-$", "²": r"$^2$", "–": "--", "−": "$-$", "…": r"\ldots{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}",
}  # fmt: skip


def plain_latex(text: str) -> str:
    """Foreign text as itself, on one line."""
    return "".join(_LATEX.get(letter, letter) for letter in " ".join(text.split()))


def as_latex(report: Report) -> str:
    """A ``table`` for booktabs and amssymb, the protocol in its caption and as comments."""
    e, table = plain_latex, report.table
    lines = [f"% {what}: {how}".replace("\n", " ") for what, how in report.header()]
    lines += [r"\begin{table}", r"\centering\small", r"\begin{tabular}{l" + "r" * len(table.metrics) + "}", r"\toprule"]
    lines += [" & ".join(["system", *(e(f"{m.title} {m.arrow}".strip()) for m in table.metrics)]) + r" \\", r"\midrule"]
    for name in table.backends:
        cells = [e(name)]
        for metric in table.metrics:
            text = e(said(table.figure(name, metric.name)))
            text = rf"\textbf{{{text}}}" if name in best(table, metric) else text
            cells.append(f"{text} {e(mark(table, name, metric))}".strip())
        lines.append(" & ".join(cells) + r" \\")
    caption = ". ".join(f"{what}: {how}" for what, how in report.header())
    lines += [r"\bottomrule", r"\end{tabular}", rf"\caption{{{e(report.name)}. {e(caption)}.}}", r"\end{table}"]
    return "\n".join(lines) + "\n"
