"""The card of a checkpoint: what it was made from and how, told from the recipe, the list of clips and the logs. Measures nothing."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import safe_open

from configs.schema import TrainConfig
from training.data import MelSet, recordings

PLACES = ("data", "recordings", "soundfont", "work", "out")  # of one machine, and nobody else's business
# Licences of what scenes are synthesised from, beside the code in training/.
SYNTHESISED = {"music": "MuseScore_General_Lite.sf3, MIT", "speech": "hibari-tts, Apache-2.0"}


def write_card(folder: Path, *, config: TrainConfig, clips: MelSet, work: Path, skipped: int) -> None:
    """README.md and clips.tsv (every recording with its licence) into ``folder``, where the checkpoint's files lie already."""
    assert config.data is not None
    used = sorted({row for row, _ in json.loads((config.data / "rec_train.json").read_text())})
    rows = [recordings()[index] for index in used]
    fields = ("package", "path_in_package", "licence", "category", "caption")
    table = ["\t".join(fields), *("\t".join(str(row[name]) for name in fields) for row in rows)]
    (folder / "clips.tsv").write_text("\n".join(table) + "\n", encoding="utf-8")
    pictures = _take_pictures(work, folder)
    text = "\n".join(
        [
            f"# {config.name}",
            "",
            f"An AudioLDM 2 in the public checkpoint layout, made by `loa train all --config {config.name}`. Clips of 5.12 s, 16 kHz",
            "mono. Weights in float16. Measure it with `loa bench nano --checkpoint DIR`.",
            "",
            f"Licence of the weights: {weights_licence(rows)}, which follows from the recordings below.",
            "",
            "## Parts",
            *_rows("part", "parameters", "MB", cells=_parts(folder)),
            "",
            "## Recipe",
            *_rows("stage", "steps", "minutes", "processes", "rows a step", "precision", "last losses", cells=_stages(config, work)),
            "",
            "Every field: [recipe.json](recipe.json).",
            "",
            "## Data",
            *_rows("clips", "of", "classes", "share of draws", cells=_sources(clips)),
            "",
            f"{len(rows)} recordings from Debian 12 packages, each with its licence in [clips.tsv](clips.tsv); {skipped} more could",
            "not be read and were left out. The other clips are synthesised by the code in training/ from seeds.",
            "",
            *_rows("package", "licence", "recordings", cells=_licences(rows)),
            *pictures,
            "",
        ]
    )
    recipe = config.model_dump(mode="json", exclude={**dict.fromkeys(PLACES, True), "vae": {"start"}, "latent": {"start"}})
    (folder / "recipe.json").write_text(json.dumps(recipe, indent=1) + "\n")
    (folder / "README.md").write_text(text, encoding="utf-8")


def weights_licence(rows: list[dict[str, Any]]) -> str:
    """The mildest licence that all recordings allow: share-alike ones (tier B) pass on to what is made from them."""
    tiers = {str(row["tier"]) for row in rows}
    if not tiers <= {"A", "B"}:
        raise ValueError(f"recordings of tier {', '.join(sorted(tiers - {'A', 'B'}))} must not be trained on")
    return "CC BY-SA 4.0" if "B" in tiers else "CC BY 4.0" if tiers else "Apache-2.0"


def _rows(*header: str, cells: Iterator[tuple[object, ...]]) -> list[str]:
    return [f"| {' | '.join(header)} |", "|---" * len(header) + "|", *(f"| {' | '.join(map(str, row))} |" for row in cells)]


def _parts(folder: Path) -> Iterator[tuple[object, ...]]:
    for path in sorted(folder.glob("*/*.safetensors")):
        with safe_open(path, "pt") as tensors:
            count = sum(_product(tensors.get_slice(key).get_shape()) for key in tensors.keys())  # noqa: SIM118 (no mapping)
        yield path.parent.name, f"{count:,}", f"{path.stat().st_size / 1e6:.1f}"


def _product(shape: list[int]) -> int:
    out = 1
    for size in shape:
        out *= size
    return out


def _stages(config: TrainConfig, work: Path) -> Iterator[tuple[object, ...]]:
    for path in sorted(work.glob("*/done.json"), key=lambda p: p.stat().st_mtime):
        section = getattr(config, path.parent.name, None)
        if section is not None:
            done = json.loads(path.read_text())
            name = path.parent.name + (" (from an earlier checkpoint)" if getattr(section, "start", None) else "")
            last = ", ".join(f"{k} {v:.4g}" for k, v in done["last"].items() if k not in ("step", "minutes", "lr", "skipped"))
            yield name, done["steps"], f"{done['minutes']:.2f}", done["processes"], section.batch, section.precision, last


def _sources(clips: MelSet) -> Iterator[tuple[object, ...]]:
    total = sum(source.share for source in clips.sources)
    for source in clips.sources:
        kinds = Counter(label.partition("/")[0] for label in source.labels)
        name = next(iter(kinds)) if source.scenes else "recordings" if source.captions else "procedural effects"
        what = f"{name} ({SYNTHESISED[name]})" if name in SYNTHESISED else name
        yield len(source.labels), what, "" if source.scenes else len(kinds), f"{source.share / total:.0%}"


def _licences(rows: list[dict[str, Any]]) -> Iterator[tuple[object, ...]]:
    for (package, licence), count in sorted(Counter((str(row["package"]), str(row["licence"])) for row in rows).items()):
        yield package, licence, count


def _take_pictures(work: Path, folder: Path) -> list[str]:
    """The newest sheet of spectrograms of each stage that draws some, beside the card."""
    titles = {
        "vae": "Clips, and below each its reconstruction",
        "latent": "Four captions",
        "joint": "Four captions, after joint training",
    }
    lines = []
    for stage, title in titles.items():
        sheets = sorted((work / stage / "samples").glob("*.png"))
        if sheets:
            shutil.copyfile(sheets[-1], folder / f"{stage}.png")
            lines += ["", f"![{title}]({stage}.png)"]
    return ["", "## Spectrograms", *lines] if lines else []
