"""A finished study's page and tables: what they say, what they escape, and that the page asks nobody for anything."""

import csv
import json
import os
import re
import shutil
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from configs.schema import StudyPrompt
from evaluation import report_page
from evaluation.embedders import Heard
from evaluation.ledger import Ledger
from evaluation.pictures import Dot, palette, png, scatter, spectrogram, ticks
from evaluation.report import gather, write_report
from evaluation.report_text import as_csv, as_latex, as_markdown, best, number, plain_cell, plain_latex, plain_markdown
from media.audio import Audio
from tests import makers
from tests.finished_study import finished

EVIL = 'rain <script>alert("x")</script></script> & | `code` \\frac{1}{2} $x$ =1+1'
SYSTEMS = {"near": {"system": "S", "parameters": 21_000_000, "steps": 25, "sample_rate": 16_000, "rtf": 0.4}, "far": {"rtf": 0.1}}


class Ear:
    """Hears the pitch and the level of a tone; all words mean one at 370 Hz."""

    sample_rate, window, classes = 16_000, "all", ""

    def __init__(self, name):
        self.name, self.digest = name, f"sha256:{name}"

    def embed(self, sounds):
        rows = [np.array([makers.peak_hz(s) / 1000, 0.5, s.samples.std()], np.float32) for s in sounds]
        return [Heard(row, row[None]) for row in rows]

    def words(self, texts):
        return np.array([[0.37, 0.5, 0.2]] * len(texts))


def make(prompt, system, seed):
    index = int(prompt.id[1:])
    if system == "far" and index == 3:
        return "GenerationFailed: <b>NaN</b>"
    return makers.tone(300 + 20 * index + seed + (0 if system == "near" else 400), seconds=0.3, level=0.2 + 0.01 * index)


def study(folder: Path, count=8, seeds=(0, 1), **spec):
    prompts = []
    for index in range(count):
        from media.audio import write_audio

        path = folder / "references" / f"p{index}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_audio(path, makers.tone(300 + 20 * index, seconds=0.3))
        prompts.append(
            StudyPrompt(id=f"p{index}", caption=EVIL if index == 1 else f"tone {index}", reference=f"references/p{index}.wav")
        )
    spec = {
        "name": "Tones",
        "about": "With <i> & {b}",
        "metrics": ("clap", "kad", "fad", "loudness", "failures", "cer"),
        "seconds": 0.3,
    } | spec
    return finished(folder, prompts, SYSTEMS, make, seeds, **spec)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = study(tmp_path_factory.mktemp("study"))
    write_report(made, find=Ear)
    return made


@pytest.fixture(scope="module")
def report(folder):
    return gather(folder, find=Ear)


