"""Import every module of the installed bract, and see that each package tells type checkers that it has types."""

import importlib
import pkgutil
import sys
from pathlib import Path

import bract

names = [module.name for module in pkgutil.walk_packages(bract.__path__, "bract.")]
for name in names:
    importlib.import_module(name)
tops = [Path(folder) for folder in bract.__path__]
folders = [*tops, *(path for top in tops for path in top.iterdir() if path.is_dir() and path.name != "__pycache__")]
if not folders or any(Path(sys.prefix).resolve() not in path.resolve().parents for path in folders):
    sys.exit(f"another bract than the installed one: {folders}")
if missing := [path.name for path in folders if not (path / "py.typed").is_file()]:
    sys.exit(f"no py.typed in {missing}")
print(f"{len(names)} modules import")
