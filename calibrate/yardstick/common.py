"""Constants that the driver and the section processes share."""

# The budget is shared in these proportions; what a section leaves over goes to those after it.
WEIGHTS = {
    "ceilings": 75,
    "attention": 240,
    "layer": 150,
    "gemm": 160,
    "interference": 50,
    "memory_bound": 100,
    "head": 45,
    "optimizer": 30,
    "nccl": 40,
}
POINT_LIMIT_S = 75  # a point that takes longer is recorded as `timeout`, its process restarted
POISONED, ORPHANED = 3, 4  # exit codes of a section process: restart me / do not
MB = 1 << 20


def quantile(values, q):
    ordered = sorted(values)
    at = q * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def first_line(error):
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def failure_status(error):
    text = str(error).lower()
    if "out of memory" in text:
        return "out_of_memory"
    lacking = isinstance(
        error, (AttributeError, ImportError, NotImplementedError, TypeError, OSError)
    )
    words = (
        "no available kernel",
        "not support",
        "unsupported",
        "not implement",
        "no execution plan",
        "invalid backend",
    )
    return "unsupported" if lacking or any(w in text for w in words) else "error"
