"""Texts of the user's own, for the next character or word."""

from __future__ import annotations

import json

import pytest

from bract.privacy.plan.schema import UNKNOWN, Data
from bract.simulations.datasets.shipped import files

SAID = "abcab" * 20


def load(path, classes=3, length=4, **keys):
    return files.load(path, Data(shape=(length,), classes=classes, **keys))


def spelled(table, tokens) -> list[str]:
    return ["".join(tokens[number] for number in row) for row in table.features]


def test_a_text_is_cut_into_windows_of_its_characters(tmp_path) -> None:
    (tmp_path / "t.txt").write_text(SAID)
    source = load(tmp_path / "t.txt")
    assert "".join(spelled(source.train, "abc")) == SAID[:76]
    assert source.train.features[:, 1:].tolist() == source.train.labels[:, :-1].tolist()
    assert "".join(spelled(source.test, "abc")) == SAID[80:96]
    assert source.train.clients is None
    assert "the vocabulary comes from the text" in source.notices[0]


def test_a_stated_vocabulary_numbers_the_tokens(tmp_path, refused) -> None:
    (tmp_path / "t.txt").write_text(SAID)
    source = load(tmp_path / "t.txt", vocabulary=("c", "b", "a"))
    assert spelled(source.train, "cba")[0] == "abca"
    assert source.notices == ()
    refused(lambda: load(tmp_path / "t.txt", 2, vocabulary=("a", "b")), "not in data.vocabulary", UNKNOWN)
    some = load(tmp_path / "t.txt", vocabulary=("a", "b", UNKNOWN), tokens="characters")
    assert some.train.features[0].tolist() == [0, 1, 2, 0]


def test_words_are_the_most_common_ones(tmp_path) -> None:
    (tmp_path / "t.txt").write_text("No, Ann! No, Bob! " * 20)
    source = load(tmp_path / "t.txt", classes=4, tokens="words")
    assert source.train.features[0].tolist() == [3, 2, 0, 1]  # no , ann ! : "!", "," and "no" are the most common


@pytest.mark.parametrize("below", [False, True])
def test_files_or_folders_are_the_owners(tmp_path, below) -> None:
    for name in ("ann", "bob"):
        path = tmp_path / "d" / (f"{name}/1.txt" if below else f"{name}.txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SAID)
    source = load(tmp_path / "d")
    assert source.train.clients.tolist() == [0] * 19 + [1] * 19
    assert source.test.clients.tolist() == [0] * 4 + [1] * 4


def test_lines_of_json_name_owners_and_parts(tmp_path, refused) -> None:
    rows = [{"body": SAID, "who": who, "part": part} for who in (7, 8) for part in ("train", "test")]
    path = tmp_path / "d.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    keys = {"features": ("body",), "client": "who", "part": "part"}
    source = load(path, **keys)
    assert len(source.train) == len(source.test) == 2 * 24
    assert set(source.train.clients.tolist()) == {0, 1}
    refused(lambda: load(path, **keys | {"features": ("text",)}), "text 1 of d.jsonl has no field 'text'", "features")
    refused(
        lambda: load(path, **keys | {"part": "who"}), "text 1 of d.jsonl is neither train nor test", "write train"
    )
    path.write_text("[1]")
    refused(lambda: load(path), "line 1 of d.jsonl is not a JSON object", '{"text"')


def test_a_short_or_strange_text_is_refused(tmp_path, refused) -> None:
    (tmp_path / "t.txt").write_text("abc")
    refused(lambda: load(tmp_path / "t.txt"), "more than 4 tokens", "smaller number")
    (tmp_path / "t.txt").write_bytes(b"\xff\xfe\xff")
    refused(lambda: load(tmp_path / "t.txt"), "is not UTF-8", "UTF-8")
    (tmp_path / "t.txt").write_text(SAID)
    refused(lambda: load(tmp_path / "t.txt", label="x"), "data.label means nothing for t.txt", "leave it out")
