"""How plugins are ranked in a search: a stated formula of text, rating, downloads and age.

text      1 for the very name, 0.7 for a part of the id, 0.4 for a word of summary or tags, 0 without a query
rating    average / 5 x (1 - 1 / (0.25 n + 1)) for n ratings
downloads d / (1.5 m + 100), where m is the most downloads of any plugin
recency   1 for a release of today, falling to 0 within a year
factor    0.8 unless the namespace is verified, and half of it for a deprecated plugin

relevance = factor x (2 text + rating + downloads + 0.5 recency)
"""

from datetime import datetime

from msgspec import Struct

from aitbc.modules.plugins.models.tables import PluginRow

TEXT, RATING, DOWNLOADS, RECENCY = 2.0, 1.0, 1.0, 0.5
UNVERIFIED, DEPRECATED = 0.8, 0.5
YEAR_SECONDS = 365 * 86_400.0


class Relevance(Struct, frozen=True, kw_only=True):
    """Why a plugin stands where it does in a search; each part lies between 0 and 1."""

    plugin: str
    """The plugin. For example `acme.night-price`."""
    relevance: float
    """What results are sorted by: factor x (2 text + rating + downloads + 0.5 recency). For example `1.92`."""
    text: float
    """How well the query fits: 1 its very name, 0.7 a part of its id, 0.4 its summary or tags. For example `1.0`."""
    rating: float
    """Its average rating, the less the fewer there are. For example `0.4`."""
    downloads: float
    """Its downloads, against those of the most fetched one. For example `0.2`."""
    recency: float
    """How new its latest version is: 1 today, 0 after a year. For example `0.9`."""
    factor: float
    """0.8 unless its namespace is verified, and half of that where it is deprecated. For example `0.8`."""


def relevance_of(row: PluginRow, query: str, most_downloads: int, at: datetime) -> Relevance:
    """The relevance of a plugin for a query, with its parts."""
    average = row.rating_sum / row.ratings if row.ratings else 0.0
    age = (at - (row.released_at or row.created_at)).total_seconds()
    parts = {
        "text": text_of(row, query.strip().lower()),
        "rating": average / 5 * (1 - 1 / (0.25 * row.ratings + 1)),
        "downloads": row.downloads / (1.5 * most_downloads + 100),
        "recency": min(1.0, max(0.0, 1 - age / YEAR_SECONDS)),
    }
    factor = (1.0 if row.verified else UNVERIFIED) * (DEPRECATED if row.deprecated else 1.0)
    total = (
        TEXT * parts["text"] + RATING * parts["rating"] + DOWNLOADS * parts["downloads"] + RECENCY * parts["recency"]
    )
    rounded = {name: round(value, 6) for name, value in parts.items()}
    return Relevance(plugin=row.id, relevance=round(factor * total, 6), factor=factor, **rounded)


def text_of(row: PluginRow, query: str) -> float:
    """How well a query in small letters fits."""
    if not query:
        return 0.0
    if query in (row.id, row.id.partition(".")[2]):
        return 1.0
    if query in row.id:
        return 0.7
    return 0.4 if query in row.summary.lower() or any(query in tag for tag in row.tags) else 0.0
