#!/usr/bin/env python3
"""Times the longest-prefix query of all vendors in SQLite, over the decks that world.py wrote.

    sqlite.py DIR [--queries N]

One table of all rows, its primary key (prefix, vendor); for a number, every vendor's row of its longest prefix,
cheapest first: what a switch asks that routes by SQL. In memory, prepared, nothing else going on.
"""
import argparse
import csv
import glob
import os
import sqlite3
import time


def rows(directory):
    for vendor, path in enumerate(sorted(glob.glob(os.path.join(directory, "vendor-*.csv")))):
        with open(path, encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                yield row["prefix"], vendor, int(row["rate"].replace(".", ""))


QUERY = """
    SELECT vendor, rate, max(length(prefix)) FROM deck
    WHERE prefix IN ({}) GROUP BY vendor ORDER BY rate LIMIT 4
"""


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("dir")
    options.add_argument("--queries", type=int, default=2_000)
    options = options.parse_args()
    base = sqlite3.connect(":memory:")
    base.execute("CREATE TABLE deck(prefix TEXT, vendor INT, rate INT, PRIMARY KEY(prefix, vendor)) WITHOUT ROWID")
    base.executemany("INSERT INTO deck VALUES (?, ?, ?)", rows(options.dir))
    times = []
    with open(os.path.join(options.dir, "traffic.csv"), encoding="utf-8") as traffic:
        for _, line in zip(range(options.queries), traffic):
            number = line.split(",")[0]
            prefixes = [number[:n] for n in range(1, len(number) + 1)]
            query = QUERY.format(",".join("?" * len(prefixes)))
            begun = time.perf_counter_ns()
            base.execute(query, prefixes).fetchall()
            times.append(time.perf_counter_ns() - begun)
    times.sort()
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        print(f"sqlite_{name} {times[int(len(times) * share)]}.000 ns")


main()
