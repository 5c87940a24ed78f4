"""Settings from outside: `--set key.path=value` on the command line, files, and how two of them differ."""

import contextlib
import datetime
import functools
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import yaml
from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from app.errors import UserError, did_you_mean
from app.settings import Profile
from app.stage_settings.base import Settings

T = TypeVar("T", bound=BaseModel)
_LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The same loader in C, twenty times as fast, where PyYAML was built with it."""


def with_overrides(profile: Profile, overrides: Sequence[str]) -> Profile:
    """Apply `key.path=value` texts. The value is read as what the key takes: text stays as it is, numbers, truth
    values, `null` and lists are read as YAML (`true`, `1e-4`, `null`, `[chat, completion]`).

    Raises UserError naming the key, the value and what is allowed.
    """
    tree, clash = profile.model_dump(), ""
    for text in overrides:
        key, separator, raw = text.partition("=")
        if not separator:
            raise UserError(
                f"--set {text!r} has no '=': write --set key.path=value, for example --set sft.max_steps=20"
            )
        *groups, last = key.split(".")
        node: Any = tree
        model: type[Settings] = type(profile)
        for group in groups:
            model = _sub_model(model, group, key)
            node = node[group]
        if last not in model.model_fields:
            raise UserError(_unknown_key(key, last, model))
        if _settings_class(model.model_fields[last]):
            keys = ", ".join(_sub_model(model, last, key).model_fields)
            raise UserError(f"--set {key}={raw} names a group of settings: set one of its keys ({keys})")
        node[last] = _value(raw, model.model_fields[last])
        try:
            if isinstance(node[last], bool) and model.model_fields[last].annotation is not bool:
                raise UserError(f"--set {key}={raw} is not possible: allowed is {_allowed(model.model_fields[last])}")
            profile, clash = type(profile).model_validate(tree), ""
        except ValidationError as error:
            first = error.errors()[0]
            if first["type"] == "value_error":  # two settings that don't go together: a later --set may mend it
                clash = f"--set {key}={raw} is not possible: {first['ctx']['error']}"
                continue
            allowed = _allowed(model.model_fields[last])
            raise UserError(f"--set {key}={raw} is not possible ({first['msg']}): allowed is {allowed}") from None
    if clash:
        raise UserError(clash)
    return profile


def read_yaml(path: Path, what: str, way_out: str) -> Any:
    """The data of a YAML file. Raises UserError, in which `what` names the file, for one that can't be read."""
    with _told_of(what, way_out):
        return yaml.load(path.read_text(encoding="utf-8"), _LOADER)


def read_settings(model: type[T], path: Path, what: str, way_out: str) -> T:
    """`parse_settings` of a YAML file, the same object for whoever reads the same text in a process, and so not to be
    changed. Raises UserError as that and `read_yaml` do."""
    with _told_of(what, way_out):
        text = path.read_text(encoding="utf-8")
    return cast(T, _settings_of(model, text, what, way_out))


@functools.lru_cache(maxsize=64)
def _settings_of(model: type[BaseModel], text: str, what: str, way_out: str) -> BaseModel:
    with _told_of(what, way_out):
        data = yaml.load(text, _LOADER)
    return parse_settings(model, data, what, way_out)


@contextlib.contextmanager
def _told_of(what: str, way_out: str) -> Iterator[None]:
    try:
        yield
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{what} can't be read as YAML ({' '.join(str(error).split())}): {way_out}") from None


def parse_settings(model: type[T], data: Any, what: str, way_out: str = "") -> T:
    """Validate data read from a file; `what` names the file in the error."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        found = textwrap.shorten(repr(first["input"]), 80)
        if _lacks_quotes(first):
            way_out = "text that looks like a number, a date or a truth value needs quotes"
        ends = f": {way_out}" if way_out else ""
        raise UserError(f"{what}: {key} = {found} is not possible ({first['msg']}){ends}") from None


def _lacks_quotes(error: Any) -> bool:
    """Whether YAML made something else of what should have been text."""
    return error["type"] == "string_type" and isinstance(error["input"], int | float | datetime.date)


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Keys whose values differ between two dumped settings, as `key: theirs -> ours`."""
    lines = []
    for key in (*ours, *(key for key in theirs if key not in ours)):
        mine, other = ours.get(key), theirs.get(key)
        if isinstance(mine, Mapping) and isinstance(other, Mapping):
            lines += differences(mine, other, f"{prefix}{key}.")
        elif mine != other:
            lines.append(f"{prefix}{key}: {other!r} -> {mine!r}")
    return lines


def _value(raw: str, field: FieldInfo) -> Any:
    """The value of a --set text, by what the field takes."""
    kinds = _kinds(field)
    if raw == "null" and type(None) in kinds:
        return None
    if any(_is_text(kind) for kind in kinds):
        return _unquoted(raw)
    if any(typing.get_origin(kind) is tuple and _is_text(typing.get_args(kind)[0]) for kind in kinds):
        return _yaml(raw, yaml.BaseLoader)  # which leaves every item a text
    for number in (int, float):
        with contextlib.suppress(ValueError):
            return number(raw)
    return _yaml(raw, yaml.SafeLoader)


def _kinds(field: FieldInfo) -> tuple[Any, ...]:
    """The types that a field's annotation names."""
    annotation: Any = field.annotation
    return typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)


def _is_text(kind: Any) -> bool:
    return kind is str or typing.get_origin(kind) is Literal and isinstance(typing.get_args(kind)[0], str)


def _unquoted(raw: str) -> str:
    """Without quotes around the whole of it, which a user of YAML may have put there."""
    value = _yaml(raw, yaml.BaseLoader) if raw[:1] in ("'", '"') else raw
    return value if isinstance(value, str) else raw


def _yaml(raw: str, loader: Any) -> Any:
    try:
        value = yaml.load(raw, loader) if raw else ""
    except yaml.YAMLError:
        return raw  # text that only looks like YAML, such as "a: b: c"
    return tuple(value) if isinstance(value, list) else value


def _settings_class(field: FieldInfo) -> type[Settings] | None:
    annotation = field.annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, Settings) else None


def _sub_model(model: type[Settings], group: str, key: str) -> type[Settings]:
    if group not in model.model_fields:
        raise UserError(_unknown_key(key, group, model))
    sub_model = _settings_class(model.model_fields[group])
    if sub_model is None:
        raise UserError(f"--set {key}: {group!r} is a value, not a group of settings")
    return sub_model


def _unknown_key(key: str, part: str, model: type[Settings]) -> str:
    hint = did_you_mean(part, model.model_fields, f"known here are {', '.join(model.model_fields)}")
    return f"--set {key}: unknown key {part!r}; {hint}"


def _allowed(field: FieldInfo) -> str:
    """The values a field takes, in words, from its annotation and bounds."""
    kinds = _kinds(field)
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    words = []
    for kind in kinds:
        if typing.get_origin(kind) is Literal:
            words.append("one of " + ", ".join(map(repr, typing.get_args(kind))))
        elif typing.get_origin(kind) is tuple:
            choices = typing.get_args(typing.get_args(kind)[0])
            words.append("a list of " + (", ".join(map(repr, choices)) if choices else "texts"))
        else:
            words.append(names[kind])
    signs = {Ge: (">=", "ge"), Gt: (">", "gt"), Le: ("<=", "le"), Lt: ("<", "lt")}
    bounds = [
        f"{sign} {getattr(bound, name)}"
        for bound in field.metadata
        for cls, (sign, name) in signs.items()
        if isinstance(bound, cls)
    ]
    return " or ".join(words) + (" " + " and ".join(bounds) if bounds else "")
