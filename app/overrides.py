"""Settings from outside: `--set key.path=value` on the command line, files, and how two of them differ."""

import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

import yaml
from annotated_types import Ge, Gt, Le, Lt
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from app.errors import UserError
from app.settings import Profile, Settings

T = TypeVar("T", bound=Settings)


def with_overrides(profile: Profile, overrides: Sequence[str]) -> Profile:
    """Apply `key.path=value` texts; the value is read as YAML (`true`, `1e-4`, `null`, `[chat, completion]`).

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
        node[last] = _scalar(raw)
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


def parse_settings(model: type[T], data: Any, what: str) -> T:
    """Validate data read from a file; `what` names the file in the error."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        raise UserError(f"{what}: {key} = {first['input']!r} is not possible ({first['msg']})") from None


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


def _scalar(raw: str) -> Any:
    try:
        value = yaml.safe_load(raw) if raw else ""
    except yaml.YAMLError:
        return raw  # text that only looks like YAML, such as "a: b: c"
    if isinstance(value, str):  # YAML 1.1 reads 1e-4 as text
        try:
            return float(value)
        except ValueError:
            return value
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
    near = difflib.get_close_matches(part, model.model_fields, n=1)
    hint = f"did you mean {near[0]!r}" if near else f"known here are {', '.join(model.model_fields)}"
    return f"--set {key}: unknown key {part!r}; {hint}"


def _allowed(field: FieldInfo) -> str:
    """The values a field takes, in words, from its annotation and bounds."""
    annotation: Any = field.annotation
    kinds = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
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
