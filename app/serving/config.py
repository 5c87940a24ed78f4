"""Serve configs (`serve_configs/*.yaml`), read strictly: Ray Serve ignores a key that it does not know.

`serve run` and `serve deploy` take the same files; then only the applications' own `args` are held strictly, by
`app.serving.arguments`.
"""

import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from app.errors import UserError, did_you_mean
from app.overrides import parse_settings, read_yaml
from app.serving.arguments import ApplicationArguments, IdeArguments, LLMArguments, ToolsArguments

LLM, TOOLS, IDE = "actors.llm_server:build", "actors.tools:build", "actors.ide:build"
ARGUMENTS: dict[str, type[ApplicationArguments]] = {LLM: LLMArguments, TOOLS: ToolsArguments, IDE: IdeArguments}
LOOPBACK = ("127.0.0.1", "localhost", "::1")
EVERY_ADDRESS = ("0.0.0.0", "::")


def load_config(path: Path) -> dict[str, Any]:
    """The file as a dict that Serve accepts. Raises UserError naming the first key or value that is wrong."""
    from ray.serve.schema import ServeDeploySchema

    if not path.exists():
        raise UserError(f"there is no serve config {path}: give one of serve_configs/*.yaml")
    config = read_yaml(path, f"serve config {path}", "mend the file")
    check_config(config, str(path), ServeDeploySchema)
    return config


def check_config(config: Any, name: str, schema: type[BaseModel]) -> None:
    _check_keys(config, schema, name, "")
    parse_settings(schema, config, f"serve config {name}")
    for application in config.get("applications", ()):
        arguments = ARGUMENTS.get(application.get("import_path"))
        if arguments is None:
            raise UserError(
                f"serve config {name}: import_path {application.get('import_path')!r} is none of this project's: use "
                + " or ".join(ARGUMENTS)
            )
        parse_settings(arguments, application.get("args", {}), f"serve config {name}: args of {application['name']!r}")
    host = config.get("http_options", {}).get("host")
    if host is None:
        raise UserError(
            f"serve config {name} names no http_options.host, and Serve would listen on every address: write 127.0.0.1"
        )


def is_public(config: dict[str, Any]) -> bool:
    return config["http_options"]["host"] not in LOOPBACK


def _check_keys(value: Any, schema: type[BaseModel], name: str, place: str) -> None:
    if not isinstance(value, dict):
        raise UserError(f"serve config {name}: {place or 'it'} must hold keys, got {value!r:.80}")
    known = {alias: field for key, field in schema.model_fields.items() for alias in (key, field.alias) if alias}
    for key, inner in value.items():
        if key not in known:
            hint = did_you_mean(str(key), known, f"known are {', '.join(sorted(known))}")
            raise UserError(f"serve config {name}: unknown key {key!r} in {place or 'the file'}; {hint}")
        model = next(_models(known[key].annotation), None)
        for item in inner if isinstance(inner, list) else [inner]:
            if model is not None and isinstance(item, dict):
                _check_keys(item, model, name, f"{place}.{key}".strip("."))


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Pydantic models within an annotation such as `list[Model] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from _models(inner)
