"""A victim's step taken apart into its stages, each timed by itself."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

import numpy as np

from tests.benchmarks.machine import wait
from tests.benchmarks.workload import Workload
from victims.clip import clamp_scale, clip_loss, to_device
from victims.optimizers import make_optimizer
from victims.tokens import trim


def stage_seconds(load: Workload, steps: int, warm: int) -> dict[str, float]:
    """Median seconds of each stage of a victim's step on a whole batch.

    The towers' backward passes start from the loss's gradient by their features, so they can be told apart.

    Args:
        load: the victim and its data.
        steps: that count.
        warm: steps before them.
    """
    model, seconds = load.model, defaultdict[str, list[float]](list)

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        wait(model.device)
        start = time.perf_counter()
        yield
        wait(model.device)
        seconds[name].append(time.perf_counter() - start)

    tokens = model.tokenizer([own[0] for own in load.train.captions])
    table = model.token_table(tokens)
    optimizer = make_optimizer(model, load.recipe)
    table.follow(optimizer)
    model.train()
    for step in range(warm + steps):
        rows = (np.arange(load.batch) + step * load.batch) % len(load.train)
        with timed("images, from the data set"):
            images = to_device(load.protected.batch(rows), model.device).float() / 255
        with timed("image tower, forward"):
            image = model.encode_images(images)
        with timed("text tower, forward"):
            text = model.encode_tokens(trim(tokens[rows]))
        with timed("loss and its gradient"):
            image_leaf, text_leaf = (features.detach().requires_grad_() for features in (image, text))
            optimizer.zero_grad(set_to_none=True)
            clip_loss(image_leaf, text_leaf, model.scale).backward()
        with timed("text tower, backward"):
            text.backward(text_leaf.grad)
        with timed("image tower, backward"):
            image.backward(image_leaf.grad)
        with timed("optimizer"):
            optimizer.step()
            clamp_scale(model)
    table.take_out(model.tower)
    return {name: median(values[warm:]) for name, values in seconds.items()}
