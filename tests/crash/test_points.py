"""The points at which runs are broken: those of a recording are found again in other runs."""

from points import Calls, Point, points


def test_a_file_that_bears_its_writers_number_is_a_point_of_any_run() -> None:
    """The reserve's name ends with the number of its process, which is another one in each run."""
    lines = [
        f'4711  {kind}("/site/try-1/out/.state/reserve-a-host-7-4711"{rest}) = 5</site/try-1/out/.state/reserve-a-host-7-4711>'
        for kind, rest in (("openat", ", O_WRONLY|O_CREAT"), ("unlink", ""))
    ]
    path = ".state/reserve-a-host-7-{pid}"
    assert points(lines, "/site/try-1/out") == [Point("openat", path, 1, path), Point("unlink", path, 1, path)]


def test_a_run_dies_at_the_calls_for_its_reserve(calls: Calls) -> None:
    """They are met in another process than the one that was recorded."""
    found = [one for one in calls.record() if "reserve" in one.shown]
    assert {one.kind for one in found} >= {"openat", "fallocate", "unlink"}
    for point in found:
        folder = calls.site.fresh()
        killed = calls.site.benches[0].run(folder, strace=calls.inject(point, folder / "out", "signal=KILL"))
        assert killed.code == -9, (point, killed)
