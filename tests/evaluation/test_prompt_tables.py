"""Prompts from files: our own tables, and four public data sets in small, as their authors lay them out."""

from pathlib import Path

import pytest

from configs.registry import ConfigError
from configs.schema import PromptTable
from evaluation.prompt_tables import read_prompts


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_with_quotes_and_relative_paths(tmp_path):
    path = write(tmp_path / "p.csv", 'id,caption,reference,seconds\nx,"rain, then ""thunder""",r/x.wav,3\n,a dog,,\n')
    first, second = read_prompts(PromptTable(path=path))
    assert (first.id, first.caption, first.reference, first.seconds) == ("x", 'rain, then "thunder"', str(tmp_path / "r/x.wav"), 3.0)
    assert (second.id, second.caption, second.reference) == ("0002", "a dog", None)


def test_jsonl_and_its_splits(tmp_path):
    path = write(
        tmp_path / "p.jsonl", '{"id": 7, "caption": "a", "split": "test"}\n\n{"id": "b", "transcript": "Hi.", "split": "val"}\n'
    )
    (only,) = read_prompts(PromptTable(path=path, split="val"))
    assert (only.id, only.transcript) == ("b", "Hi.")
    assert [prompt.id for prompt in read_prompts(PromptTable(path=path))] == ["7", "b"]


def test_audiocaps_has_a_row_a_caption_and_clips_by_youtube_id_and_start(tmp_path):
    write(
        tmp_path / "dataset/test.csv",
        "audiocap_id,youtube_id,start_time,caption\n103549,7fmOlUlwoNg,0,Constant rattling\n96,6BJ455B1aAs,30,A rocket\n",
    )
    write(tmp_path / "clips/6BJ455B1aAs_30.wav", "")
    rows = read_prompts(PromptTable(path=tmp_path, layout="audiocaps"))
    assert [(p.id, p.caption, p.reference) for p in rows] == [("103549", "Constant rattling", None), ("96", "A rocket", None)]
    (there,) = read_prompts(PromptTable(path=tmp_path, layout="audiocaps", audio=tmp_path / "clips"))  # the other clip is gone
    assert (there.id, there.reference) == ("96", str(tmp_path / "clips/6BJ455B1aAs_30.wav"))


def test_musiccaps_keeps_a_split(tmp_path):
    path = write(
        tmp_path / "musiccaps-public.csv",
        "ytid,start_s,end_s,audioset_positive_labels,aspect_list,caption,author_id,is_balanced_subset,is_audioset_eval\n"
        '-0Gj8-vB1q4,30,40,/m/0140xf,"[\'low quality\']","The low quality recording, sad",4,False,True\n'
        '-0SdAVK79lg,30,40,/m/0155w,"[]",Guitar,0,False,False\n',
    )
    (only,) = read_prompts(PromptTable(path=path, layout="musiccaps", split="eval"))
    assert (only.id, only.caption) == ("-0Gj8-vB1q4", "The low quality recording, sad")
    with pytest.raises(ConfigError, match="splits eval and balanced, got 'test'"):
        read_prompts(PromptTable(path=path, layout="musiccaps", split="test"))


def test_ljspeech_speaks_the_normalised_text_with_quotes_as_they_are(tmp_path):
    write(tmp_path / "metadata.csv", 'LJ001-0001|Printing, in 1455|Printing, in fourteen fifty-five\nLJ001-0002|"in|"in\n')
    write(tmp_path / "wavs/LJ001-0001.wav", "")
    write(tmp_path / "test.txt", "LJ001-0002\n")
    first, second = read_prompts(PromptTable(path=tmp_path, layout="ljspeech"))
    assert (first.transcript, first.reference) == ("Printing, in fourteen fifty-five", str(tmp_path / "wavs/LJ001-0001.wav"))
    assert (second.transcript, second.caption) == ('"in', "")
    assert [p.id for p in read_prompts(PromptTable(path=tmp_path, layout="ljspeech", split="test"))] == ["LJ001-0002"]


def test_vggsound_has_no_header_and_clips_that_are_videos(tmp_path):
    write(tmp_path / "vggsound.csv", '---g-f_I2yQ,1,people marching,test\nab,10,"cat, purring",train\n')
    write(tmp_path / "video/---g-f_I2yQ_000001.mp4", "")
    (only,) = read_prompts(PromptTable(path=tmp_path, layout="vggsound"))
    assert (only.id, only.caption, only.video) == ("---g-f_I2yQ_000001", "people marching", tmp_path / "video/---g-f_I2yQ_000001.mp4")
    assert read_prompts(PromptTable(path=tmp_path, layout="vggsound", split="train"))[0].caption == "cat, purring"


def test_a_limit_draws_the_same_prompts_again_in_their_order(tmp_path):
    path = write(tmp_path / "p.csv", "id,caption\n" + "".join(f"{n:03d},sound {n}\n" for n in range(100)))
    drawn = [[p.id for p in read_prompts(PromptTable(path=path, limit=10, shuffle=seed))] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0]) == 10
    assert drawn[0] == sorted(drawn[0])


@pytest.mark.parametrize(
    ("name", "text", "layout", "message"),
    [
        ("p.txt", "a dog\n", "table", "'p.txt' is no table of prompts"),
        ("p.csv", "id,text\na,x\n", "table", r"p\.csv, line 2: unknown key 'text'"),
        ("p.csv", "id,caption\na,rain, wind\n", "table", "line 2 has 1 fields too many"),
        ("p.csv", "id,caption\na,x\na,y\n", "table", "two prompts are called 'a'"),
        ("p.csv", "id,caption\n", "table", "holds no prompts"),
        ("p.jsonl", "{\n", "table", "line 1 is not JSON"),
        ("p.jsonl", "[1]\n", "table", "line 1 must be an object"),
        ("test.csv", "youtube_id,caption\na,b\n", "audiocaps", r"no 'audiocap_id' \(columns: youtube_id, caption\)"),
        ("metadata.csv", "a\n", "ljspeech", "line 1 must be id|text"),
        ("vggsound.csv", "a,b\n", "vggsound", "line 1 must be YouTube id"),
    ],
)
def test_what_is_wrong_is_named_by_its_line(tmp_path, name, text, layout, message):
    path = write(tmp_path / name, text)
    with pytest.raises(ConfigError, match=message):
        read_prompts(PromptTable(path=path, layout=layout))


def test_a_folder_without_its_table_and_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"holds no metadata\.csv"):
        read_prompts(PromptTable(path=tmp_path, layout="ljspeech"))
    with pytest.raises(ConfigError, match="cannot read the prompts"):
        read_prompts(PromptTable(path=tmp_path / "no.csv"))
    (tmp_path / "latin.csv").write_bytes(b"id,caption\na,caf\xe9\n")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        read_prompts(PromptTable(path=tmp_path / "latin.csv"))
