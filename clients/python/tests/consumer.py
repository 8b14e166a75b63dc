"""A user's program. Type checkers read it strictly against the installed wheel, and it runs against FOREBAY_ENDPOINT
without extras.

Not a pytest: the point is the environment that it runs in. `run wheel` and `run types` start it.
"""

from __future__ import annotations

import asyncio
import sys
from decimal import Decimal
from typing import Dict, List, Optional

import forebay
import forebay.aio
from forebay import Outcome, ReadStatus, Receipt, RowResult

DDL = "card STRING NOT NULL, score DOUBLE, amount DECIMAL(10,2)"
TABLE = "consumer_cards"


def expect(holds: bool, what: str) -> None:
    if not holds:
        sys.exit(f"consumer: {what}")


def rows(count: int) -> List[Dict[str, object]]:
    return [{"card": f"c{at}", "score": at / 8, "amount": Decimal(at)} for at in range(count)]


def blocking() -> None:
    with forebay.connect() as client:
        client.apply_table(TABLE, ddl=DDL, key="card")

        few: Receipt = client.write(TABLE, rows(3)).receipt
        expect(few.committed_rows == 3, f"3 rows were written, and the receipt says {few}")

        refused: List[Outcome] = []
        with client.writer(TABLE, on_outcome=refused.append) as writer:
            batch: int = writer.send(rows(5_000))
            writer.send([{"card": "bad", "score": 1.0, "amount": Decimal("0.001")}])
        many: Receipt = writer.receipt
        expect(batch == 1 and many.rows == 5_001 and many.rejected_rows == 1, f"the receipt says {many}")
        expect([(one.batch, one.row, one.reason) for one in refused] == [(2, 0, "INEXACT")], f"outcomes are {refused}")

        found: RowResult = client.get(TABLE, "c4999", consistent=True)
        row: Optional[Dict[str, object]] = found.value()
        expect(row == {"card": "c4999", "score": 4999 / 8, "amount": Decimal("4999.00")}, f"the row is {row}")
        statuses = [one.status for one in client.get_many(TABLE, ["c1", "nobody"], consistent=True)]
        expect(statuses == [ReadStatus.FOUND, ReadStatus.NOT_FOUND], f"the statuses are {statuses}")

        try:
            client.write(TABLE, [{"card": "bad", "score": 1.0, "amount": Decimal("0.001")}])
        except forebay.RowsRejected as error:
            first: Outcome = error.outcomes[0]
            expect(first.field_path == "amount", f"the place is {first.field_path}")
        else:
            expect(False, "a row with too many digits was taken")


async def concurrent() -> None:
    async with forebay.aio.connect() as client:
        found: List[RowResult] = await asyncio.gather(*(client.get(TABLE, f"c{at}") for at in range(3)))
        expect([one["score"] for one in found] == [0.0, 0.125, 0.25], "rows read concurrently are others")
        async with client.writer(TABLE) as writer:
            await writer.send(rows(10))
        expect(writer.receipt.committed_rows == 10, f"the receipt says {writer.receipt}")


if __name__ == "__main__":
    blocking()
    asyncio.run(concurrent())
    print(f"{len(sys.modules)} modules loaded, and no pyarrow: {'pyarrow' not in sys.modules}")
