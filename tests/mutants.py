"""Change one thing of the code at a time, and see whether the tests of its room notice: `make mutants`.

A room is a folder of the code; its tests lie in the folder of the same name in tests/. Each mutant is put into a copy
of its package that comes before the installed one on the import path, so the working tree does not change. A fixed
seed draws the mutants. Verdicts are kept in a file, so a run that is cut off can go on.

Why our own script: mutmut takes a file's path for its module's name, which here lacks `bract.`; cosmic-ray changes
files in place, one at a time, and draws no sample.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).parents[1]
PACKAGES = ("cli", "client", "models", "privacy", "server", "simulations")
ROOMS = ("privacy/accounting", "privacy/mechanisms", "privacy/ledger", "privacy/secagg")
OPERATORS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitOr,
    ast.Break: ast.Continue,
    ast.Continue: ast.Break,
}
NAMES = {"max": "min", "min": "max", "any": "all", "all": "any", "ceil": "floor", "floor": "ceil"}
UNTOUCHED = ("annotation", "returns", "decorator_list", "bases")


@dataclass(frozen=True)
class Mutant:
    """One change of a file: its number among all of that file, and the code before and after."""

    file: str
    digest: str  # of the file
    number: int
    line: int
    before: str
    after: str


@dataclass(frozen=True)
class Verdict:
    """What the tests said: `killed`, `hangs` (killed as well), or `survives`."""

    word: str
    seconds: float


def replacements(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in the place of a node. The text of messages is left as it is.

    >>> [ast.unparse(new) for new in replacements(ast.parse("a < b + 1", mode="eval").body)]
    ['a <= b + 1']
    """
    match node:
        case ast.Compare() | ast.BinOp() | ast.BoolOp() | ast.AugAssign():
            yield from other_operators(node)
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield node.operand
        case ast.Constant(value=bool() | int() | float() | bytes()):
            yield ast.copy_location(ast.Constant(changed(node.value)), node)
        case ast.If() | ast.IfExp() | ast.While():
            new = copy(node)
            new.test = ast.UnaryOp(ast.Not(), node.test)
            yield new
        case ast.Raise() | ast.Expr(value=ast.Call()):
            yield ast.copy_location(ast.Pass(), node)
        case ast.Break() | ast.Continue():
            yield ast.copy_location(OPERATORS[type(node)](), node)
        case ast.Name(id=name) if name in NAMES:
            yield ast.copy_location(ast.Name(NAMES[name], node.ctx), node)
        case ast.Attribute(attr=name) if name in NAMES:
            yield ast.copy_location(ast.Attribute(node.value, NAMES[name], node.ctx), node)


def other_operators(node: ast.Compare | ast.BinOp | ast.BoolOp | ast.AugAssign) -> Iterator[ast.AST]:
    """The same operation with another operator, one of a chain at a time; none where texts or types are joined."""
    if isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            new = copy(node)
            new.ops = [*node.ops[:place], OPERATORS[type(operator)](), *node.ops[place + 1 :]]
            yield new
    elif isinstance(node, ast.BinOp) and (is_text(node.left) or is_text(node.right) or is_type(node)):
        return
    elif operator := OPERATORS.get(type(node.op)):
        new = copy(node)
        new.op = operator()
        yield new


def changed(value: bool | int | float | bytes) -> bool | int | float | bytes:
    """Another constant of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, bytes):
        return value + b"x"
    return value + 1 if isinstance(value, int) else value * 1.1 or 0.1


def is_text(node: ast.AST) -> bool:
    """Whether an expression is a piece of text."""
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def is_type(node: ast.BinOp) -> bool:
    """Whether `A | B` joins types."""
    last = ast.unparse(node.right).split("[")[0].split(".")[-1]
    return isinstance(node.op, ast.BitOr) and (last == "None" or last[:1].isupper())


def places(tree: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    """Every place that holds a node: its parent, the field, the place in a list, and the node."""
    for name, value in ast.iter_fields(tree):
        for place, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(node, ast.AST) and name not in UNTOUCHED:
                yield tree, name, place, node
                yield from places(node)


def mutate(source: str, number: int | None = None) -> Iterator[tuple[int, str, str, str]]:
    """Line, code before, code after and the whole file for every change, or for the one of this number.

    >>> [after for _, _, after, _ in mutate("def f(x):\\n    return x + 1 if x else 0")]
    ['x + 1 if not x else 0', 'x - 1', '2', '1']
    """
    tree, count = ast.parse(source), -1
    for parent, name, place, node in list(places(tree)):
        for new in replacements(node):
            count += 1
            if number not in (None, count):
                continue
            held = getattr(parent, name)
            line, texts = getattr(node, "lineno", 0), (first_line(node), first_line(new))
            if place is None:
                setattr(parent, name, new)
            else:
                held[place] = new
            yield line, *texts, ast.unparse(ast.fix_missing_locations(tree))
            if place is None:
                setattr(parent, name, held)
            else:
                held[place] = node


def first_line(node: ast.AST) -> str:
    """The first line of a node's code."""
    return ast.unparse(ast.fix_missing_locations(node)).split("\n")[0]


def draw(rooms: list[str], count: int, seed: int) -> list[Mutant]:
    """This many mutants of the rooms' files, all alike likely, in an order that the seed fixes."""
    found = []
    for path in [path for room in rooms for path in sorted((ROOT / room).glob("*.py"))]:
        source = path.read_text()
        file, digest = path.relative_to(ROOT).as_posix(), hashlib.sha256(source.encode()).hexdigest()[:16]
        found += [Mutant(file, digest, n, *change[:3]) for n, change in enumerate(mutate(source))]
    return random.Random(seed).sample(found, min(count, len(found)))


