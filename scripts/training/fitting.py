"""Fit a network on cached features of its frozen part: the lung map, then the head, then the last block."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from sklearn.covariance import ledoit_wolf
from tqdm import tqdm

from app.arrays import Float32Array
from scripts.datasets.films import Film, film_weights
from scripts.errors import DataError
from scripts.networks.backbones import BACKBONES, Network, build_network
from scripts.networks.layers import Novelty
from scripts.training.features import FeatureCache, Variants, batch_indices
from scripts.training.heads import fit_kernel, fit_logistic
from scripts.training.recipe import Recipe

_CERTAIN_LOGIT = 20.0  # its sigmoid rounds to 1


class Fitter:
    """Fits the trainable parts of one network, from its initial weights, to each set of films."""

    def __init__(
        self, network: Network, cache: FeatureCache, films: Sequence[Film], labels: np.ndarray, recipe: Recipe
    ) -> None:
        self.network, self.cache = network, cache
        self._films, self._labels, self._recipe = films, labels, recipe
        self._initial = [part.get_weights() for part in network.trained]
        self._pooled: list[Float32Array] | None = None

    def fit(self, indices: np.ndarray) -> None:
        """Reset the weights, and fit the network to the films with the given `indices`."""
        network, recipe = self.network, self._recipe
        for part, weights in zip(network.trained, self._initial, strict=True):
            part.set_weights(weights)
        if network.lungs is not None:
            fit_lungs(network, self.cache, indices.tolist(), recipe)
        self._fit_head(indices)
        fine_tune(network, self.cache, self._films, self._labels, indices, recipe)

    def _fit_head(self, indices: np.ndarray) -> None:
        """Fit the head by a regression on the pooled features of the films with the given `indices`.

        The regression uses the unaugmented films, and the variants too if the recipe says so; a kernel head always uses
        the unaugmented films alone. `film_weights` gives the sample weights.
        """
        recipe, head = self._recipe, self.network.head
        variants = range(len(self.cache.cuts) if recipe.augmented_head and recipe.head != "kernel" else 1)
        values = np.concatenate([self._pooled_features(variant, indices) for variant in variants])
        chosen = [self._films[i] for i in indices]
        weights = np.tile(film_weights(chosen, recipe.weighting), len(variants))
        mean = np.average(values, axis=0, weights=weights)
        deviation = np.sqrt(np.average((values - mean) ** 2, axis=0, weights=weights)) + 1e-4
        head.get_layer("standardise").set_weights([1 / deviation, -mean / deviation])
        fit = fit_kernel if recipe.head == "kernel" else fit_logistic
        fit(head, (values - mean) / deviation, np.tile(self._labels[indices], len(variants)), weights, chosen, recipe)

    def _pooled_features(self, variant: int, indices: np.ndarray) -> Float32Array:
        """Return what the head pools, `[N, d]`; where no training changes it, it is computed once for all films."""
        if not self.network.is_fixed:
            return self._pool(variant, indices)
        if self._pooled is None:
            self._pooled = []
        while len(self._pooled) <= variant:
            self._pooled.append(self._pool(len(self._pooled), np.arange(len(self._films))))
        return self._pooled[variant][indices]

    def _pool(self, variant: int, indices: np.ndarray) -> Float32Array:
        network, cut = self.network, self.cache.cuts[variant]
        pooled = keras.Model(network.head.input, network.head.get_layer("pool").output)
        run = tf.function(lambda cuts: pooled(network.tail(tf.cast(cuts, tf.float32), training=False), training=False))
        return np.concatenate([run(cut[indices[at]]).numpy() for at in batch_indices(len(indices), 64, "pooling")])

    def probabilities(self, indices: np.ndarray) -> Float32Array:
        """Predict the films with the given `indices` at temperature 1; returns probabilities `[N, classes]`."""
        cut, network = self.cache.cuts[0], self.network
        if network.is_fixed:
            return self._from_pooled(self._pooled_features(0, indices))
        batches = [
            tf.nn.softmax(network.head(network.tail(cut[indices[at]].astype(np.float32), training=False))).numpy()
            for at in batch_indices(len(indices), 64, "predicting")
        ]
        return np.concatenate(batches)

    def _from_pooled(self, values: Float32Array) -> Float32Array:
        x = values
        layers = self.network.head.layers
        for layer in layers[[one.name for one in layers].index("pool") + 1 :]:
            x = layer(x, training=False) if layer.name == "dropout" else layer(x)
        return tf.nn.softmax(x).numpy()


def network_for(films: Sequence[Film], classes: int, recipe: Recipe, segmenter: keras.Model | None = None) -> Network:
    """Build the untrained network of `recipe`, large enough to be fitted to all of `films`.

    If the recipe finds the lungs first, `segmenter` finds them.

    Raises:
        WeightsError: the weights are not available.
        DataError: the recipe combines a kernel head with a backbone that is fine-tuned.
    """
    network = build_network(
        BACKBONES[recipe.backbone],
        recipe.weights,
        classes,
        gated=recipe.gate and sum(film.mask is not None for film in films) >= recipe.least_masks,
        dropout=recipe.dropout,
        seed=recipe.seed,
        head=recipe.head,
        centres=len(films) if recipe.head == "kernel" else 0,
        segmenter=segmenter,
    )
    if recipe.head == "kernel" and network.tail.trainable_variables:
        raise DataError(f"a kernel head needs fixed features, but {recipe.backbone} is fine-tuned")
    return network


def variants_of(recipe: Recipe) -> Variants:
    """Return the variants of each film that `recipe` specifies."""
    return Variants(recipe.variants, recipe.strength, recipe.seed)


def fit_lungs(network: Network, cache: FeatureCache, indices: Sequence[int], recipe: Recipe) -> None:
    """Fit the lung map to the masks of the films with the given `indices` and of their variants.

    If none of them has a mask, the map becomes 1 everywhere, which leaves the gate open.
    """
    assert network.lungs is not None
    wanted = set(indices)
    chosen = [row for row, i in enumerate(cache.masked) if i in wanted]
    if not chosen:
        last = network.lungs.layers[-1]
        last.set_weights([np.zeros(last.kernel.shape), np.full(last.bias.shape, _CERTAIN_LOGIT)])
        return
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
    kernel, bias = first.get_weights()  # the first convolution is 1 x 1, so it can absorb the standardisation
    kernel = kernel / deviation[:, None]
    first.set_weights([kernel, bias - mean @ kernel[0, 0]])


def fine_tune(
    network: Network,
    cache: FeatureCache,
    films: Sequence[Film],
    labels: np.ndarray,
    indices: np.ndarray,
    recipe: Recipe,
) -> None:
    """Train tail and head by gradient descent on the films with the given `indices`.

    `film_weights` gives the probability of drawing a film. The final weights are a running average over the last three
    fifths of the steps (Izmailov et al., UAI 2018). If the tail has no trainable weights, nothing changes.
    """
    tail_variables = network.tail.trainable_variables
    if not tail_variables:
        return
    keras.utils.set_random_seed(recipe.seed)
    network.head.get_layer("dropout").seed_generator.state.assign([recipe.seed, 0])
    rng = np.random.default_rng([recipe.seed, 7])
    weights = np.array(film_weights([films[i] for i in indices], recipe.weighting))
    draw_probabilities = weights / weights.sum()
    steps = math.ceil(len(indices) / recipe.batch_size) * recipe.epochs
    variables = [*tail_variables, *network.head.trainable_variables]
    train_step = _train_step(network, recipe, steps)
    one_hot = np.eye(network.head.output_shape[-1], dtype=np.float32)[labels]
    average: list[np.ndarray] | None = None
    progress = tqdm(range(steps), desc="fine-tuning", unit="batch")
    for step in progress:
        drawn = rng.choice(indices, recipe.batch_size, p=draw_probabilities)
        variants = rng.integers(1, len(cache.cuts), len(drawn)) if len(cache.cuts) > 1 else np.zeros(len(drawn), int)
        variants[rng.random(len(drawn)) < recipe.clean_share] = 0
        cuts = np.stack([cache.cuts[v][i] for v, i in zip(variants, drawn, strict=True)])
        loss = train_step(tf.constant(cuts), tf.constant(one_hot[drawn]))
        if step % 10 == 0:
            progress.set_postfix(loss=f"{float(loss):.3f}")
        if step >= 0.4 * steps:
            current = [variable.numpy() for variable in variables]
            average = current if average is None else _blend(average, current, recipe.averaging)
    for variable, value in zip(variables, average or [], strict=average is not None):
        variable.assign(value)


def _blend(average: list[np.ndarray], current: list[np.ndarray], share: float) -> list[np.ndarray]:
    return [share * old + (1 - share) * new for old, new in zip(average, current, strict=True)]


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


def fit_novelty(cache: FeatureCache, indices: np.ndarray) -> Novelty:
    """Fit a novelty layer for features at the cut to the unaugmented films with the given `indices`; its scale is 1."""
    cuts = cache.cuts[0]
    pooled = np.stack([cuts[i].astype(np.float64).mean(axis=(0, 1)) for i in indices])
    layer = Novelty(name="novelty")
    layer.build((None, *cuts.shape[1:]))
    mean = pooled.mean(axis=0)
    covariance, _ = ledoit_wolf(pooled - mean)
    values, vectors = np.linalg.eigh(covariance)
    layer.set_weights([mean, vectors / np.sqrt(values), np.array(1.0)])
    return layer
