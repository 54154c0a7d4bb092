"""Settings of a run: a frozen dataclass, filled from a TOML file and from `key=value` words.

The words win over the file, the file over the dataclass. A key that the dataclass lacks is an error,
so that a slip of the pen cannot silently train something else.
"""

from __future__ import annotations

import os
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from faceunits.errors import ConfigError, InputError
from faceunits.io.files import printable

T = TypeVar("T")


def resolve(kind: type[T], path: str | os.PathLike[str] | None = None, words: Sequence[str] = ()) -> T:
    """The settings of class `kind`.

    Args:
        kind: a dataclass; its fields may be dataclasses in turn.
        path: TOML file, or none.
        words: `key=value`; `loop.steps=100` reaches into a field; values are written as in TOML, text
            needs no quotes.

    Raises:
        ConfigError: an unknown key, a value of the wrong type, or a field without a value.
        InputError: a file that cannot be read.
    """
    values = _file(path) if path is not None else {}
    for word in words:
        key, sign, text = word.partition("=")
        if not sign:
            raise ConfigError(f"expected key=value; got {word!r}")
        *outer, last = key.strip().split(".")
        place = values
        for name in outer:
            place = place.setdefault(name, {})
            if not isinstance(place, dict):
                raise ConfigError(f"expected a setting; {name!r} in {key!r} has none inside")
        place[last] = _value(text)
    return _build(kind, values, "")


def lines(settings: Any, prefix: str = "") -> Iterator[str]:
    """`key = value` of every setting, nested ones as `outer.inner`."""
    for f in fields(settings):
        value = getattr(settings, f.name)
        if is_dataclass(value):
            yield from lines(value, f"{prefix}{f.name}.")
        else:
            yield f"{prefix}{f.name} = {value!r}"


def _file(path: str | os.PathLike[str]) -> dict[str, Any]:
    where = printable(path)
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"expected a settings file; {where}: {error.strerror}; check the name") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"expected TOML; {where}: {error}; correct it") from error


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _build(kind: type[T], values: Mapping[str, Any], prefix: str) -> T:
    hints = typing.get_type_hints(kind)
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise ConfigError(f"no setting {prefix}{name}; known: {', '.join(prefix + k for k in known)}")
    given = {name: _fit(hints[name], value, prefix + name) for name, value in values.items()}
    for name, f in known.items():
        if name not in given and f.default is MISSING and f.default_factory is MISSING:
            raise ConfigError(f"expected a value for {prefix}{name}; give it with --set {prefix}{name}=...")
    return kind(**given)


def _fit(hint: Any, value: Any, name: str) -> Any:
    """The value as the type of its field; TOML has lists for tuples and may write 1 for 1.0."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if is_dataclass(hint) and isinstance(value, dict):
        return _build(typing.cast(Any, hint), value, name + ".")
    if origin in (types.UnionType, typing.Union):
        for option in arguments:
            try:
                return _fit(option, value, name)
            except ConfigError:
                continue
    elif origin is tuple and isinstance(value, list):
        if arguments[1:] == (...,):
            return tuple(_fit(arguments[0], v, name) for v in value)
        if len(arguments) == len(value):
            return tuple(_fit(a, v, name) for a, v in zip(arguments, value, strict=True))
    elif origin is dict and isinstance(value, dict):
        return {k: _fit(arguments[1], v, name) for k, v in value.items()}
    elif origin is typing.Literal and value in arguments:
        return value
    elif hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    elif hint is Path and isinstance(value, str):
        return Path(value)
    elif isinstance(hint, type) and not is_dataclass(hint) and isinstance(value, hint):
        if not (hint is int and isinstance(value, bool)):
            return value
    elif hint is str and isinstance(value, int | float):
        return str(value)  # a name such as 042 that looks like a number
    wanted = getattr(hint, "__name__", str(hint)) if not arguments else str(hint)
    raise ConfigError(f"expected {name} to be {wanted}; got {value!r}")
