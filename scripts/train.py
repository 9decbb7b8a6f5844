"""`python -m scripts.train`: train a classifier by transfer learning, and put it into the model store with a report."""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from app.arrays import Float32Array, UInt8Array
from app.artifact import InputSpec
from app.errors import ArtifactError
from scripts.augmentation import REVISION, augment
from scripts.data import Film, Split, balancing_weights, class_names, digest, read_films, read_pixels, split
from scripts.dissection import dissect
from scripts.errors import ScriptError
from scripts.evaluate import judge
from scripts.networks import BACKBONES, classifier, round_to_half, weights_provenance
from scripts.packing import Package, pack, preprocess


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides what a training run yields, besides the films.

    `variants` augmented variants of each film are cached beside the film itself; `epochs` of fine-tuning follow the
    frozen phase; `penalty` is the inverse L2 strength of the frozen phase's logistic regression.
    """

    backbone: str = "vgg16"
    weights: str = "imagenet"
    seed: int = 0
    variants: int = 6
    epochs: int = 8
    batch_size: int = 32
    learning_rate: float = 2e-5
    dropout: float = 0.4
    label_smoothing: float = 0.05
    penalty: float = 0.003


@dataclass(frozen=True, slots=True)
class Corpus:
    """The films as arrays: `pixels` uint8 `[N, H, W, C]`, `labels` `[N]`, `weights` `[N]`."""

    films: list[Film]
    classes: tuple[str, ...]
    split: Split
    pixels: UInt8Array
    labels: np.ndarray
    weights: np.ndarray


def train(data: Path, name: str, store: Path, work: Path, recipe: Recipe, classes: Sequence[str] | None = None) -> Path:
    """Train on the films of `data` and return the new version's folder.

    A run that was interrupted goes on from what it left in `work`, if films and recipe are the same; until the run
    ends, nothing of it is in the store.

    Raises:
        ScriptError: the data, the weights or the recipe can't be used.
        ArtifactError: the name can't be used.
    """
    keras.utils.set_random_seed(recipe.seed)
    tf.config.experimental.enable_op_determinism()
    backbone = BACKBONES[recipe.backbone]
    spec = InputSpec(height=backbone.size, width=backbone.size, channels=3, fit="crop")
    films = read_films(data)
    films_digest = digest(films)
    scratch = work / _key(films_digest, recipe, classes)
    scratch.mkdir(parents=True, exist_ok=True)
    corpus = _corpus(films, class_names(films, classes), spec, recipe.seed)
    base = backbone.build(recipe.weights)
    model = classifier(base, len(corpus.classes), dropout=recipe.dropout, seed=recipe.seed)
    cut = model.get_layer(backbone.frozen_until).output
    features = _cached_features(keras.Model(model.input, cut), corpus, recipe, scratch)
    tuned = keras.models.clone_model(keras.Model(cut, model.output))
    tuned.set_weights(keras.Model(cut, model.output).get_weights())
    _fit_head(tuned, features, corpus, recipe)
    history, best = _fine_tune(tuned, features, corpus, recipe, scratch)
    for layer in best.layers[1:]:
        model.get_layer(layer.name).set_weights(layer.get_weights())
    round_to_half(model)
    entry = _publish(model, corpus, recipe, name, store, films_digest, history)
    shutil.rmtree(scratch)
    return entry


def _key(films_digest: str, recipe: Recipe, classes: Sequence[str] | None) -> str:
    facts = json.dumps([films_digest, asdict(recipe), classes, REVISION])
    return hashlib.sha256(facts.encode()).hexdigest()[:16]


def _corpus(films: list[Film], classes: tuple[str, ...], spec: InputSpec, seed: int) -> Corpus:
    return Corpus(
        films=films,
        classes=classes,
        split=split(films, seed),
        pixels=read_pixels(films, spec),
        labels=np.array([classes.index(film.label) for film in films]),
        weights=np.array(balancing_weights(films), np.float32),
    )


def _cached_features(frozen: keras.Model, corpus: Corpus, recipe: Recipe, scratch: Path) -> list[np.ndarray]:
    """The frozen part's output for every film, float16 `[N, h, w, K]`: first as it is, then its augmented variants.

    Each is a file, complete or absent, so that an interrupted run loses one at most.
    """
    preprocessing = BACKBONES[recipe.backbone].preprocessing

    @tf.function(reduce_retracing=True)
    def run(images: Any) -> Any:
        return tf.cast(frozen(preprocess(images, preprocessing), training=False), tf.float16)

    cached = []
    for variant in range(recipe.variants + 1):
        path = scratch / f"features-{variant}.npy"
        if not path.exists():
            batches = [
                run(tf.constant(_variant(corpus.pixels, indices, variant, recipe.seed))).numpy()
                for indices in _batches(len(corpus.films), 16, f"features {variant + 1}/{recipe.variants + 1}")
            ]
            partial = path.with_suffix(".partial.npy")
            np.save(partial, np.concatenate(batches))
            partial.rename(path)
        cached.append(np.load(path, mmap_mode="r"))
    return cached


def _variant(pixels: UInt8Array, indices: np.ndarray, variant: int, seed: int) -> UInt8Array:
    if variant == 0:
        return pixels[indices]
    return np.stack([augment(pixels[i], np.random.default_rng([seed, variant, int(i)])) for i in indices])


def _batches(count: int, size: int, label: str) -> Iterator[np.ndarray]:
    steps = range(0, count, size)
    for start in tqdm(steps, desc=label, unit="batch"):
        yield np.arange(start, min(start + size, count))


def _fit_head(tuned: keras.Model, features: list[np.ndarray], corpus: Corpus, recipe: Recipe) -> None:
    """The frozen phase: a logistic regression on the pooled features becomes the dense layer."""
    pooled = keras.Model(tuned.input, tuned.get_layer("pool").output)
    indices = np.array(corpus.split.train)
    parts: list[Float32Array] = []
    for variant, cached in enumerate(features):
        parts.extend(
            pooled(cached[indices[at]].astype(np.float32), training=False).numpy()
            for at in _batches(len(indices), 64, f"head {variant + 1}/{len(features)}")
        )
    scaler, regression = StandardScaler(), LogisticRegression(C=recipe.penalty, max_iter=500)
    repeats = len(features)
    make_pipeline(scaler, regression).fit(
        np.concatenate(parts),
        np.tile(corpus.labels[indices], repeats),
        logisticregression__sample_weight=np.tile(corpus.weights[indices], repeats),
    )
    coefficients, intercepts = regression.coef_, regression.intercept_
    if len(coefficients) == 1:  # two classes: scikit-learn keeps the difference only
        coefficients, intercepts = (
            np.stack([-coefficients[0], coefficients[0]]) / 2,
            np.stack([-intercepts[0], intercepts[0]]) / 2,
        )
    kernel = (coefficients / scaler.scale_).T
    bias = intercepts - scaler.mean_ @ kernel
    tuned.get_layer("probabilities").set_weights([kernel, bias])


def _fine_tune(
    tuned: keras.Model, features: list[np.ndarray], corpus: Corpus, recipe: Recipe, scratch: Path
) -> tuple[list[dict[str, float]], keras.Model]:
    """Train the last block and the head; returns each epoch's losses, and the epoch best on the validation films."""
    log = scratch / "history.json"
    history: list[dict[str, float]] = json.loads(log.read_text()) if log.exists() else []
    if history:
        tuned = keras.models.load_model(scratch / f"epoch-{len(history)}.keras")
    else:
        loss = keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing)
        tuned.compile(keras.optimizers.Adam(recipe.learning_rate), loss=loss, jit_compile=False)
        tuned.save(scratch / "epoch-0.keras")
    one_hot = np.eye(len(corpus.classes), dtype=np.float32)[corpus.labels]
    for epoch in range(len(history) + 1, recipe.epochs + 1):
        # Random numbers and running means depend on the epoch alone, so that a resumed run ends as a whole one does.
        tuned.get_layer("dropout").seed_generator.state.assign([recipe.seed, epoch])
        tuned.reset_metrics()
        train_loss = 0.0
        for variants, indices in _epoch_batches(corpus, recipe, epoch):
            batch = np.stack([features[v][i] for v, i in zip(variants, indices, strict=True)]).astype(np.float32)
            train_loss = float(tuned.train_on_batch(batch, one_hot[indices], sample_weight=corpus.weights[indices]))
        history.append({"train_loss": train_loss, "validation_loss": _validation_loss(tuned, features, corpus)})
        tuned.save(scratch / f"epoch-{epoch}.keras")
        log.with_suffix(".partial").write_text(json.dumps(history))
        log.with_suffix(".partial").rename(log)
        tqdm.write(f"epoch {epoch}: " + ", ".join(f"{name} {value:.4f}" for name, value in history[-1].items()))
    best = min(range(len(history)), key=lambda i: history[i]["validation_loss"]) + 1 if history else 0
    return history, keras.models.load_model(scratch / f"epoch-{best}.keras")


