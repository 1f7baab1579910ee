"""The paper's benchmark on your dataset: `run_benchmark(dataset, out, parse_requests(["all"]))`.

Every method makes alphas of the validation sets, which are measured like those of `p3mnet evaluate`, and is timed on
one picture of 512x512. One that cannot run, or fails, says why; the others go on.
"""

from p3mnet.benchmark.results import Benchmark, MethodResult
from p3mnet.benchmark.run import BenchmarkPlan, run_benchmark

__all__ = ["Benchmark", "BenchmarkPlan", "MethodResult", "run_benchmark"]
