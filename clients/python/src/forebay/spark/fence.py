"""Who writes, and in which run: the producer's name and epoch, by which a gateway turns away older runs.

The epoch is a stream's batch id, never a task's attempt: a speculative copy would turn away the healthy one. Callers:
`task`, `helpers`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Optional

from .options import WriteOptions

# Set by Spark's streams for all their jobs. Not documented, so that a stream without them still writes.
QUERY_ID = "sql.streaming.queryId"
BATCH_ID = "streaming.sql.batchId"


@dataclass(frozen=True)
class Fence:
    """`Open.producer_id` and `Open.epoch`; None: not said."""

    producer_id: Optional[str] = None
    epoch: Optional[int] = None


def fence_of_task(options: WriteOptions, *, streaming: bool, local_property: Callable[[str], Optional[str]]) -> Fence:
    """What the options say; in a stream, what they do not say is the query's id and the batch's.

    A batch write has a fence only by options: nothing in it says which of two runs is the newer.
    """
    if not streaming:
        return Fence(options.producer_id, options.epoch)
    query, batch = local_property(QUERY_ID), local_property(BATCH_ID)
    producer_id = options.producer_id or query
    if producer_id is None or batch is None or not batch.isdigit():
        return Fence(options.producer_id)
    return Fence(producer_id, int(batch))
