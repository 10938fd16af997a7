"""Imports what the commands of `fairlead` import, for the server of `tests.support.processes`."""

from __future__ import annotations

import importlib
import pkgutil

import fairlead

for module in pkgutil.walk_packages(fairlead.__path__, "fairlead."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
