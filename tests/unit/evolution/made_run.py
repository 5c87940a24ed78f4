"""A made-up evolution of four individuals in three generations, written by the project's own writers: two children by
mutation, one of an imitation of the pool, one place of an individual that failed."""

import json
from pathlib import Path
from typing import Any

from app.evolution.history import write_boundary, write_lived
from app.evolution.lineage import Child, Life, Outcome, add_generation
from app.evolution.records import Boundary, Compared, Coverage, Lived, Metrics
from app.files.json_files import write_json
from app.runs import Run
from app.stage_settings.evolve import EvolveSettings
from app.stage_settings.grm import GrmSettings

GRM = GrmSettings(problems=("ours", "mbpp"), learning_rate=7e-5, lora_r=32, rate_band=(0.0, 0.9))
PLAIN: dict[str, Any] = {
    "learning_rate": 7e-5,
    "lora_r": 32,
    "seq_len": GRM.seq_len,
    "temperature": 1.0,
    "clip_low": 0.2,
    "clip_high": 0.28,
    "kl": 0.0,
    "rate_low": 0.0,
    "rate_high": 0.9,
    "mixture": json.dumps({"ours": 1.0, "mbpp": 1.0}),
    "num_drafts": 16,
}
GENOMES: dict[str, dict[str, Any]] = {
    "e_00000.1": PLAIN,
    "e_00001.1": PLAIN | {"learning_rate": 1.1e-4, "temperature": 0.94},
    "e_00002.1": PLAIN | {"learning_rate": 4.2e-5, "clip_high": 0.36, "rate_high": 0.75},
    "e_00003.1": PLAIN | {"temperature": 1.08, "rate_low": 0.11},
    "e_00003.2": PLAIN | {"learning_rate": 1.43e-4, "temperature": 0.94, "clip_low": 0.17},
    "e_00000_2.2": PLAIN | {"learning_rate": 1.1e-4, "temperature": 0.88, "rate_low": 0.08},
    "e_00002.3": PLAIN | {"learning_rate": 1.43e-4, "temperature": 0.87, "clip_low": 0.17, "rate_high": 0.82},
    "e_00000_2.3": PLAIN | {"learning_rate": 1.9e-4, "temperature": 0.94, "clip_low": 0.17},
}
"""By id: the trial and the generation of birth."""
FITNESS: tuple[dict[str, float], ...] = (
    {"e_00001.1": 0.262, "e_00002.1": 0.251, "imitation.1": 0.249, "e_00003.1": 0.231},
    {"imitation.2": 0.292, "e_00003.2": 0.287, "e_00001.1": 0.274, "e_00002.1": 0.259, "e_00000_2.2": 0.248},
    {"e_00002.3": 0.318, "e_00003.2": 0.301, "imitation.3": 0.295, "e_00001.1": 0.291, "e_00000_2.3": 0.283},
)
"""A dict a generation."""
BORN: dict[str, tuple[str, str]] = {
    "e_00003.2": ("e_00001.1", "e_00001"),
    "e_00000_2.2": ("e_00001.1", "e_00001"),
    "e_00002.3": ("e_00003.2", "e_00003"),
    "e_00000_2.3": ("imitation.2", "e_00003"),
}
"""Children: the parent, and the donor's trial."""
REPLACED: dict[tuple[int, str], str] = {
    (1, "e_00003.1"): "e_00003.2",
    (1, "e_00000.1"): "e_00000_2.2",
    (2, "e_00002.1"): "e_00002.3",
    (2, "e_00000_2.2"): "e_00000_2.3",
}
FRESH = {
    "num_problems": 214,
    "difference": 0.041,
    "interval_95": [0.012, 0.071],
    "num_better": 38,
    "num_worse": 19,
    "p_value": 0.016,
    "detectable": 0.07,
}
AUDIT = {
    "passing": 90,
    "audited": 50,
    "problems": 20,
    "false_passes": 1,
    "rate": {"num_problems": 20, "value": 0.02, "interval_95": [0.0, 0.09]},
    "by_source": {"mbpp": [30, 1], "ours": [20, 0]},
    "not_audited": {},
}


def trial_of(name: str) -> str:
    return name.rpartition(".")[0]


def life(generation: int, name: str) -> Life:
    """A line of the lineage."""
    child = REPLACED.get((generation, name))
    outcome = Outcome.FINISHED if generation == 3 else Outcome.REPLACED if child else Outcome.SURVIVED
    if name == "e_00000.1":
        outcome = Outcome.FAILED
    parent, _ = BORN.get(name, ("", ""))
    return Life(
        generation=generation,
        id=name,
        trial=trial_of(name),
        parent=parent,
        config=config(name, int(name.rpartition(".")[2])),
        score=FITNESS[generation - 1].get(name),
        outcome=outcome,
        replaced_by=Child(
            id=child,
            trial=trial_of(child),
            parent=BORN[child][0],
            donor=BORN[child][1],
            config=config(child, generation + 1),
        )
        if child
        else None,
    )


