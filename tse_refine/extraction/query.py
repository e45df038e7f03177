"""From words to the classes that they ask for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tse_refine.errors import InputError, did_you_mean

ALL = "all"


def parse_query(
    words: str | Sequence[str], class_names: Sequence[str], excluded: Sequence[str] = ()
) -> tuple[str, ...]:
    """Find the classes that words ask for.

    A word is the name of a class; case, spaces, ``_`` and ``-`` do not matter. Several may stand in one word, separated
    by commas. ``all`` asks for every class.

    Args:
        words: one word or several.
        class_names: the classes that there are.
        excluded: words for classes that are then left out.

    Returns:
        Names of classes in the order asked for, each once.

    Raises:
        InputError: a word names no class, or more than one, or nothing is asked for.

    >>> parse_query("Siren, car-horn", ["car_horn", "dog", "siren"])
    ('siren', 'car_horn')
    >>> parse_query(["all"], ["car_horn", "dog", "siren"], excluded=["dog"])
    ('car_horn', 'siren')
    """
    asked = _named(words, class_names, "query")
    if not asked:
        raise InputError(f"query is empty; ask for one class or more, or for all: {', '.join(class_names)}.")
    left_out = _named(excluded, class_names, "except")
    query = tuple(name for name in asked if name not in left_out)
    if not query:
        raise InputError("except leaves nothing of the query; ask for more or leave out less.")
    return query


def _named(words: str | Sequence[str], class_names: Sequence[str], option: str) -> list[str]:
    names: list[str] = []
    if isinstance(words, str):
        words = [words]
    if not isinstance(words, Iterable):
        raise InputError(f"{option} is {words!r}; a name of a class or a list of names is expected.")
    for word in words:
        if not isinstance(word, str):
            raise InputError(f"{option}: {word!r} is no text; a name of a class or a list of names is expected.")
        # a name may have a comma in it ("speech, male"), so the whole word comes first
        parts = [word] if _matches(word, class_names) else word.split(",")
        for part in filter(str.strip, parts):
            names += _classes(part.strip(), class_names, option)
    return list(dict.fromkeys(names))


def _classes(word: str, class_names: Sequence[str], option: str) -> list[str]:
    found = _matches(word, class_names)
    if len(found) == 1:
        return found
    if found:
        raise InputError(
            f"{option}: {word!r} can mean {' or '.join(map(repr, found))}; write the name exactly as it is there."
        )
    if _plain(word) == ALL:
        return list(class_names)
    raise InputError(f"{option}: {word!r} is no class of this network; {did_you_mean(word, list(class_names))}")


def _matches(word: str, class_names: Sequence[str]) -> list[str]:
    """Return the classes that a word may mean: the one it names exactly, or all that it names in other spelling."""
    if word in class_names:
        return [word]
    return [name for name in class_names if _plain(name) == _plain(word)]


def _plain(word: str) -> str:
    return "".join(letter for letter in word.casefold() if letter not in " _-")
