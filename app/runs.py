"""The run directory: every path, manifests, atomic writes, and who may write into it.

    runs/<run-id>/run.json                    settings, versions, commit, hardware, attempts of each stage
                  corpus/manifest.json        written last: its existence means that the stage is complete
                  sft/meta.json               likewise
                  evaluation/<suite>/<candidate>/settings.json samples.jsonl result.json
                  evaluation/contamination/<suite>.json
                  report.md report.html       written last, html after md

Nothing else in the project builds a path inside a run. Work that a complete stage no longer needs lies under
`<stage>/work`.
"""

import contextlib
import fcntl
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from app import hardware
from app.errors import UserError
from app.overrides import differences, parse_settings
from app.settings import Profile

REPOSITORY = Path(__file__).resolve().parent.parent
STAGES = ("corpus", "sft", "evaluate", "report")
VERSIONS_OF = ("ray", "torch", "transformers", "peft", "accelerate", "bitsandbytes", "pyarrow", "pydantic")


def cache_root() -> Path:
    """Where weights are kept: $POCKETCODER_CACHE, else the user's cache folder."""
    base = os.environ.get("POCKETCODER_CACHE")
    return Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pocketcoder"


def runs_root() -> Path:
    """$POCKETCODER_RUNS, else ./runs; a submitted job's folder is a temporary copy, so there ~/pocketcoder-runs."""
    base = os.environ.get("POCKETCODER_RUNS")
    if base:
        return Path(base).resolve()
    return Path.home() / "pocketcoder-runs" if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ else Path("runs").resolve()


def latest_run() -> Path | None:
    """The run under `runs_root`, or beside the code, whose adapter was finished last."""
    roots = {runs_root(), REPOSITORY / "runs"}
    finished = [path for root in roots for path in root.glob("*/sft/meta.json")]
    return max(finished, key=lambda path: path.stat().st_mtime).parent.parent if finished else None


def new_run_dir(profile: Profile) -> Path:
    return runs_root() / f"{profile.name}-{time.strftime('%Y%m%d-%H%M%S')}"


def write_atomic(path: Path, data: str | bytes, mode: int = 0o666) -> None:
    """Write beside the place and rename, so that a reader sees the old file or the whole new one.

    mode: of the file, less what the umask takes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)  # of a killed writer, whose mode may be another
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    write_atomic(path, json.dumps(data, indent=2, default=str) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def append_json_line(path: Path, row: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        file.write(json.dumps(row) + "\n")


def iter_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The complete lines of the file, one at a time; a last line that a killed writer left unfinished is not one."""
    if not path.exists():
        return
    with open(path) as file:
        for line in file:
            with contextlib.suppress(json.JSONDecodeError):
                yield json.loads(line)


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    return list(iter_json_lines(path))


def trim_json_lines(path: Path) -> None:
    """Cut off a last line that a killed writer left unfinished, so that lines can be appended."""
    if not path.exists():
        return
    with open(path, "rb+") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - (1 << 16))
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                file.truncate(start + newline + 1)
                return
            end = start
        file.truncate(0)


def write_json_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    write_atomic(path, "".join(json.dumps(row) + "\n" for row in rows))


class Run:
    """Paths of one run directory. Made by `open_run`; every stage gets it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.info = root / "run.json"
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
        self.sft_tensorboard = self.sft / "tensorboard"
        self.sft_work = self.sft / "work"
        self.sft_said = self.sft_work / "said.txt"
        self.evaluation = root / "evaluation"
        self.plots = root / "plots"
        self.loss_plot = self.plots / "loss.png"
        self.corpus_plot = self.plots / "corpus.png"
        self.evaluation_plot = self.plots / "evaluation.png"
        self.report_md = root / "report.md"
        self.report_html = root / "report.html"

    def suite_result(self, suite: str, candidate: str) -> Path:
        return self.evaluation / suite / candidate / "result.json"

    def suite_settings(self, suite: str, candidate: str) -> Path:
        return self.evaluation / suite / candidate / "settings.json"

    def contamination(self, suite: str) -> Path:
        return self.evaluation / "contamination" / f"{suite}.json"

    def suite_samples(self, suite: str, candidate: str) -> Path:
        return self.evaluation / suite / candidate / "samples.jsonl"

    def adapters(self) -> dict[str, Path]:
        """Finished adapters by name; a stage that adds some lists them here."""
        return {"sft": self.sft_adapter} if self.sft_meta.exists() else {}

    @contextlib.contextmanager
    def attempt(self, stage: str) -> Iterator[None]:
        """Record start and end of one attempt at a stage; an attempt without an end was killed."""
        info = read_json(self.info)
        attempts = info["stages"].setdefault(stage, [])
        attempts.append({"start": time.time(), "end": None})
        write_json(self.info, info)
        yield
        info = read_json(self.info)
        info["stages"][stage][-1]["end"] = time.time()
        write_json(self.info, info)

    def stage_seconds(self) -> dict[str, float]:
        """Seconds of each stage, summed over its finished attempts."""
        stages = read_json(self.info)["stages"]
        return {name: sum(a["end"] - a["start"] for a in attempts if a["end"]) for name, attempts in stages.items()}


@contextlib.contextmanager
def open_run(root: Path, profile: Profile, *, resume: bool) -> Iterator[Run]:
    """Create the run directory, or go on with one that holds the same run; hold its lock meanwhile.

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
            _check_same_run(run, profile, resume)
        else:
            _write_info(run, profile)
        yield run


def _is_foreign(path: Path) -> bool:
    """Whether a file was not left by a run that ended before its run.json was written."""
    return path.name != "run.lock" and not path.name.startswith(".")


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


def stored_profile(root: Path) -> Profile | None:
    """The settings that a run directory was made with, later ones at their defaults; None where there is no run."""
    info = root / "run.json"
    if not info.exists():
        return None
    try:
        held = read_json(info)["settings"]
    except (json.JSONDecodeError, KeyError):
        raise UserError(
            f"{info} can't be read as the description of a run: choose another --run or remove {root}"
        ) from None
    return parse_settings(Profile, held, str(info))


def _check_same_run(run: Run, profile: Profile, resume: bool) -> None:
    ways_out = f"choose another --run or remove {run.root}"
    stored = stored_profile(run.root)
    assert stored is not None
    held = json.loads(stored.model_dump_json())
    changed = differences(json.loads(profile.model_dump_json()), held)
    if changed:
        shown = "; ".join(changed[:4]) + (f" and {len(changed) - 4} more" if len(changed) > 4 else "")
        raise UserError(f"run directory {run.root} holds another run ({shown}): use its settings, {ways_out}")
    if not resume:
        raise UserError(f"run directory {run.root} already holds this run: pass --resume to go on with it, {ways_out}")


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
