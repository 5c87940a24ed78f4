"""Whom to name for problems that come from data sets: their licences ask for it (CC BY 4.0, MIT)."""

from typing import NamedTuple

from app.problem_sets import apps, leetcode
from app.rights import Holder, Notice
from app.runs import REPOSITORY


class Credit(NamedTuple):
    """A data set's authors. Made here; read by whatever writes an attribution."""

    author: str
    homepage: str
    terms: str = ""
    """Further ones, which the data set's licence does not cover."""


CREDITS = {
    "mbpp": Credit(
        author="Jacob Austin, Augustus Odena, Maxwell Nye et al. (Google Research), arXiv 2108.07732",
        homepage="https://github.com/google-research/google-research/tree/master/mbpp",
    ),
    "leetcode": Credit(
        author="Yunhui Xia et al., arXiv 2504.14655",
        homepage=f"https://huggingface.co/datasets/{leetcode.HUB}",
        terms="the statements' own terms are LeetCode's",
    ),
    "apps": Credit(
        author="Dan Hendrycks et al., arXiv 2105.09938",
        homepage=f"https://huggingface.co/datasets/{apps.HUB}",
        terms="the statements' own terms are those of the contest sites",
    ),
    "pocketcoder": Credit(author="the pocketcoder developers", homepage=""),
}
"""By `Problem.source`."""
CHANGED = "changed: asked in other words, with further tests"


def credit_of(source: str) -> Credit:
    """Of a source of problems, a corpus' kind (mbpp_train) too; empty for one that is known only to who gave it."""
    return CREDITS.get(source.removesuffix("_train"), Credit(author="", homepage=""))


def notice_of(source: str, licence: str) -> Notice:
    """What has to be passed on with problems of a source."""
    credit, text = credit_of(source), ""
    lines = [f"by {credit.author}"] if credit.author else []
    if source == "pocketcoder":
        head, _, text = (REPOSITORY / "LICENSE").read_text(encoding="utf-8").partition("Copyright")
        first, _, text = text.partition("\n")
        lines, text = [f"Copyright{first}"], f"{head.strip()}\n{text.rstrip()}"
    elif credit.homepage:
        lines += [credit.homepage, CHANGED]
    return Notice(licence=licence, text=text, holders=(Holder(who=source, lines=tuple(lines)),))
