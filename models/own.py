"""Networks that bract does not ship: a function of an importable module, or an entry point of an installed package.

Finding a network runs the code of its module. So bract looks up no name that lacks the right form, and a device looks
up only names that its owner's terms list.
"""

from __future__ import annotations

import inspect
import re
import sys
from functools import lru_cache
from importlib import import_module, metadata
from typing import Any

from .network import Network

GROUP = "bract.networks"
"""The group of entry points that name networks."""

MODULE_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
NAME = re.compile(rf"{MODULE_NAME.pattern}:[A-Za-z_]\w*", re.ASCII)
"""The form `module:function`, with the dots of a module in a package."""

ARGUMENTS = ("shape", "classes")
"""The names of the arguments of a function that builds a network. A function with other arguments is not called."""


class NoNetworkError(KeyError):
    """No network has the name that the plan gives; `what` and `hint` are the two lines of the error."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.what, self.hint = what, hint

    def __str__(self) -> str:
        return self.what


class NoModuleError(NoNetworkError):
    """The module of the network is not found here."""


def is_own(name: str) -> bool:
    """Return whether the name is written as `module:function`; nothing is looked up."""
    return ":" in name


@lru_cache(maxsize=64)
def find_own(name: str) -> Network:
    """Return the network `module:function`, or of the entry point `name`; this imports its module.

    Raises:
        NoNetworkError: the name has the wrong form; the module is part of Python or cannot be imported; or the named
            object is not a `Network` and does not have exactly the arguments (shape, classes).
    """
    return _network(name, _imported(name) if is_own(name) else _entry_point(name))


def _network(name: str, found: Any) -> Network:
    if isinstance(found, Network):
        return found
    if not callable(found) or _arguments(found) != ARGUMENTS:
        raise NoNetworkError(
            f"{name} is neither a function (shape, classes) nor a Network",
            "define it as def build(shape, classes), which returns a torch.nn.Module",
        )
    build: Any = found
    return Network(name, build)


def _arguments(function: Any) -> tuple[str, ...]:
    """Return the names of the arguments that have no default."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return ()
    return tuple(each.name for each in parameters if each.default is each.empty)


def _imported(name: str) -> Any:
    module, _, attribute = name.partition(":")
    if not NAME.fullmatch(name):
        raise NoNetworkError(f"{name!r} does not name a network", "write model.name as module:function")
    if module.partition(".")[0] in sys.stdlib_module_names:
        raise NoNetworkError(f"there is no network {name}: that module is part of Python", _HINT)
    try:
        return getattr(import_module(module), attribute)
    except ModuleNotFoundError as fault:
        if fault.name is None or not f"{module}.".startswith(f"{fault.name}."):
            raise NoNetworkError(f"{name} needs the module {fault.name}", "install it") from fault
        raise NoModuleError(f"there is no module {fault.name} for the network {name}", _HINT) from fault
    except AttributeError as fault:
        raise NoNetworkError(f"the module {module} has no {attribute}", f"define {attribute} in it") from fault
    except (Exception, SystemExit) as fault:
        raise NoNetworkError(
            f"importing {module} fails: {_line(fault)}", f"mend it: python -c 'import {module}'"
        ) from fault


_HINT = "set model.name to module:function of a package that is installed here"


def _entry_point(name: str) -> Any:
    found = [each for each in metadata.entry_points(group=GROUP) if each.name == name]
    if len({each.value for each in found}) > 1:
        raise NoNetworkError(f"several installed packages have a network {name}", "uninstall all but one")
    if not found:
        raise NoNetworkError(f"there is no model {name}", "set model.name to one that is installed here")
    try:
        return found[0].load()
    except (Exception, SystemExit) as fault:
        what = f"the network {name} of the entry point {found[0].value} cannot be loaded: {_line(fault)}"
        raise NoNetworkError(what, "mend the package that declares it") from fault


def _line(fault: BaseException) -> str:
    said = str(fault).strip().partition("\n")[0]
    return f"{type(fault).__name__}: {said}" if said else type(fault).__name__
