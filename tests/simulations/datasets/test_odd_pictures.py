"""Odd folders of pictures: each is read as its owner meant it, or refused with two lines that name the place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from bract.privacy.plan.schema import Data
from bract.simulations.datasets.shipped import files

Wanted = dict[str, Any] | tuple[str, str]
Lay = Callable[[Path], None]


def paint(path: Path, gray: int = 0, **options: Any) -> None:
    """A picture of 2 x 2 pixels of one gray."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (2, 2), gray).save(path, **options)


def pictures(*names: str, **texts: str) -> Lay:
    """Pictures of these names, of gray 0, 51, 102 and so on; `labels` is the text of labels.csv."""

    def lay(folder: Path) -> None:
        for number, name in enumerate(names):
            paint(folder / name, 51 * number)
        for name, text in texts.items():
            (folder / f"{name}.csv").write_text(text, "utf-8")

    return lay


def beside(name: str, content: bytes = b"x") -> Lay:
    """Two labelled pictures, and another file."""

    def lay(folder: Path) -> None:
        pictures("a/1.png", "b/1.png")(folder)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    return lay


def and_folder(name: str, *names: str) -> Lay:
    """Pictures, and a folder without any."""

    def lay(folder: Path) -> None:
        pictures(*names)(folder)
        (folder / name).mkdir(parents=True)

    return lay


def saved(mode: str, color: Any, name: str = "a/1.png", **options: Any) -> Lay:
    """One picture of one colour."""

    def lay(folder: Path) -> None:
        (folder / name).parent.mkdir()
        Image.new(mode, (2, 2), color).save(folder / name, **options)

    return lay


def frames(name: str) -> Lay:
    """One file of two pictures."""

    def lay(folder: Path) -> None:
        (folder / "a").mkdir()
        pages = [Image.new("L", (2, 2), gray) for gray in (0, 255)]
        pages[0].save(folder / "a" / name, save_all=True, append_images=pages[1:])

    return lay


def linked(folder: Path) -> None:
    pictures("a/1.png", "elsewhere/b/1.png")(folder)
    (folder / "elsewhere" / "b").rename(folder.parent / "b")
    (folder / "elsewhere").rmdir()
    (folder / "b").symlink_to(folder.parent / "b", target_is_directory=True)


def linked_file(folder: Path) -> None:
    pictures("a/1.png", "a/2.png")(folder)
    (folder / "b").mkdir()
    (folder / "a" / "2.png").rename(folder.parent / "2.png")
    (folder / "b" / "1.png").symlink_to(folder.parent / "2.png")


def broken_link(folder: Path) -> None:
    pictures("a/1.png")(folder)
    (folder / "a" / "2.png").symlink_to(folder / "none.png")


def read(*levels: int, labels: list[int], **more: Any) -> dict[str, Any]:
    """Pictures of one gray each, in fifths of white."""
    return {"features": [gray(level) for level in levels], "labels": labels, **more}


def gray(level: int) -> list[list[list[float]]]:
    return [[[float(np.float32(51 * level) / np.float32(255))] * 2] * 2]


TWO = read(0, 1, labels=[0, 1])
LISTED = pictures("1.png", "2.png")

