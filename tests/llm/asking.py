"""A client to be killed: `python -m tests.llm.asking ADDRESS STORE COUNT CONCURRENCY` asks COUNT questions."""

from __future__ import annotations

import sys

from pilotage.llm import ChatRequest, OpenAICompatible, Service, Store, say


def questions(count: int) -> list[ChatRequest]:
    return [ChatRequest(say(f"question {number}"), max_tokens=50) for number in range(count)]


def main() -> None:
    address, path, count, concurrency = sys.argv[1:]
    with Service(
        OpenAICompatible("tiny", base_url=address), store=Store(path), account="run", concurrency=int(concurrency)
    ) as service:
        print("asking", flush=True)
        service.ask(questions(int(count)))


if __name__ == "__main__":
    main()
