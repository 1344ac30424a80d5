"""The learning rate of a step: linear warm-up, then half a cosine (Loshchilov & Hutter, 2017; AN section 4.2)."""

import math


def learning_rate(step: int, steps: int, warmup: int, peak: float) -> float:
    """peak (step + 1)/warmup while step < warmup, then peak (1 + cos(pi t))/2, t = (step - warmup)/(steps - warmup).

    A function of the step alone (0 to steps - 1): nothing of it need be stored.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2
