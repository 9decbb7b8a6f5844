"""The threads that work is done in."""

from threadpoolctl import ThreadpoolController, threadpool_limits

from app.serving.workers import Workers


def algebra_threads():
    return [pool["num_threads"] for pool in ThreadpoolController().select(user_api="blas").info()]


def test_linear_algebra_has_one_thread_while_they_are_open():
    """Its own threads would take whole cores from the model; what was set before is set again afterwards."""
    with threadpool_limits(2, user_api="blas"):
        before = algebra_threads()
        with Workers(2):
            assert set(algebra_threads()) == {1}
        assert algebra_threads() == before
