"""The schema of a SQLite memory, as numbered steps: `PRAGMA user_version` says how many were taken.

A released step is never edited; a change is a new step.
"""

APPLICATION_ID = 0x6D656D70
"""`memp` in ASCII: tells a memory from any other SQLite file."""

MIGRATIONS = (
    # 1: the first
    """
    CREATE TABLE settings (
        name TEXT PRIMARY KEY,
        value TEXT NOT NULL
    );
    CREATE TABLE procedures (
        age INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        source TEXT NOT NULL,
        revision INTEGER NOT NULL,
        retired INTEGER NOT NULL DEFAULT 0,
        uses INTEGER NOT NULL DEFAULT 0,
        successes INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE revisions (
        id TEXT NOT NULL REFERENCES procedures (id),
        revision INTEGER NOT NULL,
        document TEXT NOT NULL,
        reason TEXT NOT NULL,
        PRIMARY KEY (id, revision)
    );
    CREATE TABLE keys (
        row INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL REFERENCES procedures (id),
        kind TEXT NOT NULL,
        text TEXT NOT NULL,
        vector BLOB NOT NULL
    );
    CREATE INDEX keys_by_procedure ON keys (id, kind);
    CREATE INDEX keys_by_kind ON keys (kind, row, id);
    CREATE TABLE credits (
        episode TEXT NOT NULL,
        id TEXT NOT NULL REFERENCES procedures (id),
        success INTEGER NOT NULL,
        PRIMARY KEY (episode, id)
    );
    CREATE TABLE tombstones (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL REFERENCES procedures (id),
        source TEXT NOT NULL,
        reason TEXT NOT NULL,
        retired TEXT NOT NULL
    );
    CREATE TABLE quarantine (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        document TEXT NOT NULL,
        kind TEXT NOT NULL
    );
    """,
    # 2: episodes that chance may leave without memory
    """
    CREATE TABLE trials (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        episode TEXT NOT NULL UNIQUE,
        source TEXT NOT NULL,
        document TEXT NOT NULL
    );
    CREATE INDEX trials_by_source ON trials (source);
    """,
)
