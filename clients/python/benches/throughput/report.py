"""Medians and ratios of samples, as a table and as JSON, and whether the promise is kept.

Pure. Callers: `spark_throughput`.
"""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

from .measure import Sample
from .ways import BASELINE, PROMISED, Way

PROMISE = 0.60
"""The data source's part of the task time that boto3's `batch_writer` takes: at most."""


@dataclass
class Setting:
    """One shape of rows into one store, and what was measured there: samples by way, one a round."""

    shape: str
    store: str
    rows: int
    judged: bool
    """Whether the promise is about it."""
    samples: Dict[str, List[Sample]] = field(default_factory=dict)
    request_bytes_a_row: Dict[str, int] = field(default_factory=dict)
    """What the stub counted, by way: DynamoDB's JSON."""

    def ratios(self, way: str, against: str = BASELINE) -> List[float]:
        """Task time against another way's of the same round."""
        rounds = zip(self.samples.get(way, []), self.samples.get(against, []))
        return [sample.task_seconds / other.task_seconds for sample, other in rounds]

    def ratio(self, way: str, against: str = BASELINE) -> Optional[float]:
        """The median of the rounds' ratios; None where one of the two was not measured."""
        ratios = self.ratios(way, against)
        return statistics.median(ratios) if ratios else None

    @property
    def kept(self) -> Optional[bool]:
        """Whether the promise is kept here; None where it was not measured or is not judged."""
        ratio = self.ratio(PROMISED)
        return None if ratio is None or not self.judged else ratio <= PROMISE


COLUMNS = (
    *("way", "rows/s", "task time", "Python CPU", "JVM CPU", "gateway CPU", "stub CPU", "cores busy"),
    "task time against boto3's",
)
HEAD = f"| {' | '.join(COLUMNS)} |\n|---|{'---:|' * (len(COLUMNS) - 1)}"


def markdown(setting: Setting, ways: Sequence[Way]) -> str:
    """The table of a setting: medians over the rounds, and in brackets the least and the greatest ratio."""
    title = f"**{setting.shape}, {setting.store}**: {setting.rows:,} rows a write, times in µs a row"
    if setting.request_bytes_a_row:
        title += f"; a row is {statistics.median(setting.request_bytes_a_row.values()):,.0f} bytes of requests"
    lines = [title, "", HEAD]
    for way in ways:
        samples = setting.samples.get(way.name)
        if samples:
            lines.append(_line(way, samples, setting.ratios(way.name)))
    return "\n".join(lines)


def _line(way: Way, samples: Sequence[Sample], ratios: Sequence[float]) -> str:
    def micros(part: str) -> str:
        value = statistics.median(getattr(sample, part) / sample.rows for sample in samples) * 1e6
        return f"{value:,.1f}"

    def median(of: Callable[[Sample], float]) -> float:
        return statistics.median(map(of, samples))

    ratio = ""
    if ratios and way.name != BASELINE:
        ratio = f"{statistics.median(ratios):.1%} ({min(ratios):.1%} to {max(ratios):.1%})"
    parts = ("task_seconds", "python_cpu_seconds", "jvm_cpu_seconds", "gateway_cpu_seconds", "store_cpu_seconds")
    rate = median(lambda sample: sample.rows / sample.wall_seconds)
    cores = median(lambda sample: sample.cpu_seconds / sample.wall_seconds)
    cells = [way.label, f"{rate:,.0f}", *(micros(part) for part in parts), f"{cores:.2f}", ratio]
    return f"| {' | '.join(cells)} |"


def as_json(settings: Sequence[Setting], about: Mapping[str, Any]) -> Dict[str, Any]:
    """Everything that was measured."""
    described = [
        {
            **asdict(setting),
            "ratios": {way: setting.ratio(way) for way in setting.samples},
            "promise": PROMISE,
            "kept": setting.kept,
        }
        for setting in settings
    ]
    return {"about": dict(about), "settings": described}
