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
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from pilotage.core.errors import UsageError
from pilotage.llm.budget import Budget, Spent
from pilotage.llm.chat import ChatAnswer, ChatRequest, Token, Usage

_TABLES = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, question TEXT NOT NULL, request TEXT NOT NULL, answer TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS answers_of ON answers (question);
CREATE TABLE IF NOT EXISTS accounts (
    account TEXT PRIMARY KEY, calls INTEGER DEFAULT 0, prompt INTEGER DEFAULT 0, completion INTEGER DEFAULT 0,
    units INTEGER DEFAULT 0, interrupted INTEGER DEFAULT 0
);
CREATE TABLE IF NOT EXISTS calls_in_flight (
    id INTEGER PRIMARY KEY, account TEXT NOT NULL, owner TEXT NOT NULL, key TEXT NOT NULL,
    began REAL NOT NULL, calls INTEGER NOT NULL, prompt INTEGER NOT NULL, completion INTEGER NOT NULL,
    units INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS calls_of ON calls_in_flight (account);
"""
_SPENT = "calls, prompt, completion, units"
_LARGEST = 2**63 - 1
"""Largest whole number that the file can hold; sums above are kept as this number."""
FORMAT = 2
LOCK_TIMEOUT = 60.0
"""Seconds to wait for another process that writes."""
OTHER_HOST_SECONDS = 3600.0
"""Seconds after which a call of a process of another host, which cannot be looked at, counts as abandoned. A container
that starts again has another host name."""


@dataclasses.dataclass(frozen=True)
class Kept:
    """Answer to keep."""

    key: str
    """Key of provider and request."""
    question: str
    """Hash of the request and the model's name alone (`chat.question_of`)."""
    request: ChatRequest
    """The request."""
    answer: ChatAnswer
    """The answer."""


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

    def answered(self, question: str) -> bool:
        """Return whether there is an answer to a question, under whatever key."""
        return self._row("SELECT 1 FROM answers WHERE question = ? LIMIT 1", question) is not None

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
            row = (account, self._owner, key, time.time(), *_storable(most))
            done = self._file.execute(
                f"INSERT INTO calls_in_flight (account, owner, key, began, {_SPENT}) VALUES (?,?,?,?,?,?,?,?)", row
            )
            return int(done.lastrowid or 0)

    def settle(self, reservation: int, account: str, spent: Spent, kept: Kept | None = None) -> None:
        """End a reservation: charge the account and keep the answer.

        Args:
            reservation: number of the reservation.
            account: the account.
            spent: cost of the call.
            kept: the answer to keep; None: nothing.
        """
        with self._transaction():
            self._file.execute("DELETE FROM calls_in_flight WHERE id = ?", (reservation,))
            self._charge(account, spent)
            if kept is not None:
                row = (kept.key, kept.question, kept.request.text, json.dumps(dataclasses.asdict(kept.answer)))
                self._file.execute("INSERT OR IGNORE INTO answers VALUES (?,?,?,?)", row)

    def settle_abandoned(self, account: str) -> int:
        """End the reservations of killed processes, charged with their largest possible cost.

        Returns the number of calls, of which each may be paid for twice.
        """
        with self._transaction():
            rows = self._file.execute(
                "SELECT id, owner, began FROM calls_in_flight WHERE account = ?", (account,)
            ).fetchall()
            dead = [call for call, owner, began in rows if not _alive(owner, began)]
            for call in dead:
                row = self._file.execute(
                    f"DELETE FROM calls_in_flight WHERE id = ? RETURNING {_SPENT}", (call,)
                ).fetchone()
                self._charge(account, Spent(*row))
            self._charge(account, Spent())
            self._file.execute(
                "UPDATE accounts SET interrupted = interrupted + ? WHERE account = ?", (len(dead), account)
            )
        return len(dead)

    def spent(self, account: str) -> Spent:
        """Return what an account has spent in all processes; calls of killed ones count with their largest cost."""
        row = self._row(f"SELECT {_SPENT} FROM accounts WHERE account = ?", account)
        return Spent(*row) if row else Spent()

    def interrupted(self, account: str) -> int:
        """Return the number of calls in flight when processes were killed, over the life of the account."""
        row = self._row("SELECT interrupted FROM accounts WHERE account = ?", account)
        return int(row[0]) if row else 0

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _reserved(self, account: str) -> Spent:
        rows = self._file.execute(f"SELECT {_SPENT} FROM calls_in_flight WHERE account = ?", (account,)).fetchall()
        return sum((Spent(*row) for row in rows), Spent())

    def _charge(self, account: str, spent: Spent) -> None:
        self._file.execute("INSERT OR IGNORE INTO accounts (account) VALUES (?)", (account,))
        # The sum is Python's: SQLite's would become a float, or an error, above 2**63.
        self._file.execute(
            "UPDATE accounts SET calls = ?, prompt = ?, completion = ?, units = ? WHERE account = ?",
            (*_storable(self.spent(account) + spent), account),
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


def _storable(spent: Spent) -> tuple[int, ...]:
    return tuple(min(number, _LARGEST) for number in dataclasses.astuple(spent))


def _alive(owner: str, began: float) -> bool:
    """Return whether a process that began a call is alive; of another host, whether the call may still be under way."""
    host, number, _ = owner.rsplit("/", 2)
    if host != socket.gethostname():
        return time.time() - began < OTHER_HOST_SECONDS
    try:
        return _name_of_process(int(number)) == owner and psutil.Process(int(number)).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
