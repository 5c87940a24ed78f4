"""What cards can do by their makers' datasheets, and which one a plan is for."""

from dataclasses import dataclass

from app.hardware import describe
from app.settings import Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    name: str
    tflops: float
    """10^12 operations a second: dense products of 16-bit numbers, added up in 32 bits."""
    gb_per_s: float
    """10^9 bytes a second, of its memory."""
    gib: float


CARDS = {
    name: Card(name=name, tflops=tflops, gb_per_s=gb_per_s, gib=gib)
    for name, tflops, gb_per_s, gib in (
        # GeForce: with 16-bit sums twice as much, with zeros left out twice as much again (GA102, GA104 and Ada papers)
        ("RTX 3060", 25.5, 360, 12), ("RTX 3070", 40.6, 448, 8), ("RTX 3070 Ti", 43.5, 608, 8),
        ("RTX 3080", 59.5, 760, 10), ("RTX 3090", 71.2, 936, 24), ("RTX 4060", 30.2, 272, 8),
        ("RTX 4070", 58.3, 504, 12), ("RTX 4090", 165.2, 1008, 24),
        ("H100 80GB HBM3", 989.4, 3350, 80), ("H200", 989.4, 4800, 141),
    )
}  # fmt: skip


def find_card(name: str) -> Card | None:
    """The card of the driver's whole name: a Ti, a laptop's or a PCIe card is another one. None for a card not in the
    table."""
    return CARDS.get(name.removeprefix("NVIDIA ").removeprefix("GeForce "))


def present_card() -> tuple[str, float] | None:
    """Name of this machine's first card, and its memory in GiB; None without one."""
    cards = describe()["cards"]
    if not cards:
        return None
    name, _, memory = cards[0].rpartition(",")
    return name.strip(), int(memory.split()[0]) / 1024


def reference_card(profile: Profile) -> Card:
    """The card that a profile is made for, with 8 GiB or with 24, by what its server may take of it."""
    return CARDS["RTX 3090" if profile.serving.vram_gib > 12 else "RTX 3070"]
