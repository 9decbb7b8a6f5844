"""Fit a network on cached features of its frozen part: its lung map, its head, and then its last block."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import LogisticRegression
from tqdm import tqdm

from app.arrays import Float32Array, UInt8Array
from app.artifact import InputSpec
from app.decoding import decode, to_input
from scripts.augmentation import augment
from scripts.data import MAX_PIXELS, Film, balancing_weights, read_pixels
from scripts.layers import Novelty
from scripts.networks import Network

# Films are read once at this many pixels a side, so that a variant may zoom in without inventing pixels.
SOURCE_SIDE = 320


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides what a training run yields, besides the films.

    `variants` augmented variants of each film, of `strength` 0..1, are cached beside the film itself. `penalty` is the
    frozen phase's L2 penalty. Fine-tuning shows the film itself in one of `clean_share` cases; `decay` and
    `head_decay` are AdamW's; from two fifths of the steps on, weights are averaged. With `least_masks` lung masks or
    more, the network gets a lung gate.
    """

    backbone: str = "vgg16"
    weights: str = "imagenet"
    seed: int = 0
    variants: int = 1
    strength: float = 0.5
    penalty: float = 0.5
    epochs: int = 5
    batch_size: int = 64
    learning_rate: float = 1e-4
    head_learning_rate: float = 3e-4
    decay: float = 0.02
    head_decay: float = 0.5
    dropout: float = 0.3
    label_smoothing: float = 0.05
    clean_share: float = 0.25
    averaging: float = 0.97
    lung_epochs: int = 12
    least_masks: int = 20


@dataclass(frozen=True, slots=True)
class Cache:
    """The frozen part's output for N films, and the lung masks of the M films that have one.

    `cuts[v]` is float16 `[N, a, b, K]` of variant v, the film itself being variant 0; `masks[v]` float32
    `[M, a, b, 1]`, 0..1, for the films of indices `masked`.
    """

    cuts: list[np.ndarray]
    masks: list[Float32Array]
    masked: list[int]


def cache_features(frozen: keras.Model, films: Sequence[Film], spec: InputSpec, recipe: Recipe, scratch: Path) -> Cache:
    """Run the frozen part over every film and its variants; each variant is a file in `scratch`, complete or absent.

    Raises:
        DataError: films can't be read.
    """
    clean = read_pixels(films, spec)
    sources = read_pixels(films, InputSpec(height=SOURCE_SIDE, width=SOURCE_SIDE, channels=1, fit="crop"))[..., 0]
    masked = [i for i, film in enumerate(films) if film.mask is not None]
    whole = {i: _read_mask(films[i], SOURCE_SIDE) for i in masked}
    grid = frozen.output_shape[1:3]

    @tf.function(reduce_retracing=True)
    def run(images: Any) -> Any:
        return tf.cast(frozen(tf.cast(images, tf.float32), training=False), tf.float16)

    cuts, masks = [], []
    for variant in range(recipe.variants + 1):

        def make(i: int, variant: int = variant) -> tuple[UInt8Array, UInt8Array | None]:
            if variant == 0:
                return clean[i], _resized(whole[i], spec.height) if i in whole else None
            rng = np.random.default_rng([recipe.seed, variant, i])
            grey, mask = augment(sources[i], rng, spec.height, recipe.strength, whole.get(i))
            return np.repeat(grey[..., None], spec.channels, axis=-1), mask

        paths = [scratch / f"{kind}-{variant}.npy" for kind in ("cuts", "masks")]
        if not all(path.exists() for path in paths):
            batches, shrunk = [], []
            for at in in_batches(len(films), 16, f"features {variant + 1}/{recipe.variants + 1}"):
                made = [make(int(i)) for i in at]
                batches.append(run(np.stack([pixels for pixels, _ in made])).numpy())
                shrunk += [_shrunk(mask, grid) for _, mask in made if mask is not None]
            _save(paths[0], np.concatenate(batches))
            _save(paths[1], np.array(shrunk, np.float32).reshape(-1, *grid, 1))
        cuts.append(np.load(paths[0], mmap_mode="r"))
        masks.append(np.load(paths[1]))
    return Cache(cuts, masks, masked)


