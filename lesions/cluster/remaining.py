"""Estimate how long a run will still take, from the work of its stages and the time of those that are done."""


class Remaining:
    """work: what each stage has to do, in any unit, beside starting and ending, which takes `start` seconds. took: the
    seconds of those that are done."""

    def __init__(self, work: dict[str, float], start: float) -> None:
        self.work, self.start, self.took = work, start, dict[str, float]()

    def seconds(self, names: list[str], workers: int) -> float | None:
        """Return the seconds that `names` will take side by side; None before anything tells how fast work goes."""
        rest = [self.work.get(name, 0.0) for name in names]
        ran = [name for name, took in self.took.items() if self.work.get(name) and took > self.start]  # not cached
        known, spent = sum(self.work[name] for name in ran), sum(self.took[name] - self.start for name in ran)
        if any(rest) and not known:
            return None
        each = [self.start + one * spent / (known or 1) for one in rest]
        return max([sum(each) / max(1, workers), *each], default=0.0)
