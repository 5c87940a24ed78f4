"""What decides the bytes of a corpus, as one record with a hash, and as a hash for each part of a build.

A part (a Parquet file of a task) carries the hash of all that made it: settings, what the recipe says of it, the
contents of its sources, the parts that it is made from, and its stage's code version. A build that goes on makes anew
what carries another. Where a corpus is complete, the record in its manifest is compared with what is asked for now.

What decides no byte is in neither: numbers of workers, memory, caches, where a recipe or its model lies, the dashboard.
"""

import dataclasses
import hashlib
import json
import os
import stat
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from app.corpus.clean.extract import OF_FUNCTIONS, ShardFile
from app.corpus.clean.guard import Guard
from app.corpus.recipe_files import load_recipe
from app.corpus.recipes import Recipe
from app.corpus.sources.distributions import Distribution, SourceFile
from app.corpus.sources.untrusted import MAX_FILE_BYTES
from app.errors import UserError
from app.files.json_files import read_json
from app.overrides import differences, parse_settings
from app.progress import say
from app.running.run_settings import DECISIVE_SANDBOX
from app.runs import Run
from app.settings import Profile

VERSIONS = {"plan": 3, "extract": 7, "mine": 8, "prove": 3, "render": 6, "assemble": 3}
"""The code version of each stage: raised by hand when its bytes change."""
DECISIVE = ("seq_len", "max_files", "max_mined_files", "files_per_shard")
"""Corpus settings that decide bytes, beside the recipe."""
NOT_DECISIVE = ("name", "num_connections", "credentials")
"""Keys of a recipe and its sources."""
OF_TOKENIZER = ("*.json", "*.jinja", "additional_chat_templates/*.jinja", "*.txt", "*.model", "*.tiktoken")
NOT_OF_TOKENIZER = ("generation_config.json", "model.safetensors.index.json")
MAX_HASHED = MAX_FILE_BYTES
"""A larger file is never read, so that its size says all."""
MAX_SHOWN = 3


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BuildIdentity:
    """All that decides a corpus' bytes. Made by `identify`; kept beside a build's parts and in its manifest."""

    recipe: dict[str, Any]
    settings: dict[str, Any]
    """Settings of the corpus and of the sandbox."""
    seed: int
    tokenizer: str
    """Hash of the model's tokenizer files and chat template."""
    guard: dict[str, str]
    """Hash of each suite's texts."""
    versions: dict[str, Any]
    """Code version of each stage, and Python's."""
    sources: dict[str, str]
    """Hash of each distribution: what is known of it, its files and their contents."""

    @property
    def sha256(self) -> str:
        return digest(dataclasses.asdict(self))

    def facts(self) -> dict[str, Any]:
        """The record as JSON has it."""
        return {"sha256": self.sha256} | json.loads(json.dumps(dataclasses.asdict(self)))


SET_BY_USER = ("recipe", "settings", "seed", "tokenizer")
"""Fields of the record that a person changes on purpose; the others may drift under a run that goes on for days."""
HASHED = ("tokenizer", "guard", "sources")


def identify(
    profile: Profile, recipe: Recipe, model: Path, guard: Guard | None, sources: Mapping[str, str] = {}
) -> BuildIdentity:
    """The record of a build. model: the base model's folder. guard, sources: None and empty where they are not to be
    compared."""
    settings = {key: getattr(profile.corpus, key) for key in DECISIVE}
    return BuildIdentity(
        recipe=_decisive(recipe.model_dump(mode="json")),
        settings=settings | {f"sandbox.{key}": getattr(profile.sandbox, key) for key in DECISIVE_SANDBOX},
        seed=profile.seed,
        tokenizer=tokenizer_sha256(model),
        guard={suite.suite: suite.sha256[:16] for suite in guard.suites} if guard else {},
        versions=VERSIONS | {"python": f"{sys.version_info.major}.{sys.version_info.minor}"},
        sources=dict(sources),
    )


def stage_digest(stage: str, *what: Any) -> str:
    """Identity of a part: the stage's version and all that the part is made from."""
    return digest([stage, VERSIONS[stage], sys.version_info[:2], *what])


def of_shard(files: Sequence[ShardFile], recipe: Recipe, sources: Mapping[str, str], guard_sha256: str) -> str:
    """Identity of a shard's documents. Where files lie decides nothing."""
    names = {
        f"{key}s": [getattr(held.origin, key) for held in files]
        for key in ("distribution", "version", "licence", "path")
    }
    held = {name: sources.get(name) for name in sorted({*names["distributions"]})}  # other files show as siblings
    forms = recipe.forms.model_dump()
    shows = [any(forms[form] for form in OF_FUNCTIONS), bool(forms["multi_file"])]
    return stage_digest("extract", names, held, *_cleaned_by(recipe), shows, guard_sha256)


def of_mined(
    distribution: Distribution, split: str, recipe: Recipe, sources: Mapping[str, str], guard_sha256: str
) -> str:
    """Identity of a distribution's candidates for problems."""
    files = [file.path for file in distribution.files]
    known = [distribution.name, sources.get(distribution.name), files, split]
    return stage_digest("mine", known, *_cleaned_by(recipe), guard_sha256)