def tests_of(file: str) -> list[str]:
    """The tests of a file's room, those of the file itself first, then its doctests."""
    path = Path(file)
    own = sorted((ROOT / "tests" / path.parent).glob("test_*.py"))
    own.sort(key=lambda test: not test.stem.startswith(f"test_{path.stem}"))
    module = f"bract.{'.'.join(path.with_suffix('').parts)}"
    doctests = f"tests/test_doctests.py::test_the_examples_of_a_module_hold[{module}]"
    return [
        *(str(test.relative_to(ROOT)) for test in own),
        *([doctests] if ">>>" in (ROOT / file).read_text() else []),
    ]


def make_tree(folder: Path, package: str) -> Path:
    """A folder `bract` with a copy of one package and links to the others."""
    tree = folder / "bract"
    tree.mkdir(parents=True)
    for path in (ROOT / "api").glob("*.py"):
        (tree / path.name).symlink_to(path)
    for name in PACKAGES:
        if name == package:
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (tree / name).symlink_to(ROOT / name)
    return tree


def run_tests(tree: Path, tests: list[str], which: str, limit: float) -> Verdict:
    """Run tests of a mark against a tree until one fails, a second process for each, or until the time is over."""
    settings = {"PYTHONPATH": str(tree.parent), "PYTHONDONTWRITEBYTECODE": "1", "CI": "1"}
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", which]
    command = [sys.executable, "-m", "pytest", *options, *tests]
    start, output = time.monotonic(), tempfile.TemporaryFile()  # noqa: SIM115
    with (
        output,
        subprocess.Popen(
            command, cwd=ROOT, env=os.environ | settings, stdout=output, stderr=output, start_new_session=True
        ) as process,
    ):
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return Verdict("hangs", limit)
    word = {0: "survives", 5: "survives"}.get(code, "killed")  # 5: no test has the mark
    return Verdict(word, round(time.monotonic() - start, 1))


def judge(mutant: Mutant, trees: SimpleQueue[Path], limits: dict[str, float], marks: list[str]) -> Verdict:
    """Put the mutant into a free tree, run its room's tests, the fast ones first, and put the file back."""
    tree = trees.get()
    target = tree / mutant.file
    source = target.read_text()
    try:
        [(_, _, _, text)] = mutate(source, mutant.number)
        target.write_text(text)
        limit, verdict = limits[str(Path(mutant.file).parent)], Verdict("survives", 0)
        for which in marks:
            if verdict.word == "survives":
                verdict = run_tests(tree, tests_of(mutant.file), which, limit)
        return verdict
    finally:
        target.write_text(source)
        trees.put(tree)


def measure(room: str, tree: Path, marks: list[str]) -> float:
    """Seconds after which a mutant of the room is taken to hang: five times what its tests take unchanged, and 60."""
    file = next(path for path in sorted((ROOT / room).glob("*.py")) if path.stem != "__init__")
    verdicts = [run_tests(tree, tests_of(file.relative_to(ROOT).as_posix()), which, 3000) for which in marks]
    if any(verdict.word != "survives" for verdict in verdicts):
        raise SystemExit(f"the tests of {room} fail on the code as it is: mend them first")
    return 60 + 5 * max(verdict.seconds for verdict in verdicts)


def report(known: dict[Mutant, Verdict]) -> None:
    """Print the score of each file, and every mutant that survives."""
    for file in sorted({mutant.file for mutant in known}):
        words = [verdict.word for mutant, verdict in known.items() if mutant.file == file]
        print(f"{file:45} {len(words) - words.count('survives'):4} of {len(words):4} noticed")
    left = sorted((m.file, m.line, m.before, m.after) for m, v in known.items() if v.word == "survives")
    for file, line, before, after in left:
        print(f"{file}:{line}: {before}  ->  {after}")
    print(f"{len(known) - len(left)} of {len(known)} mutants noticed, {len(left)} survive")


def main() -> None:
    """Draw mutants, try those that nothing is known of, keep what comes out, and report on all that were drawn."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--fast", action="store_true", help="leave out the tests marked full")
    parser.add_argument("--kept", type=Path, default=ROOT / "build" / "mutants.jsonl")
    parser.add_argument("rooms", nargs="*", default=list(ROOMS))
    options = parser.parse_args()
    marks = ["not full"] if options.fast else ["not full", "full"]
    mutants = draw(options.rooms, options.count, options.seed)
    options.kept.parent.mkdir(parents=True, exist_ok=True)
    lines = options.kept.read_text().splitlines() if options.kept.exists() else []
    kept = {Mutant(**entry["mutant"]): Verdict(**entry["verdict"]) for entry in map(json.loads, lines)}
    known = {mutant: kept[mutant] for mutant in mutants if mutant in kept}
    new = [mutant for mutant in mutants if mutant not in known]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        trees: SimpleQueue[Path] = SimpleQueue()
        for number in range(options.jobs):
            trees.put(make_tree(Path(folder) / str(number), "privacy"))
        rooms = sorted({str(Path(mutant.file).parent) for mutant in new})
        first = trees.get()
        limits = {room: measure(room, first, marks) for room in rooms}
        trees.put(first)
        verdicts = pool.map(lambda mutant: judge(mutant, trees, limits, marks), new)
        for mutant, verdict in zip(new, verdicts, strict=True):
            known[mutant] = verdict
            with options.kept.open("a") as file:
                file.write(json.dumps({"mutant": asdict(mutant), "verdict": asdict(verdict)}) + "\n")
            print(
                f"{len(known)}/{len(mutants)} {verdict.word:8} {verdict.seconds:6.1f} s  {mutant.file}:{mutant.line}"
            )
    report(known)


if __name__ == "__main__":
    main()
