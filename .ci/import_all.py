"""Import every module of the installed bract, and see that each package tells type checkers that it has types."""

import importlib
import pkgutil
import sys
from pathlib import Path

import bract

names = [module.name for module in pkgutil.walk_packages(bract.__path__, "bract.")]
for name in names:
    importlib.import_module(name)
folders = [path for folder in bract.__path__ for path in Path(folder).iterdir() if path.name != "__pycache__"]
if not folders or any(Path(sys.prefix).resolve() not in path.resolve().parents for path in folders):
    sys.exit(f"another bract than the installed one: {folders}")
if missing := [path.name for path in folders if not (path / "py.typed").is_file()]:
    sys.exit(f"no py.typed in {missing}")
print(f"{len(names)} modules import")