def _read_mask(film: Film, side: int) -> UInt8Array:
    assert film.mask is not None
    picture = decode(film.mask.read_bytes(), max_pixels=MAX_PIXELS)
    return to_input(picture, width=side, height=side, channels=1, fit="crop")[..., 0]


def _resized(mask: UInt8Array, side: int) -> UInt8Array:
    return np.asarray(Image.fromarray(mask).resize((side, side), Image.Resampling.BILINEAR))


def _shrunk(mask: UInt8Array, grid: tuple[int, int]) -> Float32Array:
    """The share of lung in each cell of the grid."""
    return np.asarray(Image.fromarray(mask).resize(grid[::-1], Image.Resampling.BOX), np.float32) / np.float32(255)


def _save(path: Path, array: np.ndarray) -> None:
    partial = path.with_suffix(".partial.npy")
    np.save(partial, array)
    partial.rename(path)


def in_batches(count: int, size: int, label: str) -> Iterator[np.ndarray]:
    """Indices 0..count in batches, with a progress bar."""
    for start in tqdm(range(0, count, size), desc=label, unit="batch"):
        yield np.arange(start, min(start + size, count))


def fit_lungs(network: Network, cache: Cache, indices: Sequence[int], recipe: Recipe) -> None:
    """Teach the lung map where lungs are, from the masked films among `indices` and their variants."""
    assert network.lungs is not None
    chosen = [row for row, i in enumerate(cache.masked) if i in set(indices)]
    films = [cache.masked[row] for row in chosen]
    cuts = np.concatenate([cut[films] for cut in cache.cuts]).astype(np.float32)
    masks = np.concatenate([mask[chosen] for mask in cache.masks])
    mean, deviation = cuts.mean(axis=(0, 1, 2)), cuts.std(axis=(0, 1, 2)) + 1e-3
    lungs = network.lungs
    lungs.trainable = True
    keras.utils.set_random_seed(recipe.seed)
    lungs.compile(keras.optimizers.Adam(2e-3), loss="binary_crossentropy", jit_compile=False)
    lungs.fit((cuts - mean) / deviation, masks, batch_size=32, epochs=recipe.lung_epochs, verbose=0)
    lungs.trainable = False
    first = lungs.get_layer("lungs_1")
    kernel, bias = first.get_weights()  # the standardisation becomes part of the first convolution, which is 1 x 1
    kernel = kernel / deviation[:, None]
    first.set_weights([kernel, bias - mean @ kernel[0, 0]])


def fit_head(
    network: Network, cache: Cache, films: Sequence[Film], labels: np.ndarray, indices: np.ndarray, recipe: Recipe
) -> None:
    """The frozen phase: multinomial logistic regression on the pooled features of `indices` of `films` is the head.

    From the films as they are: with variants the figures fell (docs/model.md); the lung map and fine-tuning have them.
    Weighted as `balancing_weights` says.
    """
    pooled = keras.Model(network.head.input, network.head.get_layer("pool").output)
    cut = cache.cuts[0]
    values = np.concatenate(
        [
            pooled(network.tail(cut[indices[at]].astype(np.float32), training=False)).numpy()
            for at in in_batches(len(indices), 64, "head")
        ]
    )
    weights = np.array(balancing_weights([films[i] for i in indices]))
    mean = np.average(values, axis=0, weights=weights)
    deviation = np.sqrt(np.average((values - mean) ** 2, axis=0, weights=weights)) + 1e-4
    network.head.get_layer("standardise").set_weights([1 / deviation, -mean / deviation])
    regression = LogisticRegression(C=1 / (recipe.penalty * len(values)), max_iter=1000)
    regression.fit((values - mean) / deviation, labels[indices], sample_weight=weights)
    kernel, bias = regression.coef_, regression.intercept_
    if len(kernel) == 1:  # of two classes scikit-learn keeps the difference
        kernel, bias = np.concatenate([-kernel, kernel]) / 2, np.concatenate([-bias, bias]) / 2
    network.head.get_layer("logits").set_weights([kernel.T, bias])