def _cleaned_by(recipe: Recipe) -> list[Any]:
    return [recipe.cleaning.model_dump(), sorted(recipe.licences.also_allow)]


def contents_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: Any) -> str:
    """SHA-256 of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def tokenizer_sha256(folder: Path) -> str:
    """Hash of all files that a tokenizer and its chat template may be read from."""
    paths = {path for pattern in OF_TOKENIZER for path in folder.glob(pattern)}
    held = [path for path in sorted(paths) if path.name not in NOT_OF_TOKENIZER]
    return digest([[str(path.relative_to(folder)), contents_sha256(path)] for path in held])[:16]


def source_digests(distributions: Iterable[Distribution], read: Iterable[str]) -> dict[str, str]:
    """A hash for each name of a distribution. read: names of those whose files the build reads; of them the contents
    count. Files are read by threads: a gigabyte takes seconds."""
    wanted = set(read)
    held = list(distributions)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        read_from = list(dict.fromkeys(_place(file) for d in held if d.name in wanted for file in d.files))
        contents = dict(zip(read_from, pool.map(_content, read_from, chunksize=64), strict=True))
    found: dict[str, str] = {}
    for d in held:
        facts = [d.name, d.version, d.author, d.homepage, dataclasses.asdict(d.verdict), d.weight, d.rejected, d.texts]
        files = [
            [f.path, f.location if f.archive else "", f.licence, f.evidence, contents.get(_place(f), "")]
            for f in d.files
        ]
        found[d.name] = digest([found.get(d.name, ""), facts, files])[:16]
    return found


def _place(file: SourceFile) -> str:
    return file.archive or file.location


def _content(place: str) -> str:
    """Hash of a file's bytes; for a file that is not read, what kind of thing it is."""
    try:
        state = os.stat(place)
        if not stat.S_ISREG(state.st_mode):
            return "not a file"  # opening a pipe would wait for a writer
        if place.endswith(".parquet"):
            return "/".join(Path(place).parts[-2:])  # of the cache, where files are named by what they were made of
        if state.st_size > MAX_HASHED and not place.endswith(".whl"):
            return f"{state.st_size} bytes"
        return contents_sha256(Path(place))
    except (OSError, ValueError) as error:
        return type(error).__name__


def _decisive(value: Any) -> Any:
    """The value without keys that decide nothing; lists of sources become dicts by number, so that differences can be
    named."""
    if isinstance(value, dict):
        return {key: _decisive(item) for key, item in value.items() if key not in NOT_DECISIVE}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return {str(number): _decisive(item) for number, item in enumerate(value)}
    return value


def changes(now: BuildIdentity, held: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """What differs between two records in these fields: `key: then -> now`, of hashes only the key."""
    ours = now.facts()
    found = []
    for name in names:
        for line in differences({name: ours[name]}, {name: held.get(name)}):
            found.append(f"{line.partition(':')[0]} changed" if name in HASHED else line)
    return found


def shown(changed: list[str]) -> str:
    more = f" and {len(changed) - MAX_SHOWN} more" if len(changed) > MAX_SHOWN else ""
    return "; ".join(text if len(text) < 160 else f"{text[:156]} ..." for text in changed[:MAX_SHOWN]) + more


def check_complete(
    run: Run, profile: Profile, model: Path, guard: Guard | None = None, sources: Mapping[str, str] | None = None
) -> None:
    """Compare a run's complete corpus with what is asked for now. model, guard: as for `identify`.

    Raises UserError where what a person has set differs. What may drift (the guard's files, code versions) is said;
    with sources given, which a command asks for that is to build a corpus, anything that differs is refused.
    """
    held = read_json(run.corpus_manifest)
    now = identify(profile, load_recipe(profile.corpus), model, guard, sources or {})
    record = _of_older(held, now) | held.get("identity", {}) | _recipe_of(held)
    names = [name for name in SET_BY_USER if name in record]
    drifting = [name for name in ("guard", "versions") if name in record and (name != "guard" or guard)]
    refused, drifted = changes(now, record, names), changes(now, record, drifting)
    if sources is not None:
        older = [] if "identity" in held else ["an older version of the project built it"]
        refused += [*drifted, *changes(now, record, ["sources"] if "sources" in record else []), *older]
    if refused:
        raise UserError(
            f"the corpus of run {run.root} was built from something else ({shown(refused)}): give that again, remove "
            f"{run.corpus} to build it anew, or choose another --run"
        )
    if drifted:
        say(f"  the corpus stays as it was built, although since then: {shown(drifted)}")


def _of_older(manifest: Mapping[str, Any], now: BuildIdentity) -> dict[str, Any]:
    """The record that a manifest without one still tells."""
    found = {key: manifest[key] for key in ("seed",) if key in manifest}
    if "settings" in manifest:
        found["settings"] = now.settings | {k: v for k, v in manifest["settings"].items() if k in DECISIVE}
    return found


def _recipe_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe that a corpus was built from, keys that came later at their defaults."""
    if "recipe" not in manifest:
        return {}
    recipe = parse_settings(Recipe, manifest["recipe"], "the recipe in the corpus' manifest")
    return {"recipe": _decisive(recipe.model_dump(mode="json"))}
