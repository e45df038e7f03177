"""From words to the classes that they name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tse_refine.data.queries import ALL, plain_name
from tse_refine.errors import InputError, did_you_mean
from tse_refine.files.atomic import normalized_name


def parse_query(
    words: Any, class_names: Sequence[str], excluded: Any = (), aliases: Mapping[str, Sequence[str]] = {}
) -> tuple[str, ...]:
    """Find the classes that words name.

    A word is the name of a class or an alias of one; case, spaces, ``_``, ``-`` and Unicode forms do not matter. A word
    may be several names, separated by commas. ``all`` is every class; in an old checkpoint that has a class of this
    name, which none has any more, it is that class.

    Args:
        words: word or list of words.
        class_names: names of all classes.
        excluded: word or words for classes that are left out of the query.
        aliases: other words for classes, by class; the name of a class goes before an alias.

    Returns:
        Names of classes in the order of the words, each once.

    Raises:
        InputError: a word is not a class or can mean several, or the query is empty.

    >>> parse_query("Siren, car-horn", ["car_horn", "dog", "siren"])
    ('siren', 'car_horn')
    >>> parse_query(["all"], ["car_horn", "dog", "siren"], excluded=["dog"])
    ('car_horn', 'siren')
    >>> parse_query("dog", ["Bark", "Siren"], aliases={"Bark": ["Dog"]})
    ('Bark',)
    """
    named = _named(words, class_names, aliases, "query")
    if not named:
        raise InputError(f"query is empty; name one class or more, or all: {', '.join(class_names)}.")
    left_out = _named(excluded, class_names, aliases, "except")
    query = tuple(name for name in named if name not in left_out)
    if not query:
        raise InputError("except leaves nothing of the query; query more classes or leave out fewer.")
    return query


def parse_queries(
    queries: Any, class_names: Sequence[str], aliases: Mapping[str, Sequence[str]] = {}
) -> list[tuple[str, ...]]:
    """Find the classes of several queries (:func:`parse_query`).

    Args:
        queries: list of queries.
        class_names: names of all classes.
        aliases: other words for classes, by class.

    Raises:
        InputError: there is no query, or one of them is not valid.
    """
    example = [class_names[0]]
    if isinstance(queries, str) or not isinstance(queries, Iterable):
        raise InputError(f"queries is {queries!r}; a list of queries is expected, such as {example}.")
    parsed = [parse_query(query, class_names, aliases=aliases) for query in queries]
    if not parsed:
        raise InputError(f"queries is empty; at least one query is expected, such as {example}.")
    return parsed


def _named(words: Any, class_names: Sequence[str], aliases: Mapping[str, Sequence[str]], option: str) -> list[str]:
    """Return the classes that words name, each once and in their order."""
    names: list[str] = []
    if isinstance(words, str):
        words = [words]
    if not isinstance(words, Iterable):
        raise InputError(f"{option} is {words!r}; a name of a class or a list of names is expected.")
    for word in words:
        if not isinstance(word, str):
            raise InputError(f"{option}: {word!r} is not text; a name of a class or a list of names is expected.")
        # a name may contain a comma ("speech, male"), so the whole word comes first
        parts = [word] if _matches(word, class_names, aliases) else word.split(",")
        for part in filter(None, map(str.strip, parts)):
            matches = _matches(part, class_names, aliases)
            if len(matches) > 1:
                raise InputError(
                    f"{option}: {part!r} can mean {' or '.join(map(repr, matches))}; write the name exactly as it is "
                    "there."
                )
            if not matches and plain_name(part) != ALL:
                known = [*class_names, *(alias for words_of in aliases.values() for alias in words_of)]
                hint = did_you_mean(part, known)
                raise InputError(f"{option}: {part!r} is not a class of this network; {hint}")
            names += matches or class_names
    return list(dict.fromkeys(names))


def _matches(word: str, class_names: Sequence[str], aliases: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the classes that a word may mean.

    The one with exactly this name, or all whose plain spelling agrees, or else all that have it as an alias.
    """
    exact = [name for name in class_names if normalized_name(name) == normalized_name(word)]
    if len(exact) == 1:
        return exact
    plain = plain_name(word)
    named = [name for name in class_names if plain_name(name) == plain]
    return named or [name for name in class_names if plain in map(plain_name, aliases.get(name, ()))]
