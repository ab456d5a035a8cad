"""What signals mean."""

import signal
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from sp_proxy.supervisor.signals import watch


async def arriving(*numbers: int) -> AsyncIterator[int]:
    for number in numbers:
        yield number


async def told(*numbers: int) -> list[str | int]:
    events: list[str | int] = []
    await watch(arriving(*numbers), events.append, events.append, lambda cause: events.append(f"reload by {cause}"))
    return events


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_first_signal_drains(number):
    assert await told(number) == [number.name]


@pytest.mark.parametrize(
    "numbers, code",
    [
        ((signal.SIGTERM, signal.SIGTERM), 143),
        ((signal.SIGTERM, signal.SIGINT), 130),
    ],
)
async def test_the_second_one_aborts_with_its_exit_code(numbers, code):
    assert await told(*numbers) == [numbers[0].name, code]


async def test_others_mean_nothing():
    with capture_logs() as logs:
        assert await told(signal.SIGUSR1, signal.SIGTERM, signal.SIGUSR2) == ["SIGTERM"]
    assert [(each["event"], each["signal"]) for each in logs] == [
        ("signal_ignored", "SIGUSR1"),
        ("signal_ignored", "SIGUSR2"),
    ]


async def test_sighup_reloads_at_any_time():
    assert await told(signal.SIGHUP, signal.SIGTERM, signal.SIGHUP) == [
        "reload by SIGHUP",
        "SIGTERM",
        "reload by SIGHUP",
    ]