FOLDERS: dict[str, tuple[Lay, Wanted]] = {
    # parts of the data
    "train and test": (
        pictures("train/a/1.png", "train/b/1.png", "test/b/2.png"),
        read(0, 1, labels=[0, 1], test=[[gray(2)], [1]]),
    ),
    "Training and VALIDATION": (
        pictures("Training/a/1.png", "Training/b/1.png", "VALIDATION/c/2.png"),
        read(0, 1, labels=[0, 1], test=[[gray(2)], [2]]),
    ),
    "clients below train": (
        pictures("train/w/a/1.png", "train/v/b/1.png", "test/w/b/2.png"),
        read(1, 0, labels=[1, 0], clients=[0, 1], test=[[gray(2)], [1]]),
    ),
    "parts that are numbered": (
        pictures("1_train/a/1.png", "02-test/b/2.png"),
        read(0, labels=[0], test=[[gray(1)], [1]]),
    ),
    "two parts to train on": (pictures("train1/a/1.png", "train2/b/1.png"), ("has the parts", "merge")),
    "a hold-out": (
        pictures("train/a/1.png", "Hold-Out/b/2.png"),
        read(0, labels=[0], test=[[gray(1)], [1]]),
    ),
    "train_set alone": (pictures("train_set/a/1.png", "train_set/b/1.png"), TWO),
    "train, val and test": (pictures("train/a/1.png", "val/a/1.png", "test/a/1.png"), ("has the parts", "merge")),
    "test alone": (
        pictures("test/a/1.png", "test/b/1.png"),
        ("has the parts test: it needs one training part", "rename label folders"),
    ),
    "train and a client": (
        pictures("train/a/1.png", "w/a/1.png"),
        ("train has the name of a data part", "if it is a client"),
    ),
    "parts without labels": (
        pictures("train/1.png", "test/1.png"),
        ("holds images without labels", "LABEL/name.png"),
    ),
    "parts below clients": (pictures("w/train/1.png", "w/test/1.png"), ("at the level of the labels", "train/LABEL")),
    "parts beside labels": (
        pictures("train/1.png", "test/1.png", "a/1.png"),
        ("at the level of the labels", "train/"),
    ),
    "a label train": (pictures("bus/1.png", "train/1.png"), TWO),
    "parts at uneven levels": (
        pictures("train/a/1.png", "test/w/a/1.png"),
        read(0, labels=[0], test=[[gray(1)], [0]]),
    ),
    "parts below another folder": (
        pictures("d/train/a/1.png", "d/test/a/1.png"),
        ("different levels or too deep", "CLIENT/LABEL"),
    ),
    # other files
    "what systems leave": (beside("__MACOSX/a/._1.png"), TWO),
    ".DS_Store": (beside("a/.DS_Store"), TWO),
    "Thumbs.db": (beside("a/Thumbs.db"), TWO),
    "a hidden folder": (beside(".git/objects/1.png"), TWO),
    "a text": (beside("README.txt"), ("README.txt is not a picture of a known kind", "move it out")),
    "a text among pictures": (beside("a/notes.txt"), ("a/notes.txt is not a picture of a known kind", "move it out")),
    "HEIC": (beside("a/2.heic"), ("2.heic is not a picture of a known kind", "save it as one of .png")),
    "DICOM": (beside("a/2.dcm"), ("2.dcm is not a picture of a known kind", "save it as one of .png")),
    "SVG": (beside("a/2.svg"), ("2.svg is not a picture of a known kind", "save it as one of .png")),
    "no suffix": (beside("a/2"), ("a/2 is not a picture of a known kind", "save it as")),
    "Labels.csv": (beside("Labels.csv"), ("Labels.csv is not a picture of a known kind", "move it out")),
    "labels.csv further down": (
        beside("a/labels.csv"),
        ("labels.csv is not a picture of a known kind", "move it out"),
    ),
    "an empty label": (and_folder("b", "a/1.png", "c/1.png"), ("/b holds no picture", "fill the folder, or remove")),
    "an empty client": (and_folder("w", "v/a/1.png", "x/b/1.png"), ("/w holds no picture", "fill the folder")),
    "a client without a label": (
        and_folder("w/b", "v/b/1.png", "w/a/1.png"),
        read(0, 1, labels=[1, 0], clients=[0, 1]),
    ),
    "nothing": (lambda folder: None, ("holds no records", "data.path")),
    "a link to a folder": (linked, ("/b is a link to a folder", "labels.csv")),
    "a link to a picture": (linked_file, TWO),
    "a link to nothing": (broken_link, ("2.png does not exist", "restore the image")),
    # kinds of pictures
    **{
        f"a {suffix}": (pictures(f"a/1.{suffix}", f"b/1.{suffix}"), TWO)
        for suffix in ("webp", "tif", "TIFF", "bmp", "gif", "ppm", "pgm")
        if suffix != "webp" or features.check("webp")
    },
    "black and white": (saved("1", 1), read(5, labels=[0])),
    "a palette": (saved("P", 0), read(0, labels=[0])),
    "CMYK": (saved("CMYK", (0, 0, 0, 0), "a/1.jpg"), read(5, labels=[0])),
    "an opaque alpha": (saved("RGBA", (51, 51, 51, 255)), read(1, labels=[0])),
    "black on nothing": (saved("RGBA", (0, 0, 0, 0)), ("1.png is transparent in places", "on a background")),
    "gray with alpha": (saved("LA", (51, 9)), ("1.png is transparent in places", "on a background")),
    "a transparent palette": (saved("P", 0, transparency=0), ("1.png is transparent in places", "background")),
    "a transparent gray": (saved("L", 7, transparency=7), ("1.png is transparent in places", "on a background")),
    "16 bits": (saved("I;16", 60_000), ("1.png has more than 8 bits", "8 bits")),
    "32 bits": (saved("I", 60_000, "a/1.tif"), ("1.tif has more than 8 bits", "8 bits")),
    "floats": (saved("F", 0.5, "a/1.tif"), ("1.tif has more than 8 bits", "8 bits")),
    "a moving GIF": (frames("1.gif"), ("1.gif holds more than one picture", "a file of its own")),
    "a moving PNG": (frames("1.png"), ("1.png holds more than one picture", "a file of its own")),
    "pages of a TIFF": (frames("1.tif"), ("1.tif holds more than one picture", "a file of its own")),
    "an empty file": (beside("a/2.png", b""), ("cannot read", "check that the file is complete")),
    "no picture": (beside("a/2.png", b"not a picture at all"), ("cannot read", "check that the file is complete")),
    # labels
    "numbers": (pictures("02/1.png", "1/1.png"), read(0, 1, labels=[2, 1])),
    "one number in two ways": (
        pictures("1/1.png", "01/1.png"),
        ("the label of 1/1.png is a label", "the same everywhere"),
    ),
    "one word in two cases": (
        pictures("Cat/1.png", "cat/1.png"),
        ("the label of cat/1.png is a label", "lower case"),
    ),
    "one word twice, once with a letter that does not show": (
        pictures("a/1.png", "a\u200b/1.png"),
        ("/1.png is a label", "the same everywhere"),
    ),
    "words and a number": (
        pictures("a/1.png", "b/1.png", "7/1.png"),
        ("the label of 7/1.png is a number", "class-10"),
    ),
    "numbers and a word": (pictures("0/1.png", "1/1.png", "b/1.png"), ("of b/1.png is not a number", "all as words")),
    "a fraction": (pictures("0.5/1.png", "1/1.png"), ("the label of 0.5/1.png is not one of the classes", "from 0")),
    "too many words": (pictures(*(f"{c}/1.png" for c in "abcd")), ("4 different labels", "data.classes = 4")),
    # labels.csv
    "a blank before a label": (pictures("1.png", "2.png", labels="file,label\n1.png, 0\n2.png,1\n"), TWO),
    "a label as a float": (pictures("1.png", "2.png", labels="file,label\n1.png,0\n2.png,1.0\n"), TWO),
    "an odd label": (
        pictures("1.png", "2.png", "3.png", labels="file,label\n1.png,0\n2.png,x\n3.png,1\n"),
        ("the label of 2.png is not a number", "write all labels"),
    ),
    "a byte order mark and CRLF": (
        pictures("1.png", "2.png", labels="\ufefffile,label\r\n1.png,a\r\n2.png,b\r\n"),
        TWO,
    ),
    "semicolons": (pictures("1.png", labels="file;label\n1.png;0\n"), ("labels.csv has no commas", "by commas")),
    "a third value": (pictures("1.png", labels="file,label\n1.png,0,w\n"), ("line 2 of labels.csv has 3", "every")),
    "an unknown column": (pictures("1.png", labels="file,label,owner\n1.png,0,w\n"), ("column 'owner'", "client")),
    "Client": (pictures("1.png", labels="file,label,Client\n1.png,0,w\n"), ("differs from 'client'", "write client")),
    "two labels": (
        pictures("1.png", labels="file,label,label\n1.png,0,1\n"),
        ("with the name 'label'", "every column once"),
    ),
    "owners of labels.csv": (
        pictures("1.png", "2.png", labels="file,label,client\n1.png,0,007\n2.png,1,7\n"),
        TWO | {"clients": [0, 1]},
    ),
    "one owner in two forms": (
        pictures("1.png", "2.png", labels="file,label,client\n1.png,0,é\n2.png,1, e\u0301\n"),
        TWO | {"clients": [0, 0]},
    ),
    "a picture not listed": (
        pictures("1.png", "2.png", "3.png", labels="file,label\n1.png,0\n2.png,1\n"),
        TWO | {"notice": "1 pictures are not in labels.csv"},
    ),
    "a file not there": (
        pictures("1.png", labels="file,label\n1.png,0\n2.png,1\n"),
        ("2.png does not exist", "correct labels.csv"),
    ),
    "a file in another case": (
        pictures("A.png", labels="file,label\na.png,0\n"),
        ("a.png does not exist", "correct labels.csv"),
    ),
    "two files of two cases": (pictures("a.png", "A.png", labels="file,label\na.png,0\nA.png,1\n"), TWO),
    "listed parts": (
        pictures("train/1.png", "test/1.png", labels="file,label\ntrain/1.png,0\ntest/1.png,1\n"),
        ("labels.csv lists files of both a training part and a test part", "list one part only"),
    ),
    "a backslash": (pictures("a/1.png", labels="file,label\na\\1.png,0\n"), ("does not exist", "correct labels.csv")),
}


