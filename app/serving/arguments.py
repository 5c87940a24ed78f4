"""What a serve config says of an application under `args`; unknown names fail."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from app.errors import UserError
from app.files.user_files import user_path
from app.overrides import with_overrides
from app.profiles import get_profile
from app.running.run_settings import stored_profile
from app.runs import latest_run
from app.serving.keys import Keys, keys_file
from app.settings import Profile
from app.stage_settings.base import Settings

LATEST, NONE = "latest", "none"
ON_HEAD = {"num_cpus": 0, "resources": {"node:__internal_head__": 0.001}}
"""Where Serve's proxy listens and the keys are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Arguments with everything looked up. The model is the run's own, so that its adapters fit."""

    profile: Profile
    run: str | None
    keys_file: str


class ApplicationArguments(Settings):
    """What every application takes."""

    profile: str
    overrides: tuple[str, ...] = ()
    """Settings to change, as --set has them, for example serving.max_model_len=2048."""
    keys_file: str = ""
    """The file of keys on the head node. Left out: $POCKETCODER_KEYS, or ~/.config/pocketcoder/keys.json."""
    session_keys: tuple[str, ...] = ()
    """SHA-256 of further keys, in hexadecimal: those that `python -m app serve` makes for one session."""
    allowed_hosts: tuple[str, ...] = ()
    """Names under which clients reach the server, beside localhost."""

    def keys_path(self) -> str:
        """The file of the keys. Raises UserError when nobody could get in."""
        path = self.key_store()
        if not Keys(path, self.session_keys).any:
            raise UserError(f"there is no API key in {path}: make one with `python -m app keys add NAME`")
        return str(path.resolve())

    def key_store(self) -> Path:
        return user_path(self.keys_file) if self.keys_file else keys_file()


class LLMArguments(ApplicationArguments):
    tools: str = "tools"
    """Name of the application that runs the server's tools, for requests that ask for them."""
    run: str = LATEST
    """Run directory whose adapters are served; latest: the one finished last; none: the base model alone."""
    engines: int = Field(default=1, ge=1, le=1024)
    """At most this many, one a card; where it is more than one, they are started and ended as there is work."""

    def resolve(self) -> Place:
        run = latest_run() if self.run == LATEST else None if self.run == NONE else user_path(self.run)
        profile = get_profile(self.profile)
        if run is not None:
            stored = stored_profile(run)
            if stored is None:
                raise UserError(f"{run} holds no run.json, so it is no run: give another --run, latest, or none")
            profile = profile.model_copy(update={"model": stored.model})
        profile = with_overrides(profile, self.overrides)
        if not profile.serving.use_gpu:
            # Whatever it was trained in: most CPUs are hundreds of times slower in bfloat16.
            profile = profile.model_copy(update={"model": profile.model.model_copy(update={"dtype": "float32"})})
        return Place(
            profile=profile,
            run=os.path.abspath(run) if run else None,
            keys_file=self.keys_path(),
        )


class ToolsArguments(ApplicationArguments):
    """The profile's docsearch and sandbox settings hold for the tools, and serving.tools says which there are."""

    env: Literal["", "online", "offline"] = ""
    """ENV of the documentation search, which uses the network with `online` alone; left out: that of the Ray node.
    `python -m app serve` says its own ENV here. It is shown on the dashboard, as all of a config is."""


class IdeArguments(ApplicationArguments):
    """What the page needs to know; the profile's sandbox settings hold for the programs that are run."""

    llm: str = "llm"
    """Name of the application that answers."""
    run: str = LATEST
    """Run directory that is shown first, beside those of the usual folders; latest: the one finished last; none: no
    one."""

    def shown_run(self) -> Path | None:
        run = latest_run() if self.run == LATEST else None if self.run == NONE else user_path(self.run)
        return run.absolute() if run else None
