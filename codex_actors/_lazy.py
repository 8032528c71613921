# Names that are loaded when somebody asks for them. trio and structlog take most of a second to import on
# a busy machine; `codex-actors --help`, and every pytest run where this package is installed, need neither.

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module


def load_lazily(
    package: str, names: Mapping[str, Sequence[str]], modules: Sequence[str] = ()
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """The `__getattr__` and the `__dir__` of a package (PEP 562).

    Args:
        package: Its `__name__`.
        names: By module of the package, the names that the package has from there.
        modules: Modules of the package that are there without being imported.
    """
    homes = {name: module for module, its_names in names.items() for name in its_names}

    def load(name: str) -> object:
        if name in modules:
            return import_module(f"{package}.{name}")
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value: object = getattr(import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[package], name, value)  # whoever asks next does not come here
        return value

    def list_names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes, *modules})

    return load, list_names
