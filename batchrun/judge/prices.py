"""What an answer cost: one price a request, decided once, when it comes, by one rule. Exact, in pico-dollars (money.py).

The rule: the job's own price for the model that was asked; else the price list's for it, where the endpoint is one that
the list knows; else the price of the model that answered. A server on loopback or in a private network is never billed at
a cloud's price. What has no known price has no cost, never one of zero.
"""

import time
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from batchrun.clock import Clock
from batchrun.errors import EndpointError
from batchrun.judge.catalogue import STANDARD_TIERS, Listed, endpoint_of, listed
from batchrun.judge.local import is_local
from batchrun.judge.rates import Rate, own_rate
from batchrun.money import Cost
from batchrun.records import Answer, Complete, Request, Usage
from batchrun.sections import Price

_REMEMBERED = 4096
_MINUTE_S = 60.0


class Bill(NamedTuple):
    """What was paid, None where no price is known; where the price is from, or why there is none (None: not known)."""

    cost: Cost | None
    source: str | None


class _Place(NamedTuple):
    """An endpoint as the rule sees it: whether it is local, and the provider whose it is, if the list knows that."""

    host: str
    is_local: bool
    provider: str | None


class Prices:
    """`own` are the job's prices by model, `endpoints` the URLs of its endpoints by name. Can be pickled."""

    def __init__(self, own: Mapping[str, Price], endpoints: Mapping[str, str]) -> None:
        self._own = dict(own)
        self._endpoints = dict(endpoints)
        self._forget()

    def _forget(self) -> None:
        self._places: dict[str, _Place] = {}
        self._picked: dict[tuple[str, str | None, str | None], Price | Listed | str | None] = {}
        self._rates: dict[tuple[Any, ...], Rate | None] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Prices, (self._own, self._endpoints)

    def rate(self, endpoint: str, model: str, tier: str | None = None, at_s: float | None = None) -> Rate | None:
        """What a request to an endpoint will be billed at, as far as that is known before anybody has answered: the
        answering model is taken to be the one that is asked. `at_s` is in seconds since the epoch, None for now.
        """
        found = self._pick(endpoint, model, model)
        if found is None or isinstance(found, str):
            return None
        return self._rate((endpoint, model, model), found, tier, time.time() if at_s is None else at_s)

    def bill(self, endpoint: str, asked: str | None, answered: str | None, usage: Usage, at_s: float) -> Bill:
        """What an answer cost. `at_s` is when it was given, in seconds since the epoch."""
        found = self._pick(endpoint, asked, answered)
        if found is None or isinstance(found, str):
            return Bill(None, found)
        rate = self._rate((endpoint, asked, answered), found, usage.service_tier, at_s)
        if rate is None and isinstance(found, Listed):
            return Bill(None, f"none: {found.source} has no price for tier {usage.service_tier}")
        cost = None if rate is None else rate.cost(usage)
        return Bill(cost, None if cost is None or rate is None else rate.source)

    def _pick(self, endpoint: str, asked: str | None, answered: str | None) -> Price | Listed | str | None:
        """The price by the rule, or why there is none."""
        key = (endpoint, asked, answered)
        if key not in self._picked:
            if len(self._picked) > _REMEMBERED:  # an endpoint that gives each answer another name
                self._forget()
            self._picked[key] = self._decide(self._place(endpoint), asked, answered)
        return self._picked[key]

    def _decide(self, place: _Place, asked: str | None, answered: str | None) -> Price | Listed | str | None:
        if asked is not None and (own := self._own.get(asked)) is not None:
            return own
        known = not place.is_local and place.provider is not None
        if known and asked is not None and (found := listed(asked, place.provider)) is not None:
            return found
        if answered is not None and (own := self._own.get(answered)) is not None:
            return own
        if not place.is_local:
            return None if answered is None else listed(answered, place.provider)
        if any(model is not None and listed(model, None) is not None for model in (asked, answered)):
            return f"none: {place.host} is this machine or in a private network, where no cloud's price holds"
        return None

    def _place(self, endpoint: str) -> _Place:
        if endpoint not in self._places:
            url = self._endpoints.get(endpoint, endpoint)
            local = is_local(url)
            self._places[endpoint] = _Place(endpoint, local, None if local else endpoint_of(url))
        return self._places[endpoint]

    def _rate(self, key: tuple[Any, ...], found: Price | Listed, tier: str | None, at_s: float) -> Rate | None:
        varies = isinstance(found, Listed) and found.varies
        minute = at_s // _MINUTE_S if varies else None
        place = (*key, tier, minute)
        if place not in self._rates:
            if len(self._rates) > _REMEMBERED:
                self._rates.clear()
            self._rates[place] = found.rate(tier, at_s) if isinstance(found, Listed) else _stated(found, tier)
        return self._rates[place]


class Billed:
    """A client of one endpoint whose attempts come with what they cost: answers, and faults whose usage was stated.

    What is known to have been billed is not unconfirmed any more. Without a known price it stays what it was.
    """

    def __init__(self, client: Complete, prices: Prices, endpoint: str, clock: Clock) -> None:
        self._client = client
        self._prices = prices
        self._endpoint = endpoint
        self._clock = clock

    async def complete(self, request: Request) -> Answer:
        """One attempt. Raises EndpointError."""
        try:
            answer = await self._client(request)
        except EndpointError as error:
            if error.usage is not None:
                error.cost, error.price_source = self._bill(request, error.model, error.usage)
                error.unconfirmed = error.unconfirmed and error.cost is None
            raise
        cost, source = self._bill(request, answer.model, answer.usage)
        return msgspec.structs.replace(answer, cost=cost, price_source=source)

    def _bill(self, request: Request, answered: str | None, usage: Usage) -> Bill:
        return self._prices.bill(self._endpoint, request.model, answered, usage, self._clock.epoch())


def _stated(price: Price, tier: str | None) -> Rate:
    """A job's own price: at the tier's factor, and as it is stated for a tier that it doesn't name."""
    rate = own_rate(price)
    if tier is None or tier.lower() in STANDARD_TIERS:
        return rate
    factor = price.tiers.get(tier, price.tiers.get(tier.lower()))
    if factor is None:
        return rate.times(Decimal(1), f"job (tier {tier} as stated)")
    return rate.times(Decimal(repr(factor)), f"job (tier {tier})")
