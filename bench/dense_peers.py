#!/usr/bin/env python3
"""Times the dense part of R50-FPN (trunk, pyramid, RPN head; 1x3x800x1344, random weights) on Osprey, OpenVINO, ONNX Runtime
and PyTorch in one run: the programs stay loaded and take turns, one timed run each in every round.

    bench/run.sh dense
"""
import argparse
import os
import statistics
import sys
import tempfile

import dense_network
import measure


def openvino(file, precision, threads):
    import openvino as ov
    core = ov.Core()
    compiled = core.compile_model(file, "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads,
                                                "INFERENCE_PRECISION_HINT": precision})
    request, image = compiled.create_infer_request(), ov.Tensor(dense_network.random_image())
    request.set_input_tensor(image)
    request.infer()
    return lambda: request.infer(), sum(float(abs(out).mean()) for out in request.results.values())


def onnxruntime(file, threads):
    import onnxruntime as ort
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    feed = {"image": dense_network.random_image()}
    return lambda: session.run(None, feed), sum(float(abs(out).mean()) for out in session.run(None, feed))


def pytorch(precision, threads):
    import torch
    torch.set_num_threads(threads)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    net, image = dense_network.TorchNet(dtype), torch.from_numpy(dense_network.random_image())

    def run():
        with torch.inference_mode():
            return dense_network.network(net, image.to(dtype).to(memory_format=torch.channels_last))
    return run, sum(float(out.float().abs().mean()) for out in run())


def worker(args):
    name, precision = args.worker.split("-")
    run, checksum = {"openvino": lambda: openvino(args.onnx, precision, args.threads),
                     "onnxruntime": lambda: onnxruntime(args.onnx, args.threads),
                     "pytorch": lambda: pytorch(precision, args.threads)}[name]()
    measure.serve(checksum, run)


def start(onnx_file, args):
    """{"osprey f32": Worker, ...}, and one that measures the processor for each precision."""
    workers = {}
    for precision in args.precision:
        dense = [measure.program("bench/bench_dense"), dense_network.HEIGHT, dense_network.WIDTH, 0, args.threads, -1, precision]
        workers[f"osprey {precision}"] = measure.Worker(dense, args.threads)
        for name in args.peers:
            if name == "onnxruntime" and precision == "bf16":
                continue  # its CPU provider has no bf16 convolution
            command = [sys.executable, __file__, "--worker", f"{name}-{precision}", "--onnx", onnx_file, "--threads", args.threads]
            workers[f"{name} {precision}"] = measure.Worker(command, args.threads)
        peak = [measure.program("bench/bench_peak"), args.threads, precision]
        workers[f"peak {precision}"] = measure.Worker(peak, args.threads)
    return workers


def check_agreement(workers, gflop):
    """The peers compute the same function, and Osprey's network has as many operations: else the work differs."""
    for precision, tolerance in (("f32", 1e-3), ("bf16", 5e-2)):
        sums = {n: w.greeting for n, w in workers.items() if n.endswith(" " + precision) and not n.startswith(("osprey", "peak"))}
        if sums and max(sums.values()) > (1 + tolerance) * min(sums.values()):
            raise SystemExit(f"the peers' outputs differ: {sums}")
    for name, w in workers.items():
        if name.startswith("osprey") and abs(w.greeting - gflop) > 0.01 * gflop:
            raise SystemExit(f"{name} runs {w.greeting} GFLOP, the peers {gflop}")


def report(figures, processor, gflop):
    peaks = {p: max(figures[f"peak {p}"]) for p in ("f32", "bf16") if f"peak {p}" in figures}
    rows, verdicts = [], []
    for name, seconds in figures.items():
        program, precision = name.split()
        if program == "peak":
            continue
        ours = figures[f"osprey {precision}"]
        median, best = statistics.median(seconds), min(seconds)
        floor = gflop / peaks[precision]
        ratio = measure.median_of_ratios(seconds, ours)
        rows.append([name, f"{median * 1e3:.0f}", f"{best * 1e3:.0f}", f"{min(processor[name]) * 1e3:.0f}", f"{gflop / best:.0f}", f"{best / floor:.2f} x", f"{ratio:.2f} x",
                     f"{best / min(ours):.2f} x"])
        if program in ("openvino", "onnxruntime"):
            verdicts.append(f"- {name}: median ratio {ratio:.2f}, "
                            + ("Osprey is not slower." if ratio >= 1 else "**Osprey is slower.**"))
    columns = ["program", "median ms", "best ms", "processor ms", "best GFLOP/s", "best / floor", "median ratio to osprey", "ratio of the bests"]
    floors = ", ".join(f"{p} {peak:.0f} GFLOP/s (floor {gflop / peak * 1e3:.0f} ms)" for p, peak in peaks.items())
    rounds = {name: " ".join(f"{s:.3f}" for s in seconds) for name, seconds in figures.items() if not name.startswith("peak")}
    return "\n".join([measure.table(columns, rows), "",
                      f"The network has {gflop:.1f} GFLOP; the processor's best in this run: {floors}. "
                      "These are the operations of the definition: with Winograd's algorithm a program needs fewer and may pass the floor.", "", *verdicts, "",
                      "Seconds of every round:", "", *(f"- {name}: {text}" for name, text in rounds.items())])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--precision", nargs="+", default=["f32", "bf16"], choices=["f32", "bf16"])
    parser.add_argument("--peers", nargs="+", default=["openvino", "onnxruntime", "pytorch"])
    parser.add_argument("--record", action="store_true", help="keep the report in bench/results")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--onnx", help=argparse.SUPPRESS)
    parser.add_argument("--write-onnx", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.write_onnx:
            return print(dense_network.write_onnx(args.write_onnx))
    if args.worker:
        return worker(args)

    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        onnx_file = os.path.join(folder, "dense.onnx")
        gflop = float(measure.run_once([sys.executable, __file__, "--write-onnx", onnx_file])[0])
        workers = start(onnx_file, args)
        check_agreement(workers, gflop)
        figures = measure.take_turns(workers, args.rounds)
    processor = {name: w.processor_seconds for name, w in workers.items()}
    for w in workers.values():
        w.close()
    text = (measure.conditions(f"bench/run.sh dense --rounds {args.rounds}", load)
            + f"\n- Every program has {args.threads} threads and one image; a round is one timed run of each, in turn.\n\n"
            + report(figures, processor, gflop))
    measure.publish("dense", "Dense part of R50-FPN at 800x1344 against peers", text, args.record)


if __name__ == "__main__":
    main()
