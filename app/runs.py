"""The run directory: every path, manifests, atomic writes, and who may write into it.

    runs/<run-id>/run.json                    settings, versions, commit, hardware, attempts of each stage
                  now.json                    what the process that works on it is doing (`app.running.heartbeat`)
                  corpus/manifest.json        written last: its existence means that the stage is complete
                  sft/meta.json               the same for the training
                  grm/meta.json audit.jsonl   the same for self-reward, and what its audit found
                  evolve/meta.json lineage.jsonl    the same for evolution, and who lived in which generation
                  evaluation/<suite>/<candidate>/settings.json samples.jsonl result.json
                  evaluation/contamination/<suite>.json
                  validation/<stage>/decision.json    whether what the stage trained is kept, and why
                  export/<name>/              what `export` made, unless it was given another place
                  superseded/                 what was made under other settings or weights, kept and not read
                  report.md report.html       written last, html after md

Nothing else in the project builds a path inside a run, except that a stage names what lies in its own `<stage>/work`:
what is not needed once the stage is complete.
"""

import contextlib
import fcntl
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from app import hardware
from app.errors import UserError
from app.files.home import home
from app.files.json_files import of_this_version, read_json, write_atomic, write_json
from app.files.user_files import user_path
from app.running.arm_paths import ArmPaths
from app.running.attempts import Attempts, note_killed
from app.running.heartbeat import beating, read_now
from app.running.run_settings import settle
from app.settings import Profile

REPOSITORY = Path(__file__).resolve().parent.parent
VERSIONS_OF = ("ray", "torch", "transformers", "peft", "accelerate", "bitsandbytes", "pyarrow", "pydantic")


def located(text: str) -> Path:
    """Where something lies that may come with the project, such as a recipe or problems: a relative path counts from
    the working directory, and from the repository's root where the working directory has nothing of that name."""
    path = user_path(text)
    return path.resolve() if path.exists() else REPOSITORY / path


def runs_root() -> Path:
    """$POCKETCODER_RUNS, else ./runs; a submitted job's folder is a temporary copy, so there ~/pocketcoder-runs."""
    base = os.environ.get("POCKETCODER_RUNS")
    if base:
        return user_path(base).resolve()
    return home() / "pocketcoder-runs" if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ else Path("runs").resolve()


def latest_run() -> Path | None:
    """The run under `runs_root`, or beside the code, that was finished last: its adapters, or its report where training
    was left out."""
    runs = [Run(path.parent) for root in {runs_root(), REPOSITORY / "runs"} for path in root.glob("*/run.json")]
    ends = {run.root: _end(run) for run in runs}
    return max((root for root, end in ends.items() if end), key=lambda root: ends[root], default=None)


def _end(run: "Run") -> float:
    """When the run was finished; 0.0 where it was not."""
    made = [meta for meta in (run.sft_meta, run.grm_meta, run.evolve_meta) if meta.exists()]
    if not made and run.report_html.exists() and "sft" in left_out(run):
        made = [run.report_html]
    return max((path.stat().st_mtime for path in made), default=0.0)


def new_run_dir(profile: Profile) -> Path:
    return runs_root() / f"{profile.name}-{time.strftime('%Y%m%d-%H%M%S')}"


