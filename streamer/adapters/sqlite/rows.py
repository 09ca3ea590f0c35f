"""Tables of a cache file, and the statements that are the same in all versions of it. Pure: no connection, no clock.

Rows lie in the order in which they were stored, and an index finds them by their place (see `entries`). If the place
were the number of the row, one tree would do instead of two, and a hit would read one page less. But new rows would
then go into the middle of full pages, at three times the cost.
"""

from __future__ import annotations

from typing import Any, TypeAlias

Row: TypeAlias = tuple[Any, ...]

VERSION = 2  # of the files that are made
HOUR = 3600.0  # how finely the last use is known: an entry's row is touched at most this often

PAGE_SIZES = (4096, 8192, 16384)
PAGE_HEADER_BYTES = 8
BESIDE_VECTOR_BYTES = 80  # of a row
TOLERATED_WASTE = 0.05  # of a page, to have smaller ones
LOG_BYTES = 16_384_000  # after which its pages go to the file: SQLite's own bound is 1000 pages, of whatever size

# The vacuum mode comes before the first table, as the page size does: both are settled with the first page.
PRAGMAS = (
    "PRAGMA auto_vacuum = INCREMENTAL",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",  # power loss may cost the last transactions, never the file
    "PRAGMA temp_store = MEMORY",
    "PRAGMA journal_size_limit = 67108864",
)

# For a file of one process: the log's index is in its own memory then, so that no shared memory is needed.
EXCLUSIVE = "PRAGMA locking_mode = EXCLUSIVE"

# Rows this big belong in a rowid table: WITHOUT ROWID takes a fifth of the inserts a second.
TABLES = (
    "CREATE TABLE space (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, description TEXT NOT NULL)",
    """CREATE TABLE entry (
        id INTEGER PRIMARY KEY, space_id INTEGER NOT NULL, place INTEGER NOT NULL, key BLOB NOT NULL,
        vector BLOB NOT NULL, tokens INTEGER NOT NULL, truncated INTEGER NOT NULL, checksum INTEGER NOT NULL,
        created REAL NOT NULL, used INTEGER NOT NULL, UNIQUE (space_id, place))""",
    "CREATE INDEX entry_created ON entry (created)",
    "CREATE INDEX entry_used ON entry (used, created)",
    f"PRAGMA user_version = {VERSION}",
)

FIND_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table'"
ADD_SPACE = "INSERT INTO space (name, description) VALUES (?, ?) ON CONFLICT DO NOTHING"
FIND_SPACE = "SELECT id FROM space WHERE name = ?"
TOUCH = "UPDATE entry SET used = ? WHERE id = ?"
DISCARD = "DELETE FROM entry WHERE id = ? AND created IS ?"
PURGE = "DELETE FROM entry WHERE id IN (SELECT id FROM entry WHERE created <= ? OR created >= ? LIMIT ?)"
LEAST_USED = "SELECT id FROM entry ORDER BY used, created LIMIT ?"
DELETE = "DELETE FROM entry WHERE id = ?"
CLEAR = "DELETE FROM entry WHERE id IN (SELECT id FROM entry LIMIT ?)"
PAGES = """SELECT p.page_count - f.freelist_count, f.freelist_count, s.page_size
    FROM pragma_page_count p, pragma_freelist_count f, pragma_page_size s"""
COUNT = """SELECT name || ' ' || description, (SELECT count(*) FROM entry WHERE space_id = space.id)
    FROM space ORDER BY space.id"""


def page_size(dimensions: int) -> int:
    """Bytes of a page of a new file: the smallest size that whole rows fill well, else the largest.

    A hit copies two pages, however little of them it needs. What a page has left after its last whole row is wasted.
    """
    row = 4 * dimensions + BESIDE_VECTOR_BYTES
    filled = {size: (size - PAGE_HEADER_BYTES) // row * row / size for size in PAGE_SIZES}
    enough = max(filled.values()) - TOLERATED_WASTE
    return min((size for size in PAGE_SIZES if filled[size] > 0 and filled[size] >= enough), default=max(PAGE_SIZES))
