"""Imports what the commands of `fairlead` import, for the server of `tests.support.processes`."""

from __future__ import annotations

import gc
import importlib
import pkgutil

import fairlead

# What only few commands import, and slowly: the processes that need it import it themselves.
LEFT_OUT = {"fairlead.llm.anthropic"}

gc.disable()
for module in pkgutil.walk_packages(fairlead.__path__, "fairlead."):
    if not module.name.endswith("__main__") and module.name not in LEFT_OUT:
        importlib.import_module(module.name)
gc.freeze()  # garbage collections of the processes that are forked need not walk through it, nor copy its memory
gc.enable()