@pytest.mark.parametrize(("lay", "wanted"), FOLDERS.values(), ids=FOLDERS)
def test_an_odd_folder_is_read_as_meant_or_refused(tmp_path, meant, lay, wanted) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    lay(folder)
    meant(lambda: files.load(folder, Data(shape=(1, 2, 2), classes=3)), wanted)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_a_picture_is_read_as_its_camera_was_held(tmp_path, suffix, turn) -> None:
    """The eight turns of EXIF, written out as transpositions of a picture that is upright."""
    back = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[turn]
    upright = Image.fromarray(
        np.kron(np.array([[0, 85], [170, 255], [255, 0]], np.uint8), np.ones((16, 16), np.uint8))
    )
    exif = Image.Exif()
    exif[0x0112] = turn
    (tmp_path / "0").mkdir()
    held = upright if back is None else upright.transpose(back)
    held.save(tmp_path / "0" / f"a.{suffix}", exif=exif, **({} if suffix == "tif" else {"quality": 95}))
    read = files.load(tmp_path, Data(shape=(1, 48, 32), classes=1)).train.features[0, 0]
    assert np.abs(read - np.asarray(upright) / 255).max() < 0.1
    assert not files.load(tmp_path, Data(shape=(1, 48, 32), classes=1)).notices


def test_stretched_pictures_are_noticed(tmp_path) -> None:
    paint(tmp_path / "0" / "a.png")
    Image.new("L", (9, 3)).save(tmp_path / "0" / "b.png")
    assert (
        "1 of 2 pictures have another aspect ratio"
        in files.load(tmp_path, Data(shape=(1, 2, 2), classes=1)).notices[0]
    )
