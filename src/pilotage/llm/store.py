"""Answers, accounts and calls in flight, in one SQLite file that survives a kill and that processes may share.

An answer, its cost and the end of its call are written in one transaction, so that a kill at any moment leaves either
all of them or the call in flight. After a power cut the last answers may be asked for again; nothing is corrupted.
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
CREATE TABLE IF NOT EXISTS calls_in_flight (
    id INTEGER PRIMARY KEY, account TEXT NOT NULL, owner TEXT NOT NULL, key TEXT NOT NULL,
    calls INTEGER NOT NULL, prompt INTEGER NOT NULL, completion INTEGER NOT NULL, units INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS calls_of ON calls_in_flight (account);
"""
_SUMS = "coalesce(sum(calls), 0), coalesce(sum(prompt), 0), coalesce(sum(completion), 0), coalesce(sum(units), 0)"
FORMAT = 1
LOCK_TIMEOUT = 60.0
"""Seconds to wait for another process that writes."""


class Store:
    """Store of answers in the file at `path`, made when absent; in memory without a path.

    Raises:
        UsageError: the file is something else.
    """

    def __init__(self, path: Path | str | None = None) -> None:
        self.path = None if path is None else Path(path)
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        self._owner = _name_of_process(os.getpid())
        self._lock = threading.RLock()
        self._file = sqlite3.connect(
            self.path or ":memory:", timeout=LOCK_TIMEOUT, isolation_level=None, check_same_thread=False
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
        """Return the answer that is kept under a key."""
        row = self._row("SELECT answer FROM answers WHERE key = ?", key)
        return None if row is None else _answer_from(row[0])

    def reserve(self, account: str, key: str, most: Spent, budget: Budget) -> int | str:
        """Reserve the largest possible cost of a call that is about to be sent.

        Args:
            account: whose budget is used.
            key: key of the request.
            most: largest possible cost.
            budget: limits of the account.

        Returns:
            The number of the reservation; or the limit that would be passed, in words, with nothing reserved.
        """
        with self._transaction():
            limit = budget.over(self.spent(account) + self._reserved(account) + most)
            if limit:
                return limit
            row = (account, self._owner, key, *dataclasses.astuple(most))
            done = self._file.execute(
                "INSERT INTO calls_in_flight (account, owner, key, calls, prompt, completion, units) "
                "VALUES (?,?,?,?,?,?,?)",
                row,
            )
            return int(done.lastrowid or 0)

    def settle(
        self, reservation: int, account: str, spent: Spent, kept: tuple[str, ChatRequest, ChatAnswer] | None = None
    ) -> None:
        """End a reservation: charge the account and keep the answer.

        Args:
            reservation: number of the reservation.
            account: the account.
            spent: cost of the call.
            kept: (key, request, answer) to keep; None: nothing.
        """
        with self._transaction():
            self._file.execute("DELETE FROM calls_in_flight WHERE id = ?", (reservation,))
            self._charge(account, spent)
            if kept is not None:
                key, request, answer = kept
                row = (key, request.text, json.dumps(dataclasses.asdict(answer)))
                self._file.execute("INSERT OR IGNORE INTO answers VALUES (?,?,?)", row)

    def settle_abandoned(self, account: str) -> int:
        """End the reservations of killed processes, charged with their largest possible cost.

        Returns the number of calls, of which each may be paid for twice.
        """
        with self._transaction():
            rows = self._file.execute("SELECT id, owner FROM calls_in_flight WHERE account = ?", (account,)).fetchall()
            dead = [call for call, owner in rows if not _alive(owner)]
            for call in dead:
                row = self._file.execute(
                    "DELETE FROM calls_in_flight WHERE id = ? RETURNING calls, prompt, completion, units", (call,)
                ).fetchone()
                self._charge(account, Spent(*row))
            self._charge(account, Spent())
            self._file.execute(
                "UPDATE accounts SET interrupted = interrupted + ? WHERE account = ?", (len(dead), account)
            )
        return len(dead)

    def spent(self, account: str) -> Spent:
        """Return what an account has spent in all processes; calls of killed ones count with their largest cost."""
        return Spent(*self._row(f"SELECT {_SUMS} FROM accounts WHERE account = ?", account))

    def interrupted(self, account: str) -> int:
        """Return the number of calls in flight when processes were killed, over the life of the account."""
        row = self._row("SELECT interrupted FROM accounts WHERE account = ?", account)
        return int(row[0]) if row else 0

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _reserved(self, account: str) -> Spent:
        return Spent(*self._row(f"SELECT {_SUMS} FROM calls_in_flight WHERE account = ?", account))

    def _charge(self, account: str, spent: Spent) -> None:
        self._file.execute("INSERT OR IGNORE INTO accounts (account) VALUES (?)", (account,))
        self._file.execute(
            "UPDATE accounts SET calls = calls + ?, prompt = prompt + ?, completion = completion + ?, "
            "units = units + ? WHERE account = ?",
            (*dataclasses.astuple(spent), account),
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._file.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._file.execute("ROLLBACK")
                raise
            self._file.execute("COMMIT")

    def _row(self, query: str, *values: str) -> Any:
        with self._lock:
            return self._file.execute(query, values).fetchone()


def _answer_from(text: str) -> ChatAnswer:
    fields = json.loads(text)
    tokens = fields.pop("tokens")
    return ChatAnswer(
        **fields | {"usage": Usage(**fields["usage"])},
        tokens=None if tokens is None else tuple(Token(**token) for token in tokens),
    )


def _name_of_process(number: int) -> str:
    """Return host, number and start of a process, since numbers are reused."""
    return f"{socket.gethostname()}/{number}/{psutil.Process(number).create_time()}"


def _alive(owner: str) -> bool:
    """Return whether a process is alive; processes of other hosts count as alive."""
    host, number, _ = owner.rsplit("/", 2)
    if host != socket.gethostname():
        return True
    try:
        return _name_of_process(int(number)) == owner and psutil.Process(int(number)).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
