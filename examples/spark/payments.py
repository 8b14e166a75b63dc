"""The service of the fraud example, a process of its own: it makes payments, and waits for the score of each.

It stands where a company's payment service and its event stream are. Each payment is a line of JSON on a TCP port, stamped with the
moment at which it was made; whoever scores payments connects and reads them. At the same time the service asks Forebay for the
scores of all payments that have none yet, again and again, and notes when each is FOUND for the first time. It shares nothing with
the scorer but the payments and the table.

Whenever a score is found, the account's row is read, too. It was written in one transaction with the score, so that it must be of
this payment or of a later one of the account; if it is older, the transaction was seen by halves, and that is an error.

Prints `port N` when it listens. `--results` gets a line of JSON for each payment. Exit code 1: a payment was not found in time, or
was seen by halves, or the scorer left before the last payment.

Called by `fraud_scores.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Dict, List, Optional

import forebay
import forebay.aio

TABLE = "fraud"
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass
class Payment:
    """A payment, and what became of it. Moments are microseconds since 1970, of this machine's clock."""

    payment_id: str
    number: int
    """Counts the payments, from 0: a later payment has a greater one."""
    account_id: str
    amount: float
    merchant_risk: float
    abroad: bool
    happened_at: int = 0
    found_at: Optional[int] = None
    row: Optional[Dict[str, Any]] = None

    def line(self) -> bytes:
        """The event, as the scorer gets it."""
        event = {name: value for name, value in vars(self).items() if name not in ("found_at", "row")}
        return json.dumps(event).encode() + b"\n"


def micros() -> int:
    """Now, in microseconds since 1970."""
    return time.time_ns() // 1000


def plain(value: Any) -> Any:
    """A row's value as JSON has it: moments as microseconds, decimals as text."""
    if isinstance(value, datetime):
        return (value - EPOCH) // timedelta(microseconds=1)
    return str(value) if isinstance(value, Decimal) else value


def payments(count: int, accounts: int, seed: int) -> List[Payment]:
    """Payments to make: the same for the same seed."""
    chance = random.Random(seed)
    return [
        Payment(
            payment_id=f"{seed}-{number:06}",
            number=number,
            account_id=f"{seed}-account-{chance.randrange(accounts):03}",
            amount=round(chance.lognormvariate(3.5, 1.2), 2),
            merchant_risk=round(chance.random(), 3),
            abroad=chance.random() < 0.1,
        )
        for number in range(count)
    ]


class Service:
    """Makes payments and looks for their scores."""

    def __init__(self, client: forebay.aio.AsyncClient, made: List[Payment], arguments: argparse.Namespace) -> None:
        self.client = client
        self.made = made
        self.per_second: float = arguments.per_second
        self.poll_every: float = arguments.poll_every
        self.warm_up: int = arguments.warm_up
        self.deadline: float = arguments.deadline
        self.waiting: Dict[str, Payment] = {}
        self.all_made = asyncio.Event()
        self.scorer_left = False
        self.torn = 0
        self.polls = 0

    async def make(self, _reader: asyncio.StreamReader, scorer: asyncio.StreamWriter) -> None:
        """Sends the payments to the scorer that has connected, evenly; after the warm-up it waits until those are scored."""
        due = time.monotonic()
        for number, payment in enumerate(self.made):
            if number == self.warm_up:
                give_up = time.monotonic() + self.deadline
                while self.waiting and not scorer.is_closing():
                    if time.monotonic() > give_up:
                        # The payments that are not made count as not found.
                        self.all_made.set()
                        return
                    await asyncio.sleep(self.poll_every)
                due = time.monotonic()
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due += 1.0 / self.per_second
            if scorer.is_closing():
                self.scorer_left = True
                return
            payment.happened_at = micros()
            scorer.write(payment.line())
            self.waiting[payment.payment_id] = payment
        await scorer.drain()
        self.all_made.set()

    async def look(self) -> None:
        """Asks for the scores that are not there yet until all are, or until the deadline after the last payment."""
        last_made: Optional[float] = None
        while (not self.all_made.is_set() or self.waiting) and not self.scorer_left:
            if self.all_made.is_set():
                last_made = last_made or time.monotonic()
                if time.monotonic() > last_made + self.deadline:
                    return
            asked = list(self.waiting.values())
            if asked:
                self.polls += 1
                results = await self.client.get_many(TABLE, [("score", payment.payment_id) for payment in asked])
                now = micros()
                found = []
                for payment, result in zip(asked, results):
                    # Raises where it is not known whether there is a row: that must not look like a missing one.
                    row = result.value()
                    if row is not None:
                        payment.found_at = now
                        payment.row = row
                        del self.waiting[payment.payment_id]
                        found.append(payment)
                await self.look_at_accounts(found)
            await asyncio.sleep(self.poll_every)

    async def look_at_accounts(self, found: List[Payment]) -> None:
        """An account's row is at least as new as any score of it that can be seen."""
        if not found:
            return
        keys = [("account", payment.account_id) for payment in found]
        for payment, result in zip(found, await self.client.get_many(TABLE, keys, consistent=True)):
            row = result.value()
            if row is None or row["number"] < payment.number:
                self.torn += 1


async def serve(arguments: argparse.Namespace) -> int:
    """Runs the service. Returns its exit code."""
    made = payments(arguments.payments, arguments.accounts, arguments.seed)
    async with forebay.aio.connect(arguments.endpoint) as client:
        service = Service(client, made, arguments)
        server = await asyncio.start_server(service.make, "127.0.0.1", 0)
        print("port", server.sockets[0].getsockname()[1], flush=True)
        # The scorer's end of the stream stays open until all is found: a stream does not end.
        await service.look()
        server.close()
    with open(arguments.results, "w", encoding="utf-8") as results:
        for payment in made:
            row = None if payment.row is None else {name: plain(value) for name, value in payment.row.items()}
            results.write(json.dumps({**vars(payment), "row": row}) + "\n")
    if service.scorer_left:
        print("service: the scorer has left before the last payment was made", file=sys.stderr)
        return 1
    missing = sum(1 for payment in made if payment.found_at is None)
    print(
        f"service: {len(made)} payments, {missing} without a score, {service.torn} seen by halves, {service.polls} polls"
    )
    return 1 if missing or service.torn else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--endpoint", help="the gateway; default: FOREBAY_ENDPOINT, or this machine's")
    parser.add_argument("--payments", type=int, default=1000)
    parser.add_argument("--accounts", type=int, default=50)
    parser.add_argument("--per-second", type=float, default=50.0)
    parser.add_argument("--warm-up", type=int, default=0, help="payments that must be found before the others are made")
    parser.add_argument("--poll-every", type=float, default=0.002, help="seconds between two looks")
    parser.add_argument(
        "--deadline", type=float, default=60.0, help="seconds after the last payment in which all must be found"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--results", required=True)
    return asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
