"""Mutated genomes stay in the space, differ from the living, are the same each time, and give valid settings."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any, get_args

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from app.errors import UserError
from app.evolution.records import Genome
from app.profiles import PROFILES
from app.stage_settings.evolve import EvolveSettings, Gene
from app.stage_settings.grm import GrmSettings
from tune_spaces.alpha_evolve import (
    NEAR,
    SPACE,
    TRIES,
    Choice,
    Space,
    config_of,
    default_genome,
    distance,
    first_population,
    genes_outside,
    genome_of,
    mutated,
    settings_of,
    space_of,
)

GENES: tuple[Gene, ...] = get_args(Gene)
GRM = GrmSettings(problems=("ours", "mbpp", "leetcode=/data/train.jsonl"))
DEFAULT = default_genome(GRM)


@st.composite
def grms(draw: st.DrawFn) -> GrmSettings:
    """Settings of a run, some of them outside the ranges of evolution."""
    ratio, rank = draw(st.sampled_from([0.25, 1, 2])), draw(st.sampled_from([4, 8, 16, 32, 64]))
    low = draw(st.floats(0, 0.9))
    return GrmSettings(
        problems=draw(st.lists(st.sampled_from(["ours", "mbpp", "mined", "my.jsonl"]), min_size=1, unique=True)),
        rate_band=(low, low + draw(st.floats(0.01, 1))),
        lora_r=rank,
        lora_alpha=int(ratio * rank),
        learning_rate=draw(st.floats(1e-6, 1e-2)),
        temperature=draw(st.floats(0.1, 2)),
        clip_low=draw(st.floats(0.01, 0.99)),
        clip_high=draw(st.floats(0.01, 2)),
        kl=draw(st.sampled_from([0.0, 2e-3, 1.0])),
        num_drafts=draw(st.sampled_from([2, 12, 16, 64])),
        prompts_per_step=draw(st.integers(1, 64)),
        max_new_tokens=draw(st.sampled_from([16, 512, 1024])),
        seq_len=2048,
    )


@given(grm=grms(), seed=st.integers(0, 2**31), genes=st.sets(st.sampled_from(GENES), min_size=1))
@settings(max_examples=150, deadline=None)
def test_descendants_stay_in_the_space_round_trip_and_give_valid_settings(
    grm: GrmSettings, seed: int, genes: set[Gene]
) -> None:
    space, genome = space_of(grm), default_genome(grm)
    for generation in range(4):
        child = mutated(genome, seed, 0, generation, genes=genes, living=[genome], space=space)
        assert not genes_outside(child.genome, space)
        assert genome_of(config_of(child.genome)) == genome_of(json.loads(json.dumps(config_of(child.genome))))
        assert genome_of(config_of(child.genome)) == child.genome
        made = settings_of(child.genome, grm)
        assert default_genome(made) == dataclasses.replace(child.genome, mixture=default_genome(grm).mixture)
        assert made.lora_alpha * grm.lora_r == grm.lora_alpha * made.lora_r
        assert {one.gene for one in child.mutations} <= genes
        old, new = config_of(genome), config_of(child.genome)
        assert {one.gene: (one.before, one.after) for one in child.mutations} == {
            gene: (old[gene], new[gene]) for gene in old if old[gene] != new[gene]
        }
        assert child.is_new == (distance(child.genome, genome, space) > NEAR)
        genome = child.genome


@given(seeds=st.lists(st.integers(0, 99), min_size=3, max_size=3), other=st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_a_child_depends_on_seed_individual_and_generation_alone(seeds: list[int], other: int) -> None:
    seed, individual, generation = seeds
    child = mutated(DEFAULT, seed, individual, generation, genes=GENES)
    assert child == mutated(DEFAULT, seed, individual, generation, genes=GENES)
    for place in range(3):
        assume(other != seeds[place])
        keys = [*seeds[:place], other, *seeds[place + 1 :]]
        assert child.genome != mutated(DEFAULT, *keys, genes=GENES).genome


def test_a_child_is_the_same_on_every_machine() -> None:
    child = mutated(DEFAULT, 0, 1, 2, genes=EvolveSettings().genes)
    assert [(one.gene, one.before, one.after) for one in child.mutations] == [
        ("learning_rate", 7e-05, 0.000139),
        ("temperature", 1.0, 0.916),
        ("rate_low", 0.0, 0.117),
        ("rate_high", 0.9, 0.723),
    ]


def test_every_gene_mutates_where_it_may_and_none_where_it_may_not() -> None:
    for genes in (EvolveSettings().genes, GENES):
        seen = {one.gene for seed in range(40) for one in mutated(DEFAULT, seed, 0, 0, genes=genes).mutations}
        assert seen == set(genes)
    assert not {"lora_r", "seq_len"} & set(EvolveSettings().genes), "they cost the optimiser's moments"


def test_the_first_population_is_the_runs_settings_and_variants_of_them() -> None:
    for profile in PROFILES.values():
        grm = profile().grm
        found = first_population(grm, EvolveSettings(population=6), seed=3)
        assert settings_of(found[0].genome, grm) == grm and found[0].mutations == ()
        assert all(one.is_new and one.mutations for one in found[1:])
        genomes, space = [one.genome for one in found], space_of(grm)
        away = [distance(one, other, space) for place, one in enumerate(genomes) for other in genomes[:place]]
        assert min(away) > NEAR


def test_a_near_duplicate_of_the_living_is_drawn_again() -> None:
    first = mutated(DEFAULT, 5, 1, 1, genes=GENES, living=[DEFAULT])
    other = mutated(DEFAULT, 5, 1, 1, genes=GENES, living=[DEFAULT, first.genome])
    assert other.is_new and other.tries > first.tries
    assert distance(other.genome, first.genome, SPACE) > NEAR
    nearly = dataclasses.replace(first.genome, learning_rate=first.genome.learning_rate * 1.01)
    assert mutated(DEFAULT, 5, 1, 1, genes=GENES, living=[DEFAULT, nearly]).genome == other.genome


def ranks(*values: int) -> list[Genome]:
    return [dataclasses.replace(DEFAULT, lora_r=value) for value in values]


@pytest.mark.parametrize(
    ("genes", "living", "space", "lora_r"),
    [
        (("lora_r",), ranks(32, 16), SPACE, 16),
        (("lora_r",), ranks(32), {**SPACE, "lora_r": Choice(values=(32,))}, 32),
        (("lora_r",), [], {**SPACE, "lora_r": Choice(values=(32,))}, 32),
    ],
    ids=["the only neighbour lives", "no other value", "no other value, and none lives"],
)
def test_where_nothing_new_can_be_drawn_the_tries_end_and_the_child_says_so(
    genes: Sequence[Gene], living: list[Genome], space: Space, lora_r: int
) -> None:
    child = mutated(DEFAULT, 0, 0, 1, genes=genes, living=living, space=space)
    assert (child.is_new, child.tries, child.genome.lora_r) == (False, TRIES, lora_r)


def test_the_most_distant_of_near_ones_is_taken() -> None:
    """Temperature alone moves: the living leave no room that a step reaches."""
    living = [dataclasses.replace(DEFAULT, temperature=value) for value in (0.9, 0.93, 0.97, 1.0, 1.03, 1.07, 1.1)]
    child = mutated(DEFAULT, 0, 0, 1, genes=("temperature",), living=living)
    nearest = min(distance(child.genome, other, SPACE) for other in living)
    assert not child.is_new and 0.03 < nearest <= NEAR


def test_a_mixture_with_the_same_shares_is_no_other_mixture() -> None:
    twice = dataclasses.replace(DEFAULT, mixture=tuple((source, 2.0) for source, _ in DEFAULT.mixture))
    assert distance(DEFAULT, twice, SPACE) == 0


def test_bands_of_difficulty_keep_their_least_width() -> None:
    genome = dataclasses.replace(DEFAULT, rate_low=0.3, rate_high=0.56)
    for seed in range(200):
        child = mutated(genome, seed, 0, 0, genes=("rate_low", "rate_high")).genome
        assert child.rate_high - child.rate_low >= 0.25 - 1e-9


def test_a_step_keeps_its_drafts_and_a_rank_its_scale() -> None:
    genome = dataclasses.replace(DEFAULT, num_drafts=8, lora_r=8, seq_len=1024, kl=1e-3, rate_low=0.25)
    made = settings_of(genome, GRM)
    assert (made.num_drafts, made.prompts_per_step) == (8, 64)
    assert (made.lora_r, made.lora_alpha) == (8, 8)
    assert (made.seq_len, made.kl, made.rate_band) == (1024, 1e-3, (0.25, 0.9))


def test_the_space_leaves_out_what_the_runs_settings_exclude() -> None:
    grm = GrmSettings(lora_r=64, lora_alpha=16, max_new_tokens=1024)
    space = space_of(grm)
    assert space["lora_r"] == Choice(values=(4, 8, 16, 32, 64)) and space["seq_len"] == Choice(values=(2048, 4096))
    assert space_of(GrmSettings(lora_r=32, lora_alpha=4))["lora_r"] == Choice(values=(8, 16, 32))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"seq_len": 512}, "grm.max_new_tokens=512 leaves no room for a prompt in rows of 512"),
        ({"temperature": 3.0}, "grm.temperature=3.0: Input should be less than or equal to 2"),
        ({"rate_low": 0.95}, r"grm.rate_band=\(0.95, 0.9\) holds no solve rate"),
        ({"mixture": (("ours", 1.0),)}, "the genome mixes ours, and grm.problems is ours, mbpp, leetcode=/data"),
    ],
)
def test_a_genome_that_no_training_can_have_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        settings_of(dataclasses.replace(DEFAULT, **changed), GRM)


def test_a_parent_outside_the_space_is_refused() -> None:
    with pytest.raises(UserError, match=r"lora_r=64 is not what evolution searches \(one of 4, 8, 16, 32\)"):
        mutated(dataclasses.replace(DEFAULT, lora_r=64), 0, 0, 0, genes=GENES)
    with pytest.raises(UserError, match=r"temperature=2.0 is not what evolution searches \(0.6 to 1.2\)"):
        mutated(dataclasses.replace(DEFAULT, temperature=2.0), 0, 0, 0, genes=GENES)


def test_a_config_may_carry_more_but_nothing_else_for_a_gene() -> None:
    config: dict[str, Any] = config_of(DEFAULT)
    assert all(isinstance(value, int | float | str) for value in config.values()) and set(config) == set(GENES)
    assert genome_of(config | {"seed": 3, "lora_r": 32.0}) == DEFAULT
    for gene, value in [
        ("lora_r", 31.5),
        ("lora_r", float("inf")),
        ("kl", "0.1"),
        ("temperature", float("nan")),
        ("mixture", "ours"),
        ("mixture", "[1]"),
        ("mixture", '{"ours": NaN}'),
    ]:
        with pytest.raises(UserError, match=f"{gene}=.* is no gene"):
            genome_of(config | {gene: value})
    with pytest.raises(UserError, match="kl='missing'"):
        genome_of({gene: value for gene, value in config.items() if gene != "kl"})
