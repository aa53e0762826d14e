"""A bundle's own Python: an entry script may define any of these.

    def init(context): ...                   once, before anything else
    def run(inputs): ...                     input name to array -> output name to array
    def source(position=None): ...           a generator of inputs (see edge_agent.worker.sources)

`context.predict(inputs)` runs the ONNX model, `context.model` is the model's file for a script that
loads it by itself (kind python), `context.directory` holds all the bundle's files, `context.index`
describes it. What the script raises becomes ModelError in one line; its traceback
goes to the log.
"""

import importlib.util
import inspect
import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from runtime.bundle.index import Index
from runtime.errors import ModelError
from runtime.inference import tensors
from runtime.inference.tensors import Arrays

log = logging.getLogger(__name__)

MODULE_NAME = "packhorse_entry"


@dataclass(frozen=True)
class Context:
    """What a script may use."""

    directory: Path
    predict: Callable[[Mapping[str, Any]], Arrays]
    index: Index

    @property
    def model(self) -> Path:
        """The file that bundle.yaml names as `model`; the directory if it names none."""
        return self.directory / self.index.model


class Entry:
    """A loaded script."""

    def __init__(self, path: Path, context: Context) -> None:
        """Run the file, then its init(); raise ModelError if either fails."""
        self._path = path
        self._module = self._load()
        init = self.function("init", required=False)
        if init is not None:
            self._call("init", init, context)
        self._run = self.function("run", required=False)
        self.streams = False

    @property
    def has_run(self) -> bool:
        """Say whether predictions go through the script."""
        return self._run is not None

    def run(self, inputs: Arrays) -> Arrays:
        """Return what the script makes of the inputs; raise ModelError if it fails."""
        assert self._run is not None
        outputs = self._call("run", self._run, inputs)
        if not isinstance(outputs, dict) or not all(isinstance(name, str) for name in outputs):
            raise self._error("run", f"gave {type(outputs).__name__}: return a dict by output name")
        arrays = {name: np.asarray(value) for name, value in outputs.items()}
        for name, array in arrays.items():
            tensors.datatype_of(name, array)
        return arrays

    def function(self, name: str, *, required: bool = True) -> Callable[..., Any] | None:
        """Return a function of the script; raise ModelError if it has to be there and is not."""
        found = getattr(self._module, name, None)
        if callable(found):
            return found  # type: ignore[no-any-return] # a foreign script's, whatever it is
        if required:
            names = [n for n, value in vars(self._module).items() if inspect.isfunction(value)]
            raise self._error(name, f"is not defined: the script has {', '.join(names) or 'none'}")
        return None

    def _load(self) -> ModuleType:
        spec = importlib.util.spec_from_file_location(MODULE_NAME, self._path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        folder = str(self._path.parent)
        if folder not in sys.path:
            sys.path.insert(0, folder)
        sys.modules[MODULE_NAME] = module
        self._call("import", spec.loader.exec_module, module)
        return module

    def _call(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except ModelError:
            raise
        except (Exception, SystemExit) as error:  # a foreign script may raise anything
            log.exception("entry script failed", extra={"function": name})
            raise self._error(name, f"raised {type(error).__name__}: {error}") from error

    def _error(self, name: str, text: str) -> ModelError:
        return ModelError(" ".join(f"{self._path.name}: {name} {text}".split()))
