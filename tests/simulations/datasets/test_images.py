"""Folders of images: clients, labels and formats."""

import numpy as np
import pytest
from PIL import Image

from bract.privacy.plan.schema import Data
from bract.simulations.datasets.shipped import files

SHAPE = (1, 4, 4)


def paint(path, gray=0, size=(4, 4), mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, gray).save(path)


def read(folder, shape=SHAPE, classes=3):
    return files.load(folder, Data(shape=shape, classes=classes)).train


def test_clients_and_labels_from_folders(tmp_path):
    for number, name in enumerate(["ward-b/cat/1.png", "ward-a/dog/1.gif", "ward-b/dog/2.bmp"]):
        paint(tmp_path / name, 51 * number)
    paint(tmp_path / ".thumbnails" / "1.png")
    table = read(tmp_path)  # in the order ward-a/dog, ward-b/cat, ward-b/dog
    assert table.labels.tolist() == [1, 0, 1]
    assert table.clients.tolist() == [0, 1, 1]
    np.testing.assert_allclose(table.features[:, 0, 0, 0], [0.2, 0, 0.4], atol=1e-6)
    assert table.features.shape == (3, 1, 4, 4)


def test_labels_only_and_numbers_stay_numbers(tmp_path):
    for name in ("10/a.png", "2/a.JPG", "0/a.jpeg"):
        paint(tmp_path / name)
    table = read(tmp_path, classes=11)
    assert sorted(table.labels) == [0, 2, 10]
    assert table.clients is None


def test_labels_csv(tmp_path):
    paint(tmp_path / "a.png", 255)
    paint(tmp_path / "deep" / "down" / "b.png")
    (tmp_path / "labels.csv").write_text("file,label,client\ndeep/down/b.png,well,NA\na.png,ill,2\n")
    table = read(tmp_path)
    assert table.labels.tolist() == [1, 0]
    assert table.clients.tolist() == [1, 0]
    assert table.features.mean(axis=(1, 2, 3)).tolist() == [0, 1]
    (tmp_path / "labels.csv").write_text("file,label\na.png,2\n")
    assert read(tmp_path).labels.tolist() == [2]
    assert read(tmp_path).clients is None


def test_colour_is_channels_first_and_resized(tmp_path):
    paint(tmp_path / "0" / "a.png", (255, 0, 51), (8, 6), "RGB")
    table = read(tmp_path, (3, 2, 5))
    assert table.features.shape == (1, 3, 2, 5)
    np.testing.assert_allclose(table.features[0, :, 1, 4], [1, 0, 0.2], atol=1e-6)
    gray = 255 * read(tmp_path, (1, 2, 5)).features[0, 0, 0, 0]
    assert gray == pytest.approx(0.299 * 255 + 0.114 * 51, abs=1)


def test_height_and_width_are_not_swapped(tmp_path):
    (tmp_path / "0").mkdir()
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    Image.fromarray(pixels).save(tmp_path / "0" / "a.png")
    np.testing.assert_allclose(read(tmp_path, (1, 3, 4)).features[0, 0] * 255, pixels, atol=1e-4)


def test_palette_that_could_be_transparent_gives_no_warning(tmp_path):
    (tmp_path / "0").mkdir()
    image = Image.new("P", (4, 4))
    image.save(tmp_path / "0" / "a.png", transparency=bytes([255] * 8))
    assert len(read(tmp_path)) == 1


@pytest.mark.parametrize("shape", [(2, 4, 4), (16,), (4, 4)])
def test_shape_that_is_no_image(tmp_path, refused, shape):
    refused(lambda: read(tmp_path, shape), "images cannot take the plan's shape", "[1, height, width]")


def test_without_labels(tmp_path, refused):
    paint(tmp_path / "a.png")
    refused(lambda: read(tmp_path), "holds images without labels", "CLIENT/LABEL/name.png")
    refused(lambda: read(tmp_path), "holds images without labels", "labels.csv")


def test_empty_folder(tmp_path, refused):
    refused(lambda: read(tmp_path), "holds no records", "data.path")


@pytest.mark.parametrize("names", [["0/a.png", "w/0/a.png"], ["a/b/c/d.png"]])
def test_uneven_or_deep_levels(tmp_path, refused, names):
    for name in names:
        paint(tmp_path / name)
    refused(lambda: read(tmp_path), "different levels or too deep", "CLIENT/LABEL")


def test_labels_that_do_not_fit_the_plan(tmp_path, refused):
    for name in ("a", "b", "c", "d"):
        paint(tmp_path / "names" / name / "1.png")
    paint(tmp_path / "numbers" / "3" / "1.png")
    refused(lambda: read(tmp_path / "names"), "4 different labels, the plan has 3 classes", "data.classes = 4")
    refused(lambda: read(tmp_path / "numbers"), "the label of 3/1.png is not one of the classes 0..2", "data.classes")


def test_damaged_images(tmp_path, refused):
    path = tmp_path / "0" / "a.png"
    paint(path, size=(64, 64))
    path.write_bytes(path.read_bytes()[:-30])
    refused(lambda: read(tmp_path), f"cannot read {path} (", "complete")
    path.write_text("no image")
    refused(lambda: read(tmp_path), f"cannot read {path} (UnidentifiedImageError)", "complete")


def test_sixteen_bits_are_not_cut_off(tmp_path, refused):
    (tmp_path / "0").mkdir()
    Image.fromarray(np.full((4, 4), 60_000, np.uint16)).save(tmp_path / "0" / "a.png")
    refused(lambda: read(tmp_path), "more than 8 bits per channel", "8 bits")


def test_decompression_bomb(tmp_path, refused, monkeypatch):
    paint(tmp_path / "0" / "a.png", size=(64, 64))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)
    refused(lambda: read(tmp_path), "(DecompressionBombWarning)", "check")


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ("label\n0\n", "has no column 'file'", "file,label"),
        ("file\na.png\n", "has no column 'label'", "file,label"),
        ("", "holds no records", "data.path"),
        ("file,label\n", "holds no records", "data.path"),
        ("file,label\na.png,\n", "column 'label', row 1 of labels.csv is missing", "fill in"),
        ("file,label\na.png\n", "line 2 of labels.csv has 1 values, the first line names 2", "name every column"),
        ("file,label,client\na.png,0, \n", "column 'client', row 1 of labels.csv is missing", "fill in"),
        ("file,label\nb.png,0\n", "b.png does not exist", "correct labels.csv"),
        ("file,label\n../a.png,0\n", "row 1 of labels.csv names a file outside", "without .."),
        ("file,label\n/etc/passwd,0\n", "row 1 of labels.csv names a file outside", "relative"),
        ("file,label\na.png,0\n./a.png,1\n", "row 2 of labels.csv names a file again", "once"),
    ],
)
def test_faults_of_labels_csv(tmp_path, refused, text, what, hint):
    paint(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text(text)
    refused(lambda: read(tmp_path), what, hint)
