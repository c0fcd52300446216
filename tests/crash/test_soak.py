"""The long tests' budget: a seed draws the same trials again, and time that is up is said once."""

import os
import tempfile

from soak import Soak


def drawn(seed: int, share_s: float) -> tuple[list[int], str]:
    with tempfile.TemporaryFile() as said:
        found = list(Soak("a test", seed, share_s, said.fileno()).drawn(range(100)))
        return found, os.pread(said.fileno(), 4096, 0).decode()


def test_a_seed_draws_the_same_trials_in_the_same_order() -> None:
    """All of them where there is time, and others first with another seed."""
    (once, said), (again, _), (other, _) = drawn(1, 60.0), drawn(1, 60.0), drawn(2, 60.0)
    assert once == again != other
    assert sorted(once) == list(range(100))
    assert said == ""


def test_no_trial_begins_once_the_time_is_up() -> None:
    """It is said then how many there were."""
    found, said = drawn(1, 0.0)
    assert found == []
    assert said.strip() == "soak: a test: trial 0 of 100, 0 of 0 s"
