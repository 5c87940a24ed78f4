"""The folder of one training on drafts: what lies where."""

from pathlib import Path


class ArmPaths:
    """Paths of one arm of self-reward, of one of its rounds, or of an individual's generation. Made by `Run.arm` and
    `Run.individual`, and for a folder of its own by a benchmark."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.drafts = folder / "drafts"
        self.lessons = folder / "lessons.parquet"
        self.metrics = folder / "metrics.jsonl"
        self.validation = folder / "validation.jsonl"
        self.tensorboard = folder / "tensorboard"
        self.adapter = folder / "adapter"
        self.cut = folder / "cut.json"

    def round(self, number: int) -> "ArmPaths":
        """The paths of a round before the last one; rounds count from 1."""
        return ArmPaths(self.folder / f"round-{number}")
