"""Looks at a file, a folder or a shipped data set, and proposes the plan's table [data] for it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from ...models.columns import MISSING, clean, read_numbers
from ...privacy.errors import DataError
from ...privacy.plan.schema import EVERY, UNKNOWN, Data
from ..datasets import find_dataset
from ..datasets.columns import Asked, read_csv, read_parquet
from ..datasets.folders import listings
from ..datasets.texts import count_tokens

TABLES = {".csv": read_csv, ".parquet": read_parquet}
CLIENTS = ("client", "hospital", "site", "person", "patient", "subject", "user", "owner", "institution", "speaker")
"""Names of a column that says who owns a record, in the order of preference."""

FEW, MANY = 10, 50
"""A column of whole numbers with at most FEW values is taken for codes, and one with up to MANY words for words."""

CLASSES = 100
"""The most classes of a label of whole numbers; with more, it is a number to predict."""

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".pgm")
TEXTS = (".txt", ".jsonl")
RUN, TOKENS = 64, 200
"""A record of a text is RUN characters; the vocabulary has at most TOKENS of them, the commonest."""

SIDES = (8, 64)
"""The least and the largest side to which pictures are resized."""


@dataclass
class Look:
    """The plan's table [data] for some data, in words of the plan, and what a reader should know about them.

    `statistics` says whether the table has constants that were computed from the data: they are not public.
    """

    data: dict[str, Any]
    notices: list[str] = field(default_factory=list)
    statistics: bool = False


def look_at(place: str, label: str | None = None, client: str | None = None, public: bool = False) -> Look:
    """Return what the data at `place`, a path or the name of a data set, are like.

    With `public`, no constant is computed from the data: columns stay as they are.

    Raises: DataError if there are no such data, or a plan cannot describe them.
    """
    path = Path(place).expanduser()
    if not path.exists():
        return _shipped(place, label, client)
    if path.suffix.lower() in TEXTS or (path.is_dir() and any(path.rglob("*.txt"))):
        return _text(path, label, client)
    if path.is_dir():
        return _folder(path, label, client)
    if path.suffix.lower() in TABLES:
        return _table(path, label, client, public)
    if path.suffix.lower() == ".npz":
        return _arrays(path, label, client, public)
    raise DataError(
        f"{path} is of an unknown kind: {path.suffix or 'no suffix'}",
        "give a .csv, .parquet, .npz, .txt or .jsonl file, a folder of pictures, or the name of a data set",
    )


def _shipped(place: str, label: str | None, client: str | None) -> Look:
    if "/" in place or Path(place).suffix in (*TABLES, ".npz"):
        raise DataError(f"{place} does not exist", "give a file or a folder that exists, or the name of a data set")
    dataset = find_dataset(place)
    _no_columns(place, label, client)
    if dataset.name == "files":
        raise DataError("the data set files needs a path", "type: bract new PATH")
    if dataset.shape is None:
        raise DataError(
            f"the data set {place} has no shape of its own", f"start from a packaged plan for {place}: bract list"
        )
    return Look({"name": place, "shape": list(dataset.shape), "classes": dataset.classes or 1})


def _no_columns(place: str, label: str | None, client: str | None) -> None:
    if label or client:
        raise DataError(f"{place} has no named columns", "leave out --label and --client")


def _folder(path: Path, label: str | None, client: str | None) -> Look:
    from PIL import Image, UnidentifiedImageError

    _no_columns(str(path), label, client)
    files = sorted(each for each in path.rglob("*") if each.suffix.lower() in PICTURES)
    if not files:
        raise DataError(f"{path} holds no pictures", "give a folder of CLIENT/LABEL/name.png or LABEL/name.png")
    sides, gray = [], True
    for file in files[:: max(1, len(files) // 200)]:
        try:
            with Image.open(file) as image:
                sides.append(image.size)
                gray = gray and image.mode in ("1", "L", "I;16", "LA")
        except UnidentifiedImageError:
            raise DataError(f"{file} cannot be read as a picture", "save it again, or move it out") from None
    width, height = (int(np.clip(np.median(side), *SIDES)) for side in np.array(sides).T)
    train, test, _ = listings(path)
    names = sorted({clean(label) for part in (train, test) if part for label in part.labels})
    look = Look({"name": "files", "path": str(path), "shape": [1 if gray else 3, height, width]})
    look.data |= {"labels": names, "classes": len(names)}
    if len(set(sides)) > 1 or sides[0] != (width, height):
        look.notices.append(f"pictures are resized to {width} x {height} pixels, about their median size")
    return look


def _text(path: Path, label: str | None, client: str | None) -> Look:
    """Return a look at a text, whose characters are predicted one after another."""
    if label:
        raise DataError(f"{path} is a text: its label is the next character", "leave out --label")
    data = {"name": "files", "path": str(path), "shape": [RUN], "tokens": "characters"}
    if client:
        data["client"] = client
    counted = count_tokens(path, Data.model_validate(data))
    kept = sorted(token for token, _ in counted.most_common(TOKENS))
    vocabulary = [*kept, UNKNOWN]
    look = Look(data | {"vocabulary": vocabulary, "classes": len(vocabulary)}, statistics=True)
    look.notices.append(f"a record is {RUN} characters of the text, and the network predicts each next one")
    if len(counted) > TOKENS:
        look.notices.append(f"the text has {len(counted)} characters: the {TOKENS} commonest are told apart")
    return look


def _arrays(path: Path, label: str | None, client: str | None, public: bool) -> Look:
    _no_columns(str(path), label, client)
    try:
        with np.load(path, allow_pickle=False) as file:
            x, y = file["x"], file["y"]
    except (KeyError, ValueError, OSError, EOFError, BadZipFile):
        raise DataError(
            f"{path} has no arrays x and y", "save it with numpy.savez(path, x=..., y=..., client=...)"
        ) from None
    _check_arrays(x, y, path)
    numbers = y.dtype.kind == "f"
    look = Look({"name": "files", "path": str(path), "shape": list(x.shape[1:]), "classes": 1})
    if not numbers and len(y):
        look.data["classes"] = int(y.max()) + 1
    if x.dtype.kind == "f" and not public and len(x):
        deviation = float(x.std())
        if not 0.1 < deviation < 10 or abs(float(x.mean())) > 10:
            _standardize(look, {"*": {"standardize": _rounded(float(x.mean()), deviation)}})
            look.notices.append("all features are scaled by one mean and one deviation")
    if numbers:
        _regression(look, "y", y.astype(float), public)
    return look


def _check_arrays(x: np.ndarray, y: np.ndarray, path: Path) -> None:
    """Refuse arrays that the look cannot measure; the reader of the data refuses the rest."""
    if x.ndim < 2 or not y.ndim:
        raise DataError(f"x of {path} has the shape {list(x.shape)}", "save x as [records, ...] and y as [records]")
    if y.dtype.kind not in "biuf":
        hint = "number the classes from 0: numpy.unique(y, return_inverse=True)[1]"
        raise DataError(f"y of {path} does not hold numbers", hint)
    for name, array in (("x", x), ("y", y)):
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DataError(f"{name} of {path} has values that are not finite", "correct or leave out these records")
    if x.dtype.kind in "biuf" and x.size and x.min() == x.max():
        raise DataError(f"all numbers in x of {path} are the same", "give features that differ")


def _table(path: Path, label: str | None, client: str | None, public: bool) -> Look:
    wanted = frozenset(name for name in (label, client) if name)
    columns = TABLES[path.suffix.lower()](path, Asked(lambda name: True, client or "client", wanted))
    if EVERY in columns.names:
        raise DataError(
            f"{path} has a column named {EVERY!r}", "rename it: in a plan the name stands for all features"
        )
    cells = {name: list(columns.texts[name]) for name in columns.names}
    if not columns.rows:
        raise DataError(f"{path} has no records", "give a table with at least one line below the names")
    target, why = _label(columns.names, label, path)
    owner = _owner(columns.names, client, target, cells, path)
    look = Look({"name": "files", "path": str(path), "label": target})
    look.notices.append(why)
    if owner:
        look.data["client"] = owner
        look.notices.append(f"a client is a value of the column {owner!r}: {len(set(cells[owner]))} of them")
    _features(look, [name for name in columns.names if name not in (target, owner)], cells, public)
    _target(look, target, cells[target], public)
    duplicates = columns.rows - len(set(zip(*cells.values(), strict=True)))
    if duplicates:
        look.notices.append(f"{duplicates} records are repeated: each copy counts as a record of its own")
    return look


def _features(look: Look, names: Sequence[str], cells: dict[str, list[str | None]], public: bool) -> None:
    """Add to the look how the features `names` become numbers, and which of them are left out."""
    found = {name: _column(name, cells[name], look, public) for name in names}
    ignored = [name for name, rule in found.items() if rule is None]
    rules = {name: rule for name, rule in found.items() if rule}
    if len(ignored) == len(names):
        raise DataError("the table has no column to learn from", "give a table with features beside the label")
    look.data["features"] = [name for name in names if name not in ignored]
    look.data["shape"] = [sum(_width(rule) for rule in found.values() if rule is not None)]
    if rules:
        look.data["columns"] = rules


def _width(rule: dict[str, Any]) -> int:
    return len(rule["values"]) + (rule.get("other") == "column") if "values" in rule else 1


def _label(names: Sequence[str], label: str | None, path: Path) -> tuple[str, str]:
    if label is not None:
        _check_there(names, label, "--label", path)
        return label, f"the label is the column {label!r}, as asked"
    for name in ("label", "target"):
        if name in names:
            return name, f"the label is the column {name!r}"
    return names[-1], f"the label is the last column, {names[-1]!r}: give another with --label"


def _owner(
    names: Sequence[str], client: str | None, target: str, cells: dict[str, list[str | None]], path: Path
) -> str | None:
    if client is not None:
        _check_there(names, client, "--client", path)
        return client
    lower = {name.casefold(): name for name in names if name != target}
    for word in CLIENTS:
        name = lower.get(word) or lower.get(f"{word}_id") or lower.get(f"{word}id")
        if name and 1 < len(set(cells[name])) < len(cells[name]):
            return name
    return None


def _check_there(names: Sequence[str], name: str, option: str, path: Path) -> None:
    if name not in names:
        raise DataError(f"{path} has no column {name!r}", f"give {option} one of: {', '.join(names[:20])}")


def _column(name: str, cells: Sequence[str | None], look: Look, public: bool) -> dict[str, Any] | None:
    """Return how a feature becomes numbers; empty if it stays as it is, None if it is left out."""
    words = [None if cell is None or cell.strip().casefold() in MISSING else clean(cell) for cell in cells]
    present = [word for word in words if word is not None]
    holes = len(words) - len(present)
    if len(set(present)) < 2:
        look.notices.append(f"{name!r} has one value in all records: left out")
        return None
    numbers = read_numbers(present)
    if not np.isfinite(numbers).all():
        return _words(name, words, holes, look)
    whole = bool((numbers == np.floor(numbers)).all())
    if whole and len(set(numbers)) == len(numbers) > FEW and _counts(name, numbers):
        look.notices.append(f"{name!r} has another whole number in every record, as an id has: left out")
        return None
    if public:
        if holes:
            raise DataError(f"{name!r} misses {holes} values", "fill them in the file, or leave out --public")
        return {}
    rule: dict[str, Any] = {}
    if whole and 2 < len(set(numbers)) <= FEW:
        values = sorted({int(number) for number in numbers})
        look.statistics = True
        look.notices.append(f"{name!r} has {len(values)} whole numbers: taken for codes, one number each")
        return {"values": values, "other": "column" if holes else "zeros"} | ({"fill": "missing"} if holes else {})
    mean, deviation = float(numbers.mean()), float(numbers.std())
    if holes:
        rule["fill"] = _short(float(np.median(numbers)))
        look.notices.append(f"{name!r} misses {holes} of {len(words)} values: the median stands for them")
    _standardize(look, {})
    rule["standardize"] = _rounded(mean, deviation)
    return rule


def _counts(name: str, numbers: np.ndarray) -> bool:
    """Return whether whole numbers look like a running number, or the column is called an id."""
    return (
        name.casefold() in ("id", "index", "row", "key")
        or name.casefold().endswith(("_id", " id"))
        or bool(np.ptp(numbers) == len(numbers) - 1)
    )


def _words(name: str, words: Sequence[str | None], holes: int, look: Look) -> dict[str, Any] | None:
    counted = Counter(word for word in words if word is not None)
    if len(counted) > max(MANY, 0) and len(counted) > 0.5 * len(words):
        look.notices.append(f"{name!r} has another word in nearly every record: left out")
        return None
    values = sorted(word for word, _ in counted.most_common(MANY))
    look.statistics = True
    look.notices.append(
        f"{name!r} holds {len(counted)} words: one number for each"
        + (f" of the {MANY} commonest" if len(counted) > MANY else "")
    )
    rule: dict[str, Any] = {"values": values, "other": "column" if holes or len(counted) > MANY else "zeros"}
    return rule | ({"fill": "missing"} if holes else {})


def _target(look: Look, name: str, cells: Sequence[str | None], public: bool) -> None:
    missing = sum(cell is None or cell.strip().casefold() in MISSING for cell in cells)
    if missing:
        raise DataError(f"the label {name!r} is missing in {missing} records", "remove these records, or label them")
    numbers = read_numbers(cells)
    if np.isfinite(numbers).all() and not ((numbers == np.floor(numbers)).all() and len(set(numbers)) <= CLASSES):
        look.data["classes"] = 1
        _regression(look, name, numbers, public)
        return
    if np.isfinite(numbers).all():
        values: list[Any] = sorted({int(number) for number in numbers})
    else:
        values = sorted({clean(cell or "") for cell in cells})
    if len(values) > CLASSES:
        raise DataError(f"the label {name!r} has {len(values)} classes", "name another column with --label")
    if len(values) < 2:
        raise DataError(f"the label {name!r} has one value in all records", "name another column with --label")
    look.data |= {"labels": values, "classes": len(values)}


def _regression(look: Look, name: str, numbers: np.ndarray, public: bool) -> None:
    look.notices.append(f"{name!r} is a number to predict")
    deviation = float(numbers.std())
    if public or deviation == 0:
        return
    _standardize(look, {name: {"standardize": _rounded(float(numbers.mean()), deviation)}} if name != "y" else {})


def _standardize(look: Look, rules: dict[str, Any]) -> None:
    look.statistics = True
    if rules:
        look.data["columns"] = look.data.get("columns", {}) | rules


def _rounded(mean: float, deviation: float) -> list[float]:
    """Return mean and deviation to three digits of the deviation."""
    return [_short(mean, deviation), _short(deviation, deviation)]


def _short(value: float, scale: float | None = None) -> float:
    size = abs(value if scale is None else scale)
    digits = 2 - math.floor(math.log10(size)) if size > 0 else 2
    return round(value, digits) + 0.0