class Page(HTMLParser):
    """Tags and their attributes, and the text outside of script and style."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self._inside = [], "", ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside not in ("script", "style"):
            self.text += data


@pytest.fixture(scope="module")
def page(folder):
    return Page((folder / "report.html").read_text())


def test_foreign_text_stays_text(page):
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not any(tag in ("i", "iframe", "object") for tag, _ in page.tags)
    assert EVIL in page.text and "GenerationFailed: <b>NaN</b>" in page.text


def test_the_page_names_no_other_place(page, folder):
    for tag, attributes in page.tags:
        for name in ("src", "href", "data-src", "action", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith("data:"), (tag, name, value[:80])
    assert not re.search(r"@import|url\(", (folder / "report.html").read_text())
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy


def test_every_sound_has_a_picture_and_plays(page):
    tiles = [a for tag, a in page.tags if tag == "button" and "tile" in a.get("class", "")]
    pictures = [a["src"] for tag, a in page.tags if tag == "img"]

    assert len(tiles) == len(pictures) == 8 + 2 * 8 * 2 - 2  # true sounds, made ones, two that failed
    assert all(a["data-src"].startswith("data:audio/ogg;base64,T2dnUw") for a in tiles)  # OggS
    assert len(set(pictures)) > 8


def test_the_table_says_what_was_measured(report):
    text = as_markdown(report)
    near = next(line for line in text.splitlines() if line.startswith("| near"))
    figure = report.table.figure("near", "clap")

    assert number(figure.value) in near and f"[{number(figure.low)}, {number(figure.high)}]" in near
    assert best(report.table, report.table.metrics[0]) == {"near"} and f"**{number(figure.value)}" in near
    assert "▼" in next(line for line in text.splitlines() if line.startswith("| far"))
    assert "it needs a 'transcript', which this study has not" in text.replace("\\", "")


def test_a_protocol_stands_over_every_table(report, page):
    told = as_markdown(report)
    grids = len(re.findall(r"^\| (system|difference) ", told, re.M)) - len(report.published)

    assert grids == told.count("- n: 14 sounds of each system: 7 prompts × 2 seeds, less 2 cells that some system failed") == 2
    assert told.count("- source: ") == len(report.published)
    assert as_csv(report).startswith("# n: 14 sounds of each system")
    assert r"\caption{Tones. n: 14 sounds" in as_latex(report)
    heads = [a for _, a in page.tags if a.get("class") == "protocol"]
    assert len(heads) > [tag for tag, _ in page.tags].count("table")  # and one over the charts


def test_csv_is_read_back_as_the_figures(report):
    lines = [line for line in as_csv(report).splitlines() if not line.startswith("#")]
    rows = {(row["system"], row["metric"]): row for row in csv.DictReader(lines)}

    assert float(rows["near", "clap"]["value"]) == report.table.figure("near", "clap").value
    assert float(rows["near", "rtf"]["value"]) == pytest.approx(0.4)
    assert rows["near", "cer"]["value"] == "" and "transcript" in rows["near", "cer"]["note"]
    assert float(rows["far", "clap"]["p_holm"]) < 0.05


def test_published_figures_stand_apart_with_their_source(page, report):
    assert "AudioLDM 2-AC-Large" in page.text and "arXiv 2308.05734" in page.text
    assert "dataset: AudioCaps there, not told here" in page.text
    assert not any(beside.columns for _, beside in report.published)


def test_the_same_rows_give_the_same_report(folder):
    before = (folder / "report.html").read_bytes()

    assert write_report(folder, find=Ear).html.read_bytes() == before


def test_what_listeners_said_stands_in_the_report(folder, report):
    figures = {"near": {"mean": 4.2, "interval": [3.9, 4.5], "n": 12}, "far <b>": {"mean": 2.1, "interval": [1.8, 2.4], "n": 12}}
    (folder / "listening").mkdir()
    (folder / "listening" / "results.json").write_text(
        json.dumps({"test": "sha256:x", "mos": {"raters": 3, "left_out": {}, "systems": figures}})
    )
    try:
        shown = Page(report_page.page(replace(report, opinions=gather(folder, find=Ear).opinions))).text
    finally:
        shutil.rmtree(folder / "listening")

    assert "Listeners" in shown and "4.20" in shown and "[1.80, 2.40]" in shown and "far <b>" in shown
    assert "Listeners" not in Page(report_page.page(report)).text


def test_many_sounds_stay_beside_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(report_page, "EMBEDDED_SECONDS", 1.0)
    made = study(tmp_path / "study", 4, (0,))
    outside = tmp_path / "elsewhere.wav"
    outside.write_bytes((made / "references" / "p0.wav").read_bytes())
    changed = (made / "study.json").read_text().replace('"references/p0.wav"', f'"{outside}"')
    (made / "study.json").write_text(changed)

    page = Page(write_report(made, find=Ear).html.read_text())

    sources = [a["data-src"] for tag, a in page.tags if tag == "button" and "tile" in a.get("class", "")]
    assert sources and all((made / source).is_file() for source in sources)
    assert any(source.startswith("audio/") for source in sources)
    assert str(tmp_path) not in "".join(sources)


@pytest.mark.parametrize(
    ("escape", "text", "wanted"),
    [
        (plain_markdown, "a|b*c\n<d>", "a\\|b\\*c \\<d\\>"),
        (plain_latex, "50% & $x_1$ ↓", r"50\% \& \$x\_1\$ $\downarrow$"),
        (plain_cell, "=HYPERLINK()", "'=HYPERLINK()"),
        (number, 0.000123, "0.000123"),
        (number, float("nan"), "–"),
        (number, 15.34, "15.3"),
    ],
)
def test_each_form_escapes_what_it_would_take_for_its_own(escape, text, wanted):
    assert escape(text) == wanted


def test_a_tone_is_a_line_at_its_height():
    """440 Hz lies in the lower third of the mel axis, 6 kHz near the top."""
    rows = [int(spectrogram(makers.tone(hz, seconds=1.0)).astype(float).sum(1).argmax()) for hz in (440, 6000)]

    assert rows[0] > 40 and rows[1] < 12
    assert spectrogram(Audio(np.zeros((1, 100), np.float32), 8000)).max() == 0


def test_a_picture_is_read_back():
    import io

    from PIL import Image

    ramp = np.tile(np.arange(0, 256, 2, dtype=np.uint8), (4, 1))
    shown = np.asarray(Image.open(io.BytesIO(png(ramp))).convert("RGB"), float)

    assert np.diff(shown.sum(2)[0])[np.diff(shown.sum(2)[0]) != 0].min() > 0  # brighter from left to right
    assert len(palette()) == 768


def test_a_scatter_puts_the_better_higher_and_the_dearer_right():
    drawn = scatter([Dot("a<b", 0.1, 0.2, 0.1, 0.3), Dot("c", 0.5, 0.4)], "cost", "quality")
    circles = [tuple(map(float, found)) for found in re.findall(r'class="dot" cx="([\d.]+)" cy="([\d.]+)"', drawn)]

    assert circles[0][0] < circles[1][0] and circles[0][1] > circles[1][1]
    assert "a&lt;b" in drawn and "a<b" not in drawn
    assert ticks(0.13, 0.58) == [0.2, 0.3, 0.4, 0.5]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_thousand_cells_in_a_minute(tmp_path):
    """1,000 cells of 1 s: the ledger opens in less than 1 s, the report with nano's own embedder takes less than 60 s.

    What is asserted is processor time; wall time is the same on a machine that does nothing else, and is printed.
    """
    count = 250
    prompts = [StudyPrompt(id=f"p{index}", caption=f"tone {index}") for index in range(count)]

    def tones(prompt, system, seed):
        return makers.noise(1.0, seed=hash((prompt.id, system, seed)) % 2**31)

    made = finished(tmp_path, prompts, {"a": {}, "b": {}}, tones, (0, 1), metrics=("nano-clap", "nano-is", "loudness", "failures"))
    took = {}
    for what, work in {
        "ledger": lambda: Ledger(made),
        "report": lambda: write_report(made),
        "report again": lambda: write_report(made),
    }.items():
        wall, begun = time.perf_counter(), os.times()
        work()
        ended = os.times()
        took[what] = ended.user - begun.user + ended.system - begun.system
        print(f"1,000 cells: {what} {took[what]:.2f} s of processor time, {time.perf_counter() - wall:.2f} s on the clock")
    assert len(Ledger(made).rows) == 1000 and took["ledger"] < 1
    assert took["report again"] < took["report"] < 60