class Run(Attempts):
    """Paths of one run directory. Made by `open_run`; every stage gets it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.info = root / "run.json"
        self.now = root / "now.json"
        self.corpus = root / "corpus"
        self.corpus_manifest = self.corpus / "manifest.json"
        self.train_shards = self.corpus / "train"
        self.problems = self.corpus / "problems"
        self.rejected = self.corpus / "rejected.parquet"
        self.attribution = self.corpus / "attribution.csv"
        self.corpus_work = self.corpus / "work"
        self.sft = root / "sft"
        self.sft_meta = self.sft / "meta.json"
        self.sft_adapter = self.sft / "adapter"
        self.sft_metrics = self.sft / "metrics.jsonl"
        self.sft_held_out = self.sft / "held_out.jsonl"
        self.sft_tensorboard = self.sft / "tensorboard"
        self.sft_work = self.sft / "work"
        self.grm = root / "grm"
        self.grm_meta = self.grm / "meta.json"
        self.grm_problems = self.grm / "problems"
        self.grm_validation_problems = self.grm_problems / "validation"
        self.grm_rates = self.grm / "drafts" / "untouched.parquet"
        self.grm_arms = self.grm / "arms"
        self.grm_critic = self.grm / "critic"
        self.grm_critic_metrics = self.grm_critic / "metrics.json"
        self.grm_adapter = self.grm / "adapter"
        self.grm_attribution = self.grm / "attribution.csv"
        self.grm_audit = self.grm / "audit.jsonl"
        self.grm_work = self.grm / "work"
        self.evolve = root / "evolve"
        self.evolve_meta = self.evolve / "meta.json"
        self.evolve_lineage = self.evolve / "lineage.jsonl"
        self.evolve_tune = self.evolve / "tune"
        self.evolve_tune_state = self.evolve / "tune_state.zip"
        self.evolve_individuals = self.evolve / "individuals"
        self.evolve_boundaries = self.evolve / "boundaries"
        self.evolve_pool = self.evolve / "pool"
        self.evolve_untouched = self.evolve / "untouched"
        self.evolve_fresh = self.evolve / "fresh"
        self.evolve_origin = self.evolve / "origin"
        self.evolve_audit = self.evolve / "audit.jsonl"
        self.evolve_validation_problems = self.evolve / "validation_problems"
        self.evolve_adapter = self.evolve / "adapter"
        self.evolve_attribution = self.evolve / "attribution.csv"
        self.evolve_lora = self.evolve / "loras" / "best_alpha_evolve.safetensors"
        self.evolve_replay = self.evolve / "replay"
        self.evaluation = root / "evaluation"
        self.validation = root / "validation"
        self.superseded = root / "superseded"
        self.export = root / "export"
        self.plots = root / "plots"
        self.loss_plot = self.plots / "loss.png"
        self.corpus_plot = self.plots / "corpus.png"
        self.grm_plot = self.plots / "grm.png"
        self.evolve_plot = self.plots / "evolve.png"
        self.evolve_genes_plot = self.plots / "evolve_genes.png"
        self.evaluation_plot = self.plots / "evaluation.png"
        self.report_md = root / "report.md"
        self.report_html = root / "report.html"

    def arm(self, name: str) -> ArmPaths:
        """Of an arm of self-reward, by `grm.arm`."""
        return ArmPaths(self.grm_arms / name)

    def individual(self, name: str, generation: int) -> ArmPaths:
        """Of what an individual of the population does in a generation."""
        return ArmPaths(self.evolve_individuals / name / str(generation))

    def suite_result(self, suite: str, candidate: str) -> Path:
        return self.evaluation / suite / candidate / "result.json"

    def suite_settings(self, suite: str, candidate: str) -> Path:
        return self.evaluation / suite / candidate / "settings.json"

    def contamination(self, suite: str) -> Path:
        return self.evaluation / "contamination" / f"{suite}.json"

    def suite_samples(self, suite: str, candidate: str) -> Path:
        return self.evaluation / suite / candidate / "samples.jsonl"

    def decision(self, stage: str) -> Path:
        return self.validation / stage / "decision.json"

    def grm_drafts(self) -> dict[str, Path]:
        """Self-reward's files of judged drafts, by their place below grm/."""
        return {path.relative_to(self.grm).as_posix(): path for path in sorted(self.grm.rglob("drafts*/*.parquet"))}

    def evolve_drafts(self) -> dict[str, Path]:
        """Evolution's files of judged drafts that were learnt from, by their place below evolve/."""
        found = sorted(self.evolve_individuals.glob("*/*/drafts/*.parquet"))
        return {path.relative_to(self.evolve).as_posix(): path for path in found}

    def set_aside(self, folder: Path) -> Path:
        """Move a folder of the run to where no stage and no report looks for it; returns the place."""
        place = self.superseded / folder.relative_to(self.root)
        number = 1
        while (free := place.with_name(f"{place.name}-{number}")).exists():
            number += 1
        free.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(free)
        return free

    def trained(self) -> dict[str, Path]:
        """Finished adapters by the stage that made them, in the order of the stages; one that adds some lists them
        here."""
        stages = {
            "sft": (self.sft_meta, self.sft_adapter),
            "grm": (self.grm_meta, self.grm_adapter),
            "evolve": (self.evolve_meta, self.evolve_adapter),
        }
        return {stage: folder for stage, (meta, folder) in stages.items() if meta.exists()}

    def adapters(self) -> dict[str, Path]:
        """Finished adapters, without those that were found to do no good."""
        return {stage: folder for stage, folder in self.trained().items() if not self._is_refused(stage)}

    def _is_refused(self, stage: str) -> bool:
        path = self.decision(stage)
        if not path.exists():
            return False
        with of_this_version(path):
            return not read_json(path)["kept"]

    def cuts(self) -> dict[str, str]:
        """What each stage that its deadline has ended says of it."""
        metas = {"sft": self.sft_meta, "grm": self.grm_meta, "evolve": self.evolve_meta}
        cuts = {stage: read_json(meta).get("cut", "") for stage, meta in metas.items() if meta.exists()}
        return {stage: cut for stage, cut in cuts.items() if cut}


