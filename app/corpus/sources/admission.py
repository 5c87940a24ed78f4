"""Whether something that is about to be learnt is under a licence that the recipe takes: asked once more where rows and
problems are made, whatever was judged before, so that nothing without a licence gets further by another way.
"""

import functools

from app.corpus.recipes import Recipe, TaskSource, Tree
from app.corpus.records import Origin
from app.corpus.sources.licence_texts import licence_table
from app.corpus.sources.licences import LicenceVerdict, judge_expression, judge_stated, licensing, parsed


def not_admitted(origin: Origin, recipe: Recipe) -> str:
    """Why nothing of this origin may be learnt; empty where it may."""
    if recipe.licences.allow_non_osi:
        for source in recipe.sources:
            given = (source.kind, source.licence) if isinstance(source, TaskSource) else None
            if given == (origin.distribution, origin.licence):
                return ""
    stated = tuple(source.licence for source in recipe.sources if isinstance(source, Tree) and source.licence)
    return _refusal(origin.licence, recipe.licences.also_allow, stated)


@functools.lru_cache(maxsize=4096)
def _refusal(licence: str, also_allow: tuple[str, ...], stated: tuple[str, ...]) -> str:
    if not licence.strip():
        return "licence: none is known"
    own = {
        key for one in stated if (node := parsed(judge_stated(one).licence)) for key in licensing().license_keys(node)
    }
    allow = frozenset(also_allow) | {key for key in own if key.startswith("LicenseRef-")}
    verdict = judge_expression(licence, also_allow=allow)
    return "" if verdict.approved else f"licence: {verdict.reason}"


def judge_content(stated: str, also_allow: frozenset[str] = frozenset()) -> LicenceVerdict:
    """Verdict on the licence of a problem's text, as its owner states it: open licences, those for open content, and
    LicenseRef-NAME, which stands for rights that the owner has anyway."""
    return judge_stated(stated, also_allow=also_allow | set(licence_table()["open_content"]))
