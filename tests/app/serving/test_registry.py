"""Which versions are in memory, and which one answers."""

import json
import shutil
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from app.artifact.manifest import MANIFEST
from app.artifact.store import seal
from app.errors import ArtifactError, ArtifactNotFoundError, ModelNotLoadedError, ModelRefusedError, UnknownModelError
from app.serving.analyzer import Analyzer, Limits
from app.serving.registry import Registry
from app.serving.workers import Workers
from app.telemetry.metrics import Metrics
from app.telemetry.stages import Telemetry
from tests.doubles import BrightnessRuntime, manifest


class Store:
    """A model store whose versions are manifests and a file; `loads` tells what was loaded, in order."""

    def __init__(self, root: Path):
        self.root = root
        self.loads = []

    def add(self, name, version, content="weights"):
        entry = self.root / name / str(version)
        entry.mkdir(parents=True, exist_ok=True)
        (entry / "weights").write_text(content)
        seal(entry, manifest().model_copy(update={"name": name, "version": version}))
        return entry

    def load(self, entry):
        """The runtime of a version; what holds `broken` is refused, and `bug` fails as nobody foresaw."""
        content = (entry / "weights").read_text()
        self.loads.append((entry.parent.name, int(entry.name)))
        if content == "broken":
            raise ArtifactError(f"{entry}/weights is broken")
        if content == "bug":
            raise RuntimeError("secret")
        return BrightnessRuntime(manifest().model_copy(update={"name": entry.parent.name, "version": int(entry.name)}))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


@asynccontextmanager
async def registry(store, *, name="film", pinned=None, limit=4):
    telemetry = Telemetry(Metrics())
    with Workers(1) as workers:

        def analyzer(runtime):
            return Analyzer(runtime, workers, telemetry, Limits(1_000_000, 256, 4, 0))

        held = Registry(
            store.root,
            name,
            pinned,
            workers=workers,
            load=store.load,
            analyzer=analyzer,
            limit=limit,
            metrics=telemetry.metrics,
        )
        try:
            yield held
        finally:
            held.close()


def run(script, store, **options):
    """Run `script(registry)`."""

    async def body():
        async with registry(store, **options) as held:
            return await script(held)

    return anyio.run(body)


async def answering(held, *which):
    async with held.lease(*which) as analyzer:
        return analyzer.manifest.name, analyzer.manifest.version


async def settle(held):
    """As many looks at the store as it takes for a version to be seen unchanged."""
    await held.look()
    await held.look()


def test_the_highest_version_answers(store):
    """And only it is loaded."""
    for version in (1, 2, 10):
        store.add("film", version)

    async def script(held):
        assert not held.ready
        await held.start()
        assert held.ready
        return await answering(held)

    assert run(script, store) == ("film", 10)
    assert store.loads == [("film", 10)]


def test_a_pinned_version_answers_whatever_is_above(store):
    """Also after looking again."""
    store.add("film", 1)
    store.add("film", 2)

    async def script(held):
        await held.start()
        store.add("film", 3)
        await settle(held)
        return await answering(held)

    assert run(script, store, pinned=1) == ("film", 1)


def test_without_a_model_there_is_no_start(store):
    """The error says what there is."""
    store.add("other", 1)
    with pytest.raises(ArtifactNotFoundError, match="available: other"):
        run(lambda held: held.start(), store)


def test_a_request_before_the_start_is_told_to_wait(store):
    """Not that there is no such model."""
    store.add("film", 1)
    with pytest.raises(ModelNotLoadedError, match="yet"):
        run(answering, store)


def test_a_new_version_takes_over_while_the_old_one_finishes(store):
    """A request that began with version 1 ends with it; it leaves memory then."""
    store.add("film", 1)

    async def script(held):
        await held.start()
        async with held.lease() as old:
            store.add("film", 2)
            await settle(held)
            assert await answering(held) == ("film", 2)
            assert old.manifest.version == 1
        return (await held.state("film")).loaded

    assert run(script, store) == [2]


def test_a_version_that_still_changes_is_left_alone(store):
    """It may be half copied: it is loaded once two looks have found it the same."""
    store.add("film", 1)

    async def script(held):
        await held.start()
        entry = store.add("film", 2)
        for size in range(3):
            (entry / "weights").write_text("x" * (size + 10))
            await held.look()
        before = await answering(held)
        await held.look()
        return before, await answering(held)

    assert run(script, store) == (("film", 1), ("film", 2))
    assert store.loads == [("film", 1), ("film", 2)]


def test_a_version_without_a_manifest_is_none(store):
    """The exporter writes it last."""
    store.add("film", 1)
    (store.add("film", 2) / MANIFEST).unlink()

    async def script(held):
        await held.start()
        await settle(held)
        return await answering(held)

    assert run(script, store) == ("film", 1)
    assert store.loads == [("film", 1)]


@pytest.mark.parametrize(("content", "reason"), [("broken", "film/2/weights is broken"), ("bug", "RuntimeError")])
def test_a_broken_version_is_refused_and_the_old_one_goes_on(store, content, reason):
    """The reason is told, without where the store lies, and the version is not tried again until it changes."""
    store.add("film", 1)

    async def script(held):
        await held.start()
        store.add("film", 2, content)
        await settle(held)
        assert await answering(held) == ("film", 1)
        assert list((await held.state("film")).refused) == [2]
        assert reason in (await held.state("film")).refused[2]
        assert str(store.root) not in (await held.state("film")).refused[2]
        assert store.loads.count(("film", 2)) == 1
        store.add("film", 2, "mended weights")
        await settle(held)
        assert (await held.state("film")).refused == {}
        return await answering(held)

    assert run(script, store) == ("film", 2)