def _epoch_batches(corpus: Corpus, recipe: Recipe, epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every training film once, in one random variant; the order depends on seed and epoch alone."""
    rng = np.random.default_rng([recipe.seed, 1_000_000 + epoch])
    order = rng.permutation(np.array(corpus.split.train))
    variants = rng.integers(0, recipe.variants + 1, len(order))
    for at in _batches(len(order), recipe.batch_size, f"epoch {epoch}/{recipe.epochs}"):
        yield variants[at], order[at]


def _validation_loss(tuned: keras.Model, features: list[np.ndarray], corpus: Corpus) -> float:
    indices = np.array(corpus.split.validation)
    probabilities = _predict(tuned, features[0], indices)
    chosen = probabilities[np.arange(len(indices)), corpus.labels[indices]]
    return float(np.average(-np.log(np.maximum(chosen, 1e-7)), weights=corpus.weights[indices]))


def _predict(tuned: keras.Model, cached: np.ndarray, indices: np.ndarray) -> Float32Array:
    starts = range(0, len(indices), 64)
    return np.concatenate(
        [tuned(cached[indices[s : s + 64]].astype(np.float32), training=False).numpy() for s in starts]
    )


def best_temperature(logits: Float32Array, labels: np.ndarray) -> float:
    """The temperature that minimises the log loss of `logits` `[N, classes]` (Guo et al., ICML 2017)."""

    def log_loss(log_temperature: float) -> float:
        scaled = log_softmax(logits.astype(np.float64) / np.exp(log_temperature), axis=-1)
        return float(-scaled[np.arange(len(labels)), labels].mean())

    return float(np.exp(minimize_scalar(log_loss, bounds=(-3, 3), method="bounded").x))


def _publish(
    model: keras.Model,
    corpus: Corpus,
    recipe: Recipe,
    name: str,
    store: Path,
    films_digest: str,
    history: list[dict[str, float]],
) -> Path:
    preprocessing = BACKBONES[recipe.backbone].preprocessing
    anatomy = dissect(model)

    @tf.function(reduce_retracing=True)
    def logits_of(images: Any) -> Any:
        return anatomy.head(anatomy.trunk(preprocess(images, preprocessing), training=False), training=False)

    def logits(images: UInt8Array) -> Float32Array:
        starts = range(0, len(images), 16)
        return np.concatenate([logits_of(tf.constant(images[s : s + 16])).numpy() for s in starts])

    validation = np.array(corpus.split.validation)
    temperature = best_temperature(logits(corpus.pixels[validation]), corpus.labels[validation])

    def reference(images: UInt8Array) -> Float32Array:
        return np.exp(log_softmax(logits(images).astype(np.float64) / temperature, axis=-1)).astype(np.float32)

    test_films = [corpus.films[i] for i in corpus.split.test]
    package = Package(
        name=name,
        classes=corpus.classes,
        anatomy=anatomy,
        reference=reference,
        preprocessing=preprocessing,
        fit="crop",
        temperature=temperature,
        training={
            "data": {"sha256": films_digest, "films": len(corpus.films)},
            "split": {
                "by": "patient" if all(film.patient for film in corpus.films) else "patient where known, else film",
                "train": len(corpus.split.train),
                "validation": len(corpus.split.validation),
                "test": len(corpus.split.test),
            },
            "seed": recipe.seed,
            "backbone": recipe.backbone,
            "weights": weights_provenance(recipe.weights),
            "recipe": asdict(recipe) | {"weights": "file" if Path(recipe.weights).suffix else recipe.weights},
            "history": history,
            "libraries": {library: version(library) for library in ("tensorflow", "keras", "numpy", "pillow")},
        },
        judge=lambda entry: judge(entry, test_films, entry / "report"),
    )
    return pack(package, store)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 1 with a message where it can't be done."""
    defaults = Recipe()
    parser = argparse.ArgumentParser(prog="python -m scripts.train", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="metadata.csv, or one sub-folder per class")
    parser.add_argument("--classes", help="class names in the order wanted: a,b,c; default: sorted")
    parser.add_argument("--name", help="name in the model store; default: <data folder>-<backbone>")
    parser.add_argument("--store", type=Path, default=Path("model_store"))
    parser.add_argument("--work", type=Path, default=Path(".training"), help="folder for what an interrupted run left")
    parser.add_argument("--backbone", choices=sorted(BACKBONES), default=defaults.backbone)
    parser.add_argument("--weights", default=defaults.weights, help="imagenet, hed, none, or a .weights.h5 file")
    for field, help_text in (
        ("seed", "decides split, variants, order and first weights"),
        ("epochs", "of fine-tuning, after the frozen phase"),
        ("variants", "augmented variants per film"),
        ("batch_size", "films per step of fine-tuning"),
    ):
        parser.add_argument(f"--{field.replace('_', '-')}", type=int, default=getattr(defaults, field), help=help_text)
    options = parser.parse_args(arguments)
    recipe = Recipe(
        backbone=options.backbone,
        weights=options.weights,
        seed=options.seed,
        epochs=options.epochs,
        variants=options.variants,
        batch_size=options.batch_size,
    )
    name = options.name or f"{options.data.resolve().name}-{options.backbone}"
    classes = options.classes.split(",") if options.classes else None
    try:
        entry = train(options.data, name, options.store, options.work, recipe, classes)
    except (ScriptError, ArtifactError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 1
    print(f"wrote {entry}; its report: {entry / 'report' / 'report.html'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