@contextlib.contextmanager
def open_run(root: Path, profile: Profile, *, resume: bool) -> Iterator[Run]:
    """Create the run directory, or go on with one that is there (`app.running.run_settings`); hold its lock meanwhile.

    Raises UserError when it can't be written, holds another run, or another process works on it.
    """
    run = Run(root.resolve())
    if run.root.is_dir() and not run.info.exists() and any(map(_is_foreign, run.root.iterdir())):
        raise UserError(
            f"run directory {root} is not empty and holds no run.json, so it is no run: choose another --run"
        )
    _make_folder(run.root)
    with _lock(run.root):
        if run.info.exists():
            settle(run, profile, resume)
        else:
            _write_info(run, profile)
        note_killed(run.info, read_now(run.now))
        with beating(run.now):
            yield run


def _is_foreign(path: Path) -> bool:
    """Whether a file was not left by a run that ended before its run.json was written."""
    return path.name not in ("run.lock", "now.json") and not path.name.startswith(".")


def _make_folder(root: Path) -> None:
    if root.exists() and not root.is_dir():
        raise UserError(f"run directory {root} is a file: choose another --run")
    try:
        root.mkdir(parents=True, exist_ok=True)
        write_atomic(root / ".probe", b"x" * 4096)
        (root / ".probe").unlink()
    except OSError as error:
        raise UserError(
            f"run directory {root} can't be written ({error.strerror}): free space or give another --run"
        ) from None


def _write_info(run: Run, profile: Profile) -> None:
    write_json(
        run.info,
        {
            "run_id": run.root.name,
            "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "settings": json.loads(profile.model_dump_json()),
            "seed": profile.seed,
            "commit": git_commit(),
            "hardware": hardware.describe(),
            "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in VERSIONS_OF}},
            "stages": {},
        },
    )


def update_info(run: Run, **values: Any) -> None:
    write_json(run.info, {**read_json(run.info), **values})


def left_out(run: Run) -> dict[str, str]:
    """Stages that the pipeline left out, and that nobody has run since, each with the reason."""
    noted: dict[str, str] = read_json(run.info).get("left_out", {})
    return {stage: reason for stage, reason in noted.items() if stage not in run.trained()}


def require_stage(run: Run, stage: str, artifact: Path, profile: Profile) -> None:
    """Raise UserError with the command that makes a stage's artifact, where the run lacks it."""
    if not artifact.exists():
        command = f"python -m app {stage} --profile {profile.name} --run {run.root}"
        raise UserError(f"run {run.root} lacks {artifact.relative_to(run.root)}: run `{command}` first")


@contextlib.contextmanager
def _lock(root: Path) -> Iterator[None]:
    with open(root / "run.lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"run directory {root} is in use by another process: wait for it or choose another --run"
            ) from None
        yield


def git_commit() -> str | None:
    """Commit of the working copy, with '+' when it holds changes; None outside one (a submitted job's copy)."""
    if not (REPOSITORY / ".git").exists() or shutil.which("git") is None:
        return None
    git = ["git", "-C", str(REPOSITORY)]
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    dirty = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True).stdout.strip()
    return (commit + ("+" if dirty else "")) or None
