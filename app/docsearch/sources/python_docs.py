"""docs.python.org, by the indexes that Sphinx publishes beside its pages: what the query names, then what holds its
words. Only the pages of the best few are fetched."""

from urllib.parse import quote

from app.docsearch.found import Found, Get
from app.docsearch.records import Refused
from app.docsearch.sources.sections import text_of_part
from app.docsearch.sources.sphinx_index import Place, matching, named, read_inventory, read_search_index

HOST = "docs.python.org"
ROOT = f"https://{HOST}/3/"
MAX_PAGES = 2


class PythonDocs:
    name = "python"
    hosts = (HOST,)

    def search(self, query: str, get: Get) -> list[Found]:
        places = named(read_inventory(get(f"{ROOT}objects.inv", is_index=True).body), query)
        if len(places) < MAX_PAGES:
            index = read_search_index(get(f"{ROOT}searchindex.js", is_index=True).body)
            places += matching(index, query, top=MAX_PAGES)
        found: list[Found] = []
        for place in list(dict.fromkeys(places))[:MAX_PAGES]:
            if passage := _passage(place, get):
                found.append(passage)
        return found


def _passage(place: Place, get: Get) -> Found | None:
    url = ROOT + quote(place.path, safe="/-._~")
    try:
        text = text_of_part(get(url), place.anchor)
    except Refused as refused:
        if refused.reason == "missing":  # an index of yesterday
            return None
        raise
    anchor = f"#{quote(place.anchor, safe='-._~')}" if place.anchor else ""
    return Found(source="python", title=place.title, url=url + anchor, text=text)
