"""Where a service's time goes, by its own metrics."""

from scripts.benchmarks.stages import stage_times
from tests.pictures import encoded, noise


def test_each_stage_has_its_mean(real_client):
    """Of what was asked in the block only; a prediction draws nothing."""
    film = encoded(noise(512, 512))
    with stage_times(real_client) as explained:
        assert real_client.post("/explain", content=film).status_code == 200
    assert explained.keys() == {"decode", "queue", "inference", "render"}
    assert all(milliseconds > 0 for milliseconds in explained.values())
    with stage_times(real_client) as predicted:
        assert real_client.post("/predict", content=film).status_code == 200
    assert predicted.keys() == {"decode", "queue", "inference"}
