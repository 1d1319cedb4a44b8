import pytest

from configs.schema import PromptTable, presets
from evaluation.published import Published, compare, tables
from evaluation.study import _dataset

TABLES = tables()


def study(**changes):
    return {"dataset": "AudioCaps", "split": "test", "prompts": 964, "seconds": 10.0, "sample_rate": 16000, "seeds": [0]} | changes


def beside(name="audioldm2-audiocaps", weights="10086976" + "0" * 56, **changes):
    return compare(TABLES[name], study(**changes), {"vggish": {"weights": weights}, "clap": {}}, {"fad": "vggish", "clap": "clap"})


def test_the_tables_of_audioldm2_are_those_of_the_paper():
    """The headline figures, against a mistype."""
    audiocaps = {row.system: row for row in TABLES["audioldm2-audiocaps"].rows}
    assert audiocaps["AudioLDM 2-AC-Large"].figures == {"FAD": 1.42, "KL": 0.98, "CLAP": 0.243, "OVL": 3.89, "REL": 3.87}
    assert audiocaps["AudioLDM 2-AC-Large"].parameters == 712_000_000 and len(audiocaps) == 12
    music = {row.system: row.figures for row in TABLES["audioldm2-musiccaps"].rows}
    assert music["AudioLDM 2-Full"] == {"FAD": 3.13, "KL": 1.20, "CLAP": 0.301, "OVL": 3.34, "REL": 3.54} and len(music) == 11
    speech = {row.system: row for row in TABLES["audioldm2-ljspeech"].rows}
    assert speech["AudioLDM 2-LJS-Pretrained"].figures["MOS"] == 4.00 and speech["AudioLDM 2-LJS-Pretrained"].plus_minus["MOS"] == 0.13


def test_every_table_names_its_source_and_its_rows_exist():
    rows = presets()
    for table in TABLES.values():
        assert table.source and table.dataset
        for row in table.rows:
            assert row.row is None or row.row in rows, row


def test_ours_stand_beside_only_with_the_same_data_and_weights():
    got = beside()

    assert got.columns == {"FAD": "fad"}
    assert got.apart == {
        "KL": "not measured here",
        "CLAP": "which weights its embedder had is not published",
        "OVL": "loa has no such metric",
        "REL": "loa has no such metric",
    }
    assert beside(dataset="MusicCaps").columns == {} and beside(split="train").columns == {} and beside(weights="ff" * 32).columns == {}
    assert beside(weights="ff" * 32).apart["FAD"] == "other weights of the embedder"


def test_every_difference_of_protocol_is_named():
    got = beside(candidates=1, seconds=5.12).differences

    assert "seconds: 10 there, 5.12 here" in got
    assert "candidates: 3 there, 1 here" in got
    assert "clips: not told there, 964 here" in got
    assert "steps: 200 there, not told here" in got
    assert not any(line.startswith(("dataset", "sample rate")) for line in got)


@pytest.mark.parametrize(
    ("layout", "split", "name"), [("musiccaps", "eval", "audioldm2-musiccaps"), ("audiocaps", "test", "audioldm2-audiocaps")]
)
def test_a_data_set_read_from_its_layout_meets_the_tables_of_it(layout, split, name):
    told = _dataset(PromptTable(path="x", layout=layout, split=split))

    assert beside(name, **told).columns == {"FAD": "fad"}
    assert _dataset(PromptTable(path="x")) == {}


def test_a_figure_without_a_column_is_refused():
    given = TABLES["audioldm2-ljspeech"].model_dump(by_alias=True)
    given["rows"][0]["figures"]["FAD"] = 1.0

    with pytest.raises(ValueError, match="FAD, which are no columns"):
        Published.model_validate(given)