def test_a_served_version_that_is_overwritten_with_a_broken_one_goes_on(store):
    """What is in memory is still the good one."""
    store.add("film", 1)
    store.add("film", 2)

    async def script(held):
        await held.start()
        store.add("film", 2, "broken")
        await settle(held)
        return await answering(held)

    assert run(script, store) == ("film", 2)


def test_removing_a_version_rolls_back(store):
    """The one below takes over."""
    store.add("film", 1)
    removed = store.add("film", 2)

    async def script(held):
        await held.start()
        shutil.rmtree(removed)
        await settle(held)
        return await answering(held)

    assert run(script, store) == ("film", 1)


def test_watching_the_store_finds_a_new_version(store):
    """It is loaded and served without anybody asking for it."""
    store.add("film", 1)

    async def script(held):
        await held.start()
        async with anyio.create_task_group() as group:
            group.start_soon(held.watch, 0.01)
            store.add("film", 2)
            with anyio.fail_after(30):
                while await answering(held) != ("film", 2):
                    await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()

    run(script, store)


def test_a_store_that_goes_away_changes_nothing(store):
    """What is in memory answers."""
    store.add("film", 1)

    async def script(held):
        await held.start()
        shutil.rmtree(store.root)
        await settle(held)
        return await answering(held)

    assert run(script, store) == ("film", 1)


def test_a_broken_highest_version_at_the_start(store):
    """The one below it answers; that the highest is refused is told."""
    store.add("film", 1)
    store.add("film", 2, "broken")

    async def script(held):
        await held.start()
        assert list((await held.state("film")).refused) == [2]
        return await answering(held)

    assert run(script, store) == ("film", 1)


def test_only_broken_versions_are_no_start(store):
    """The reason is that of the highest."""
    store.add("film", 1, "broken")
    store.add("film", 2, "broken")
    with pytest.raises(ArtifactError, match="version 2"):
        run(lambda held: held.start(), store)


def test_other_models_and_versions_are_loaded_when_they_are_asked_for(store):
    """Once, however many ask at the same time."""
    store.add("film", 1)
    store.add("film", 2)
    store.add("leg", 7)

    async def script(held):
        await held.start()
        answers = []

        async def ask(*which):
            answers.append(await answering(held, *which))

        async with anyio.create_task_group() as group:
            for which in (("leg",), ("leg", 7), ("film", 1), ("film", 1), ("leg",), ("film",)):
                group.start_soon(ask, *which)
        return sorted(answers)

    assert run(script, store) == [("film", 1), ("film", 1), ("film", 2), ("leg", 7), ("leg", 7), ("leg", 7)]
    assert store.loads.count(("film", 1)) == 1
    assert store.loads[0] == ("film", 2)


@pytest.mark.parametrize(
    ("which", "reason"),
    [(("hand",), "available: film"), (("../film",), "no model"), (("film", 9), r"available: \[1\]")],
)
def test_what_is_not_in_the_store_is_unknown(store, which, reason):
    """With what there is."""
    store.add("film", 1)

    async def script(held):
        await held.start()
        await answering(held, *which)

    with pytest.raises(UnknownModelError, match=reason):
        run(script, store)


def test_asking_for_a_refused_version_gives_the_reason(store):
    """And does not load it again."""
    store.add("film", 1)
    store.add("leg", 1, "broken")

    async def script(held):
        await held.start()
        for which in (("leg",), ("leg", 1), ("leg", 1)):
            with pytest.raises(ModelRefusedError, match="weights is broken"):
                await answering(held, *which)

    run(script, store)
    assert store.loads.count(("leg", 1)) == 1


def test_memory_holds_a_bounded_number_of_versions(store):
    """The one that was unused for longest makes room; the default model and what is in use never do."""
    for version in range(1, 6):
        store.add("film", version)

    async def script(held):
        await held.start()
        async with held.lease("film", 1):
            for version in (2, 3, 4):
                await answering(held, "film", version)
            during = (await held.state("film")).loaded
        return during, (await held.state("film")).loaded

    assert run(script, store, limit=3) == ([1, 4, 5], [1, 4, 5])


def test_all_models_can_be_loaded_at_the_start(store):
    """A broken one among them is refused, and stops nothing."""
    store.add("film", 1)
    store.add("bad", 1, "broken")
    store.add("leg", 1)
    store.add("leg", 2)

    async def script(held):
        await held.start()
        await held.load_all()
        return {state.name: (state.served, list(state.refused)) for state in await held.states()}

    assert run(script, store) == {"bad": (None, [1]), "film": (1, []), "leg": (2, [])}


def test_manifests_of_models_that_are_not_in_memory_are_read(store):
    """And not loaded for it."""
    store.add("film", 1)
    store.add("leg", 2)
    broken = store.add("hand", 1)
    (broken / MANIFEST).write_text(json.dumps({"name": 5}))

    async def script(held):
        await held.start()
        assert (await held.manifest("film")).version == 1
        assert (await held.manifest("leg")).version == 2
        with pytest.raises(ModelRefusedError, match="manifest"):
            await held.manifest("hand")
        with pytest.raises(UnknownModelError):
            await held.manifest("leg", 3)

    run(script, store)
    assert store.loads == [("film", 1)]
