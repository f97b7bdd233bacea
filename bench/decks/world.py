#!/usr/bin/env python3
"""Writes a world of rate decks: real prefixes, invented prices, on a seed.

Prefixes come from the tables of the `phonenumbers` package (pip install phonenumbers; Apache-2.0, see
NOTICE): geographic areas, carriers and time zones, over 300,000 of them. Prices are drawn: a level per
country and kind of number, a deviation per vendor and destination.

    world.py OUT [--prefixes N] [--vendors 50] [--customers 3] [--calls 1000000] [--seed 1]

writes OUT/vendor-NN.csv, OUT/customer-NN.csv and OUT/traffic.csv (number,seconds; Zipf over destinations).
"""
import argparse
import hashlib
import os
import random


def prefixes():
    """Every prefix with the destination it belongs to."""
    from phonenumbers.carrierdata import CARRIER_DATA
    from phonenumbers.geodata import GEOCODE_DATA
    from phonenumbers.tzdata import TIMEZONE_DATA

    found = {}
    for kind, table in (("zone", TIMEZONE_DATA), ("area", GEOCODE_DATA), ("mobile", CARRIER_DATA)):
        for prefix, names in table.items():
            name = names.get("en") or next(iter(names.values())) if isinstance(names, dict) else names[0]
            found[prefix] = (kind, name)
    return found


def unit(*parts):
    """A number in 0..1 that depends on nothing but its arguments."""
    digest = hashlib.blake2b("|".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def level(seed, prefix, kind, name):
    """The market's price of a destination, per minute."""
    country = unit(seed, "country", prefix[:2])
    own = unit(seed, "destination", kind, name)
    return (0.002 + 0.25 * country**3) * (2.0 if kind == "mobile" else 1.0) * (0.7 + 0.6 * own)


def quoted(text):
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\n') else text


INTERVALS = ("1/1", "60/1", "60/60", "30/6", "6/6")


def deck(seed, who, table, share, factor):
    """Rows of one vendor's or customer's deck."""
    interval = INTERVALS[int(unit(seed, who, "interval") * len(INTERVALS))]
    prices = {}
    for prefix, kind, name, price in table:
        if unit(seed, who, prefix) >= share:
            continue
        key = (kind, name)
        rate = prices.get(key)
        if rate is None:
            rate = prices[key] = f"{price * factor * (0.8 + 0.4 * unit(seed, who, 'price', *key)):.4f}"
        yield f"{prefix},{quoted(name)},{rate},{interval},2026-01-01\n"


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("out")
    options.add_argument("--prefixes", type=int, default=0, help="only so many, evenly spaced")
    options.add_argument("--vendors", type=int, default=50)
    options.add_argument("--customers", type=int, default=3)
    options.add_argument("--calls", type=int, default=1_000_000)
    options.add_argument("--seed", type=int, default=1)
    options = options.parse_args()
    os.makedirs(options.out, exist_ok=True)
    found = sorted(prefixes().items())
    if options.prefixes:
        step = max(1, len(found) // options.prefixes)
        found = found[::step][: options.prefixes]
    seed = options.seed
    table = [(p, kind, name, level(seed, p, kind, name)) for p, (kind, name) in found]
    rows = 0
    parties = [(f"vendor-{n:02}", 0.67, 1.0) for n in range(1, options.vendors + 1)]
    parties += [(f"customer-{n:02}", 1.1, 1.15 + n / 50) for n in range(1, options.customers + 1)]
    for who, share, factor in parties:
        with open(os.path.join(options.out, f"{who}.csv"), "w", encoding="utf-8") as out:
            out.write("prefix,destination,rate,billing increment,effective date\n")
            for line in deck(seed, who, table, share, factor):
                out.write(line)
                rows += 1
    draw = random.Random(seed)
    order = list(range(len(table)))
    draw.shuffle(order)
    with open(os.path.join(options.out, "traffic.csv"), "w", encoding="utf-8") as out:
        for _ in range(options.calls):
            # Zipf with exponent 1: the inverse of its cumulative distribution.
            rank = int(len(order) ** draw.random()) - 1
            prefix = table[order[rank]][0]
            digits = max(0, draw.randint(10, 13) - len(prefix))
            number = prefix + "".join(draw.choice("0123456789") for _ in range(digits))
            out.write(f"{number},{1 + int(draw.expovariate(1 / 180))}\n")
    print(f"{len(table)} prefixes, {rows} rows, {options.calls} calls in {options.out}")


main()
