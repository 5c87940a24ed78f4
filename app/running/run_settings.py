"""Whose settings a command has, and which settings of a run may still change.

A run keeps those it was made with, and `--set` goes on top of them. A stage binds what decides its outcome once it is
complete; what an incomplete stage made under other settings is set aside, and it begins anew. A complete corpus also
binds the sandbox's limits, under which its problems were proved; an incomplete one proves anew what they decide.
Evaluation, generation, serving and cluster decide nothing that other stages made. A measurement binds its own settings,
those of the sandbox included (`app.evaluation`).
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.errors import UserError
from app.files.json_files import BrokenFileError, read_json, write_json
from app.overrides import differences, parse_settings
from app.profiles import PROFILES, get_profile
from app.progress import say
from app.settings import Profile, SandboxSettings

if TYPE_CHECKING:
    from app.runs import Run

WHICH_MODEL = ("model.source", "model.name", "model.revision")
CORPUS = ("seed", *WHICH_MODEL, "corpus")
SFT = (*CORPUS, "model", "sft")
DRAWN = ("seed", "model", "sandbox.timeout_s", "sandbox.memory_bytes", "grm.timeout_s", "grm.problems",
         "grm.rate_drafts", "grm.temperature", "grm.max_new_tokens", "grm.seq_len")  # fmt: skip
"""What self-reward's problems and their solve rates were made with."""
GRM = (*DRAWN, "grm", "sft.weight_decay", "sft.max_grad_norm", "sft.optimiser", "sft.final_lr_fraction")
EVOLVE = (*GRM, "evolve")
"""Evolution learns by grm's settings, but for its genes."""
CRITIC = (*DRAWN, "grm.critic")
"""What the critic was made with, its measurements included."""
DECISIVE_SANDBOX = ("timeout_s", "memory_bytes")
"""Settings of the sandbox that decide which problems pass, and so belong to a corpus."""
HOW_ONLY = (
    "corpus.num_workers",
    "sft.when",
    "sft.checkpoint_every",
    "sft.gradient_checkpointing",
    "sft.loss_chunk",
    "sft.vram_gib",
    "sft.use_gpu",
    "grm.when",
    "evolve.when",
    "evolve.slots",
    "grm.checkpoint_every",
    "grm.critic.checkpoint_every",
    "grm.critic.batch_size",
    "grm.critic.num_cpus",
)
"""How a stage works, not what it makes: these never bind."""
RETIRED = (("generation", "gpu_memory_utilization"),)
"""Settings that are gone and decided nothing that a run holds: a run of before is read without them."""


def chosen_profile(run: Path | None, name: str | None) -> Profile:
    """The settings of a command with --run and --profile, either of which may be left out: those of the run where it
    has that profile, else the profile's own.

    Raises UserError where neither says which.
    """
    stored = stored_profile(run) if run is not None else None
    if stored is not None and name in (None, stored.name):
        return stored
    if name is not None:
        return get_profile(name)
    if run is not None:
        raise UserError(f"{run} holds no run.json, so it is no run: give another --run, or --profile P")
    raise UserError(f"the command needs --profile P ({', '.join(PROFILES)}), or the --run DIR of a run that is there")


def stored_profile(root: Path) -> Profile | None:
    """The settings that a run directory has, later ones at their defaults; None where there is no run."""
    info = root / "run.json"
    if not info.exists():
        return None
    try:
        held = read_json(info)["settings"]
        for group, name in RETIRED:
            held.get(group, {}).pop(name, None)
        held.setdefault("sft", {}).setdefault("when", "always")  # a run of before trains, or goes on with it
        for stage in ("grm", "evolve"):  # and learns from its own drafts by these stages' own commands alone
            held.setdefault(stage, {}).setdefault("when", "never")
        limit = held.get("sandbox", {}).get("timeout_s", SandboxSettings().timeout_s)
        held["grm"].setdefault("timeout_s", limit)  # the one that its drafts and problems were judged under
    except (BrokenFileError, KeyError, AttributeError):
        raise UserError(
            f"{info} can't be read as the description of a run: choose another --run or remove {root}"
        ) from None
    return parse_settings(Profile, held, str(info))


def settle(run: "Run", profile: Profile, resume: bool) -> None:
    """Go on with a run under these settings, where what it holds allows it.

    Raises UserError naming the settings that are bound, or when the run is there and `resume` is False.
    """
    stored = stored_profile(run.root)
    assert stored is not None
    changed = differences(_plain(profile), _plain(stored))
    bound = _bound(run)
    ways_out = f"choose another --run or remove {run.root}"
    if refused := [line for line in changed if _is_of(line, bound)]:
        shown = [line for line in changed if line.startswith("name:")] + refused
        raise UserError(f"run directory {run.root} holds another run ({_shown(shown)}): use its settings, {ways_out}")
    if not resume:
        raise UserError(f"run directory {run.root} already holds this run: pass --resume to go on with it, {ways_out}")
    if changed:
        say(f"the run's settings change: {_shown(changed)}")
        _begin_anew(run, changed)
        write_json(run.info, read_json(run.info) | {"settings": _plain(profile), "seed": profile.seed})


def _shown(changed: list[str]) -> str:
    more = f" and {len(changed) - 4} more" if len(changed) > 4 else ""
    return "; ".join(changed[:4]) + more


def _bound(run: "Run") -> tuple[str, ...]:
    """Settings, and groups of them, that what the run holds was made with."""
    found: tuple[str, ...] = ()
    if any(path.stat().st_size for path in run.evaluation.glob("*/*/samples.jsonl")):
        found += WHICH_MODEL
    if run.corpus_manifest.exists():
        found += (*CORPUS, *(f"sandbox.{key}" for key in DECISIVE_SANDBOX))
    if run.sft_meta.exists():
        found += SFT
    if run.grm_meta.exists():
        found += GRM
    if run.evolve_meta.exists():
        found += EVOLVE
    return found


def _begin_anew(run: "Run", changed: list[str]) -> None:
    """Set aside what incomplete stages made under other settings."""
    made = (
        (run.corpus, run.corpus_manifest, CORPUS),
        (run.sft, run.sft_meta, SFT),
        (run.grm, run.grm_meta, DRAWN),
        (run.grm_critic, run.grm_meta, CRITIC),
        (run.grm_arms, run.grm_meta, GRM),
        (run.grm_work, run.grm_meta, GRM),
        (run.evolve, run.evolve_meta, EVOLVE),
    )
    for folder, last, keys in made:
        differing = [line for line in changed if _is_of(line, keys)]
        if differing and not last.exists() and any(path.is_file() for path in folder.rglob("*")):
            say(f"  {folder.relative_to(run.root)} begins anew; what it made so far is kept in {run.set_aside(folder)}")


def _is_of(line: str, keys: tuple[str, ...]) -> bool:
    """Whether a line of `differences` is about one of these settings or groups."""
    name = line.partition(":")[0]
    return name not in HOW_ONLY and any(name == key or name.startswith(f"{key}.") for key in keys)


def _plain(profile: Profile) -> dict[str, Any]:
    return json.loads(profile.model_dump_json())
