"""Answers, accounts and calls under way, in one SQLite file that survives a kill and that processes may share.

An answer, its cost and the end of its call are written in one transaction, so a kill at any moment leaves either all
of them or the call under way. After a power cut the last of them may be asked for again; nothing is corrupted.
"""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from pilotage.core.errors import UsageError
from pilotage.llm.budget import Budget, Spent
from pilotage.llm.chat import ChatAnswer, ChatRequest, Token, Usage

_TABLES = """
CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, request TEXT NOT NULL, answer TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS accounts (
    account TEXT PRIMARY KEY, calls INTEGER DEFAULT 0, prompt INTEGER DEFAULT 0, completion INTEGER DEFAULT 0,
    units INTEGER DEFAULT 0, interrupted INTEGER DEFAULT 0
);
CREATE TABLE IF NOT EXISTS flights (
    id INTEGER PRIMARY KEY, account TEXT NOT NULL, owner TEXT NOT NULL, key TEXT NOT NULL,
    calls INTEGER NOT NULL, prompt INTEGER NOT NULL, completion INTEGER NOT NULL, units INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS flights_of ON flights (account);
"""
_SUMS = "coalesce(sum(calls), 0), coalesce(sum(prompt), 0), coalesce(sum(completion), 0), coalesce(sum(units), 0)"
FORMAT = 1
PATIENCE = 60.0
"""Seconds to wait for another process that writes."""


class Store:
    """The file at `path`, made when absent; without a path it lives in memory and ends with the process.

    Raises UsageError where the file is something else."""

    def __init__(self, path: Path | str | None = None) -> None:
        self.path = None if path is None else Path(path)
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        self._owner = _name_of_process(os.getpid())
        self._turn = threading.RLock()
        self._file = sqlite3.connect(
            self.path or ":memory:", timeout=PATIENCE, isolation_level=None, check_same_thread=False
        )
        try:
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute("PRAGMA synchronous=NORMAL")
            (version,) = self._file.execute("PRAGMA user_version").fetchone()
            if version not in (0, FORMAT):
                raise UsageError(f"{path} has the format {version}, and this version reads {FORMAT}; use another file")
            self._file.executescript(_TABLES)
            self._file.execute(f"PRAGMA user_version={FORMAT}")
        except sqlite3.DatabaseError as error:
            self._file.close()
            raise UsageError(f"{path} is no store of answers ({error}); give another file, or move it away") from None
        except UsageError:
            self._file.close()
            raise

    def answer(self, key: str) -> ChatAnswer | None:
        """The answer that is kept under a key."""
        row = self._row("SELECT answer FROM answers WHERE key = ?", key)
        return None if row is None else _answer_from(row[0])

    def reserve(self, account: str, key: str, most: Spent, budget: Budget) -> int | str:
        """Notes a call that is about to be sent, and what it can take at most.

        Returns the number of the flight, or the limit, in words, that it could pass; then nothing is noted."""
        with self._transaction():
            limit = budget.over(self.spent(account) + self._reserved(account) + most)
            if limit:
                return limit
            row = (account, self._owner, key, *dataclasses.astuple(most))
            done = self._file.execute(
                "INSERT INTO flights (account, owner, key, calls, prompt, completion, units) VALUES (?,?,?,?,?,?,?)",
                row,
            )
            return int(done.lastrowid or 0)

    def settle(
        self, flight: int, account: str, spent: Spent, kept: tuple[str, ChatRequest, ChatAnswer] | None = None
    ) -> None:
        """Ends a flight: adds what it took to the account, and keeps (key, request, answer)."""
        with self._transaction():
            self._file.execute("DELETE FROM flights WHERE id = ?", (flight,))
            self._charge(account, spent)
            if kept is not None:
                key, request, answer = kept
                row = (key, request.text, json.dumps(dataclasses.asdict(answer)))
                self._file.execute("INSERT OR IGNORE INTO answers VALUES (?,?,?)", row)

    def sweep(self, account: str) -> int:
        """Ends the flights of killed processes, charging the account the most that they can have taken.

        Returns how many calls they were: the most that can be paid for twice."""
        with self._transaction():
            rows = self._file.execute("SELECT id, owner FROM flights WHERE account = ?", (account,)).fetchall()
            dead = [flight for flight, owner in rows if not _alive(owner)]
            for flight in dead:
                row = self._file.execute(
                    "DELETE FROM flights WHERE id = ? RETURNING calls, prompt, completion, units", (flight,)
                ).fetchone()
                self._charge(account, Spent(*row))
            self._charge(account, Spent())
            self._file.execute(
                "UPDATE accounts SET interrupted = interrupted + ? WHERE account = ?", (len(dead), account)
            )
        return len(dead)

    def spent(self, account: str) -> Spent:
        """What an account has spent, in this process and all others, flights of killed ones at their most."""
        return Spent(*self._row(f"SELECT {_SUMS} FROM accounts WHERE account = ?", account))

    def interrupted(self, account: str) -> int:
        """Calls under way when processes were killed, over the account's life."""
        row = self._row("SELECT interrupted FROM accounts WHERE account = ?", account)
        return int(row[0]) if row else 0

    def close(self) -> None:
        self._file.close()

    def _reserved(self, account: str) -> Spent:
        return Spent(*self._row(f"SELECT {_SUMS} FROM flights WHERE account = ?", account))

    def _charge(self, account: str, spent: Spent) -> None:
        self._file.execute("INSERT OR IGNORE INTO accounts (account) VALUES (?)", (account,))
        self._file.execute(
            "UPDATE accounts SET calls = calls + ?, prompt = prompt + ?, completion = completion + ?, "
            "units = units + ? WHERE account = ?",
            (*dataclasses.astuple(spent), account),
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._turn:
            self._file.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._file.execute("ROLLBACK")
                raise
            self._file.execute("COMMIT")

    def _row(self, query: str, *values: str) -> Any:
        with self._turn:
            return self._file.execute(query, values).fetchone()


def _answer_from(text: str) -> ChatAnswer:
    fields = json.loads(text)
    tokens = fields.pop("tokens")
    return ChatAnswer(
        **fields | {"usage": Usage(**fields["usage"])},
        tokens=None if tokens is None else tuple(Token(**token) for token in tokens),
    )


def _name_of_process(number: int) -> str:
    """Host, number and start of a process: a number alone is given out again."""
    return f"{socket.gethostname()}/{number}/{psutil.Process(number).create_time()}"


def _alive(owner: str) -> bool:
    """Whether a process lives. Those of other hosts cannot be asked, and count as alive."""
    host, number, _ = owner.rsplit("/", 2)
    if host != socket.gethostname():
        return True
    try:
        return _name_of_process(int(number)) == owner and psutil.Process(int(number)).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