def config(name: str, born: int) -> dict[str, Any]:
    """As Tune carries it."""
    return {"genome": GENOMES[name], "born": born, "weights": ""}


def lineage() -> list[list[Life]]:
    """The lines of each generation, the best first; who failed comes last."""
    found = []
    for number, values in enumerate(FITNESS, 1):
        names = [name for name in values if not name.startswith("imitation")]
        found.append([life(number, name) for name in [*names, *(["e_00000.1"] if number == 1 else [])]])
    return found


def lived(generation: int, name: str, fitness: float) -> Lived:
    """Its rates give the fitness, but for rounding."""
    passed = round(1000 * fitness)
    is_imitation = name.startswith("imitation")
    return Lived(
        id=name,
        generation=generation,
        config={} if is_imitation else GENOMES.get(name, PLAIN),
        metrics=Metrics(rates={"p": (passed, 1000)}, drafts=2, num_tokens=48_000, kl=0.0),
        steps=6,
        drafts=0 if is_imitation else 1536,
        drawn_tokens=0 if is_imitation else 330_000,
        learnt_tokens=270_000,
        drafting_seconds=0.0 if is_imitation else 31.0,
        judging_seconds=0.0 if is_imitation else 4.0,
        training_seconds=24.0,
        measuring_seconds=12.0,
        peak_gib=5.2,
        reward=None if is_imitation else 0.48,
        why_ended="its tokens were spent",
    )


def boundary(generation: int) -> Boundary:
    values = FITNESS[generation - 1]
    replaced = [(name, BORN[child][0]) for (number, name), child in REPLACED.items() if number == generation]
    donors = {name: parent for name, parent in replaced if name in values}
    return Boundary(
        generation=generation,
        values=values,
        pass_at_1={name: value * 1.02 for name, value in values.items()},
        num_drafts={name: 2 if place else 4 for place, name in enumerate(values)},
        num_problems=214,
        unmeasured=(),
        imitation=f"imitation.{generation}",
        donors=donors if generation < 3 else {"e_00000_2.3": "e_00002.3"},  # decided, and nobody is replaced any more
        close=[
            Compared(first=donor, second=name, difference=0.02, errors=1.6, probability=0.945)
            for name, donor in donors.items()
        ],
        undecided=generation - 1,
        probability=0.21 + 0.1 * generation,
        survivors_probability=0.5 + 0.1 * generation,
        selection_tokens=400_000,
        budget_tokens=600_000,
        coverage=Coverage(
            generation=generation,
            problems=310,
            drafts_a_problem=16.0 * generation,
            pool=0.44 + 0.05 * generation,
            one_policy=0.45 + 0.02 * generation,
        ),
        seconds=42.0,
    )


def meta() -> dict[str, Any]:
    """As `app.evolution.stage` writes it."""
    return {
        "settings": EvolveSettings().model_dump(),
        "grm": GRM.model_dump(),
        "model": {"source": "hub", "name": "some/model"},
        "parent": "grm/problems",
        "seed": 0,
        "commit": None,
        "winner": {"id": "e_00002.3", "generation": 3, "is_imitation": False, "config": GENOMES["e_00002.3"]},
        "generations": 3,
        "individuals": 12,
        "steps": 96,
        "drafts": 20_000,
        "drawn_tokens": 4_300_000,
        "learnt_tokens": 4_200_000,
        "selection_tokens": 1_200_000,
        "start": "trunk",
        "problems": [
            {"source": "mbpp", "licence": "CC-BY-4.0", "learnt": 130},
            {"source": "ours", "licence": "MIT", "learnt": 44},
        ],
        "fresh": FRESH,
        "fresh_problems": "unseen",
        "audit": AUDIT,
        "seconds": 812.5,
    }


def write_evolution(run: Run) -> None:
    """All that the report reads of it."""
    for place, value in (("rung-1", 0.192), ("rung-2", 0.205), ("rung-3", 0.2), ("trunk", 0.226)):
        write_lived(run.individual(place, 0).folder, lived(0, place, value))
    for number, lives in enumerate(lineage(), 1):
        add_generation(run.evolve_lineage, lives)
        for name, value in FITNESS[number - 1].items():
            write_lived(run.individual(name, number).folder, lived(number, name, value))
        write_boundary(run.evolve_boundaries, boundary(number))
    write_json(run.evolve_meta, meta())


if __name__ == "__main__":
    import sys

    write_evolution(Run(Path(sys.argv[1])))