def fine_tune(
    network: Network, cache: Cache, films: Sequence[Film], labels: np.ndarray, indices: np.ndarray, recipe: Recipe
) -> None:
    """Train tail and head on `indices` of `films`, drawn as `balancing_weights` says.

    Weights end as the running average of those of the last three fifths of the steps (Izmailov et al., UAI 2018). A
    tail without trainable weights is left as it is, and its head with it.
    """
    tail_variables = network.tail.trainable_variables
    if not tail_variables:
        return
    keras.utils.set_random_seed(recipe.seed)
    network.head.get_layer("dropout").seed_generator.state.assign([recipe.seed, 0])
    rng = np.random.default_rng([recipe.seed, 7])
    weights = np.array(balancing_weights([films[i] for i in indices]))
    chances = weights / weights.sum()
    steps = math.ceil(len(indices) / recipe.batch_size) * recipe.epochs
    variables = [*tail_variables, *network.head.trainable_variables]
    train_step = _train_step(network, recipe, steps)
    one_hot = np.eye(network.head.output_shape[-1], dtype=np.float32)[labels]
    average: list[np.ndarray] | None = None
    progress = tqdm(range(steps), desc="fine-tuning", unit="batch")
    for step in progress:
        drawn = rng.choice(indices, recipe.batch_size, p=chances)
        variants = rng.integers(1, len(cache.cuts), len(drawn)) if len(cache.cuts) > 1 else np.zeros(len(drawn), int)
        variants[rng.random(len(drawn)) < recipe.clean_share] = 0
        cuts = np.stack([cache.cuts[v][i] for v, i in zip(variants, drawn, strict=True)])
        loss = train_step(tf.constant(cuts), tf.constant(one_hot[drawn]))
        if step % 10 == 0:
            progress.set_postfix(loss=f"{float(loss):.3f}")
        if step >= 0.4 * steps:
            now = [variable.numpy() for variable in variables]
            average = now if average is None else _blend(average, now, recipe.averaging)
    for variable, value in zip(variables, average or [], strict=average is not None):
        variable.assign(value)


def _blend(average: list[np.ndarray], now: list[np.ndarray], share: float) -> list[np.ndarray]:
    return [share * old + (1 - share) * new for old, new in zip(average, now, strict=True)]


def _train_step(network: Network, recipe: Recipe, steps: int) -> Any:
    cosine = keras.optimizers.schedules.CosineDecay
    warmup = max(1, int(0.15 * steps))
    tail_rate = cosine(0.0, max(1, steps - warmup), warmup_target=recipe.learning_rate, warmup_steps=warmup)
    tail_optimizer = keras.optimizers.AdamW(tail_rate, weight_decay=recipe.decay)
    head_optimizer = keras.optimizers.AdamW(cosine(recipe.head_learning_rate, steps), weight_decay=recipe.head_decay)
    tail, head = network.tail, network.head
    tail_optimizer.build(tail.trainable_variables)
    head_optimizer.build(head.trainable_variables)
    loss_of = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing)

    @tf.function(reduce_retracing=True)
    def step(cuts: Any, targets: Any) -> Any:
        with tf.GradientTape() as tape:
            logits = head(tail(tf.cast(cuts, tf.float32), training=True), training=True)
            loss = loss_of(targets, logits)
        variables = [*tail.trainable_variables, *head.trainable_variables]
        gradients, _ = tf.clip_by_global_norm(tape.gradient(loss, [v.value for v in variables]), 2.0)
        count = len(tail.trainable_variables)
        tail_optimizer.apply(gradients[:count], variables[:count])
        head_optimizer.apply(gradients[count:], variables[count:])
        return loss

    return step


def fit_novelty(cache: Cache, indices: np.ndarray) -> Novelty:
    """A novelty layer on the cut, from the films of `indices` as they are; its scale is set later."""
    cuts = cache.cuts[0]
    pooled = np.stack([cuts[i].astype(np.float64).mean(axis=(0, 1)) for i in indices])
    layer = Novelty(name="novelty")
    layer.build((None, *cuts.shape[1:]))
    mean = pooled.mean(axis=0)
    covariance, _ = ledoit_wolf(pooled - mean)
    values, vectors = np.linalg.eigh(covariance)
    layer.set_weights([mean, vectors / np.sqrt(values), np.array(1.0)])
    return layer
