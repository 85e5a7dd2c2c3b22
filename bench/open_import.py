#!/usr/bin/env python3
"""How soon an engine is ready (opened, and the first photo done), and what importing and building cost in time and peak
memory, against the limits: open under one second, peak memory of importing under 1.5 times the file + 128 MB.

    bench/run.sh open
"""
import argparse
import os
import statistics

import measure
from model_files import add_model_options, build_engine, import_model, prepare
from whole_peers import osprey


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--record", action="store_true", help="keep the report in bench/results")
    add_model_options(parser)
    args = parser.parse_args()

    load = os.getloadavg()[0]
    files = prepare(args)
    size = files.checkpoint.stat().st_size
    limit = (1.5 * size + 128e6) / 2**20
    rows, engines = [], {}
    _, seconds, peak = import_model(files)
    rows.append(["import", f"{seconds:.2f}", f"{peak:.0f}", f"{limit:.0f}", "yes" if peak < limit else "**no**"])
    for precision in ("fp32", "bf16"):
        engines[precision], seconds, peak = build_engine(files, precision)
        rows.append([f"build {precision}", f"{seconds:.2f}", f"{peak:.0f}", f"{limit:.0f}", "yes" if peak < limit else "**no**"])
    importing = measure.table(["step", "seconds", "peak MiB", "limit MiB", "holds"], rows)

    rows = []
    for precision, engine in engines.items():
        runs = [osprey(engine, files.photo, args.threads) for _ in range(args.rounds)]
        opened, first, usual = (statistics.median(r[key] for r in runs) for key in ("open", "first", "seconds"))
        rows.append([precision, f"{engine.stat().st_size / 2**20:.0f}", f"{opened * 1e3:.0f}", f"{first * 1e3:.0f}",
                     f"{usual * 1e3:.0f}", f"{(opened + first - usual) * 1e3:.0f}", "yes" if opened + first - usual < 1 else "**no**"])
    opening = measure.table(["engine", "file MiB", "open ms", "first run ms", "later runs ms", "open + what the first run adds, ms",
                             "under one second"], rows)
    text = (measure.conditions(f"bench/run.sh open --rounds {args.rounds}", load)
            + f"\n- Weights: {files.description}; the file has {size / 2**20:.0f} MiB. Each line is a fresh process.\n\n{importing}\n\n"
              f"Ready to run (the first run prepares the kernels for the photo's size; medians of {args.rounds}):\n\n{opening}")
    measure.publish("open-import", "Importing, building and opening Mask R-CNN R50-FPN", text, args.record)


if __name__ == "__main__":
    main()
