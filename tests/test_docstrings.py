"""Documented arguments are those of the signature."""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator

import pytest

import tse_refine

SECTION = re.compile(r"^Args:\n((?:    .*\n?|\n)+)", re.MULTILINE)
NAME = re.compile(r"^    (\*{0,2}\w+):", re.MULTILINE)


def documented_objects() -> Iterator[tuple[str, Callable[..., object]]]:
    """Yield every function, method and class of the package that has an ``Args`` section."""
    for info in pkgutil.walk_packages(tse_refine.__path__, "tse_refine."):
        if info.name.endswith("__main__"):
            continue
        module = importlib.import_module(info.name)
        for name, member in vars(module).items():
            if getattr(member, "__module__", None) != info.name:
                continue
            members = {name: member}
            if inspect.isclass(member):
                methods = {key: getattr(value, "__func__", value) for key, value in vars(member).items()}
                members |= {f"{name}.{key}": value for key, value in methods.items() if inspect.isfunction(value)}
            for key, value in members.items():
                if (inspect.isfunction(value) or inspect.isclass(value)) and "Args:" in (value.__doc__ or ""):
                    yield f"{info.name}.{key}", value


OBJECTS = dict(documented_objects())


@pytest.mark.parametrize("name", OBJECTS)
def test_documented_arguments_are_those_of_the_signature(name):
    section = SECTION.search(inspect.cleandoc(OBJECTS[name].__doc__ or ""))
    assert section is not None
    documented = [documented.lstrip("*") for documented in NAME.findall(section[1])]
    parameters = [
        parameter for parameter in inspect.signature(OBJECTS[name]).parameters if parameter not in ("self", "cls")
    ]
    assert documented == parameters


def test_most_of_the_package_is_documented_so():
    assert len(OBJECTS) > 150
