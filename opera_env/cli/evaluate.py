"""``opera-env evaluate``: agents and toolboxes on a benchmark."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from opera_env.answer import AnswerGrammar
from opera_env.cli.compare_names import choose_agents
from opera_env.cli.evaluate_files import EvaluationFiles
from opera_env.cli.options.evaluate import Evaluate
from opera_env.cli.outputs import progress_bars
from opera_env.cli.program import EXIT_FAILED
from opera_env.cli.toolboxes import ToolboxLoader
from opera_env.cluster import Cluster
from opera_env.console import Console
from opera_env.errors import MissingWeightsError, ResultsError, SettingError, ToolboxError
from opera_env.evaluation.benchmarks import Benchmark, BenchmarkOptions, load_benchmark
from opera_env.evaluation.benchmarks.benchmark import UNKNOWN
from opera_env.evaluation.best_plans import read_best_plans
from opera_env.evaluation.evaluate import evaluate
from opera_env.evaluation.on_cluster import evaluate_on_cluster
from opera_env.evaluation.protocols import ColumnMetrics
from opera_env.evaluation.records import EvaluationConfig
from opera_env.evaluation.results import Result, check_reward, numbered_results
from opera_env.evaluation.stored_answers import read_answers, summarise_answers
from opera_env.evaluation.stored_plans import StoredPlan, judge_plans, read_plans, reverify
from opera_env.evaluation.summary import Summary, summarise_results
from opera_env.evaluation.table_formats import to_rich
from opera_env.evaluation.tables import combination_table, make_tables
from opera_env.evaluation.toolbox_runner import ToolboxRunner
from opera_env.runs.identity import identify_toolbox
from opera_env.tools import Toolbox

Progress = Callable[[int, int], None]


def run(options: Evaluate) -> int:
    """Evaluates, writes and prints; returns the exit code."""
    console = Console(highlight=False, markup=False)
    if options.reverify:
        return _reverify(options, console)
    files = EvaluationFiles(options)
    best = None if options.best is None else read_best_plans(options.best)
    if options.read:
        results = [result for path in options.read for _, result in numbered_results(path)]
    else:
        results = _results(options, files, console)
    summary = summarise_results(results, options.protocol, best, options.seed)
    printed = files.write_tables(summary)
    if not printed:
        _print_tables(console, summary)
        for answers in summarise_answers(results):
            console.print(str(answers), soft_wrap=True)
    for path, content in files.written.items():
        Console(stderr=printed, markup=False, highlight=False).print(f"{content}: {path}", soft_wrap=True)
    if files.errors:
        raise files.errors[0]
    return 0


def _results(options: Evaluate, files: EvaluationFiles, console: Console) -> list[Result]:
    """Runs agents or stored plans on the benchmark, and writes the results."""
    benchmark = load_benchmark(options.benchmark, _benchmark_options(options))
    options = _with_rewards(options, benchmark)
    notices = Console(stderr=True, highlight=False, markup=False)
    runners = _make_runners(options, benchmark, notices)
    path = options.plans or options.answers
    stored = [() if path is None else _read_stored(options, benchmark, runner) for runner in runners]
    with files.partial(benchmark, options) as kept, _progress() as progress:
        if path is None:
            if options.ray is not None and kept is not None:
                cluster = Cluster(options.ray, options.ray_workers, options.ray_gpus)
                make = partial(_make_work, options)
                evaluate_on_cluster(benchmark, runners, kept, make, cluster, progress)
            results = evaluate(benchmark, runners, kept, progress)
        else:
            results = [
                result
                for runner, plans in zip(runners, stored, strict=True)
                for result in judge_plans(plans, path, benchmark, runner, kept, progress)
            ]
        files.write_results(results)
    return results


def _read_stored(options: Evaluate, benchmark: Benchmark, runner: ToolboxRunner) -> list[StoredPlan]:
    """Reads the plans or the answers that are judged in place of agents."""
    if options.answers is None:
        assert options.plans is not None
        return read_plans(options.plans, benchmark)
    labels = benchmark.source.degradations
    grammar = AnswerGrammar(runner.toolbox.names, labels, options.max_tools)
    return read_answers(options.answers, benchmark, grammar)


def _make_work(options: Evaluate) -> tuple[Benchmark, list[ToolboxRunner]]:
    """Makes benchmark and runners in a worker process of a cluster."""
    benchmark = load_benchmark(options.benchmark, _benchmark_options(options))
    return benchmark, _make_runners(options, benchmark, Console(quiet=True))


def _benchmark_options(options: Evaluate) -> BenchmarkOptions:
    return BenchmarkOptions(options.hq, options.lq, options.n, options.canvas, options.depth, options.seed)


def _with_rewards(options: Evaluate, benchmark: Benchmark) -> Evaluate:
    """Returns the options with the reward and the judge that they leave open."""
    reward = options.reward
    if reward is None:
        has_reference = benchmark.make(benchmark.samples[0]).reference is not None
        reward = "lite" if has_reference else "no_reference"
    return replace(options, reward=reward, judge=options.judge or reward)


def _load_toolboxes(
    names: Sequence[str], options: Evaluate, optional: Sequence[str] = ()
) -> dict[str, tuple[str, Toolbox]]:
    """Returns the toolboxes by the names that results give them, each with the name it was loaded by.

    Args:
        names: Names and folders.
        options: The device, and whether code is trusted.
        optional: Names that files of results give; those that are not here are left out.
    """
    loader = ToolboxLoader(options)
    loaded: dict[str, tuple[str, Toolbox]] = {}
    for name in dict.fromkeys([*names, *optional]):
        try:
            toolbox = loader.load(name, options.trust_code and name in names)
        except (ToolboxError, MissingWeightsError):
            if name in names:
                raise
            continue
        label = identify_toolbox(name, toolbox.fingerprint)["name"]
        if label in loaded:
            raise SettingError("toolboxes", name, f"another folder; results would call two of them {label}")
        loaded[label] = name, toolbox
    return loaded


def _names(text: str) -> list[str]:
    return [name for part in text.split(",") if (name := part.strip())]


def _make_runners(options: Evaluate, benchmark: Benchmark, notices: Console) -> list[ToolboxRunner]:
    """Makes the agents of all toolboxes, so that a name that is no agent costs no time."""
    config = EvaluationConfig(
        reward=options.reward or "lite",
        max_tools=options.max_tools,
        tool_cost=options.tool_cost,
        num_plans=options.num_plans,
        seed=options.seed,
    )
    has_labels = all(sample.combination != UNKNOWN for sample in benchmark.samples)
    columns = ColumnMetrics()
    runners: list[ToolboxRunner] = []
    for label, (name, toolbox) in _load_toolboxes(_names(options.toolboxes), options).items():
        agents: Sequence[str] = ()
        has_stored = options.plans is not None or options.answers is not None
        if not has_stored and options.agents is None and benchmark.agents:
            agents = benchmark.agents
        elif not has_stored:
            agents = choose_agents(options.agents, name, has_labels, toolbox, notices)
        judge = options.judge or "lite"
        runners.append(ToolboxRunner(label, toolbox, agents, config, judge, columns, options.budget))
    return runners


@contextmanager
def _progress() -> Iterator[Progress]:
    """Yields a function that shows how many work items are done."""
    with progress_bars() as bars:
        task = bars.add_task("results")
        yield lambda done, total: bars.update(task, completed=done, total=total)


def _print_tables(console: Console, summary: Summary) -> None:
    """Prints the tables; those by combination only if there is one entry."""
    by_combination = {
        table.title for entry in summary.entries if (table := combination_table(summary, entry))
    }
    for table in make_tables(summary):
        if table.title in by_combination and len(summary.entries) > 1:
            continue
        console.print(table.title, style="bold", soft_wrap=True)
        console.print_uncut(to_rich(table))
        for note in table.notes:
            console.print(note, style="dim", soft_wrap=True)


def _reverify(options: Evaluate, console: Console) -> int:
    """Runs the plans of files again, and prints what has moved; returns the exit code."""
    columns, failed = ColumnMetrics(), 0
    for path in options.reverify:
        results = numbered_results(path)
        rewards = {(result.benchmark, result.reward, result.judge) for _, result in results}
        if len(rewards) > 1:
            raise ResultsError(
                f"{path}: expected results of one benchmark, reward and judge, found several: split it."
            )
        name, reward, judge = rewards.pop()
        for option, named in (("reward", reward), ("judge", judge)):
            check_reward(named, getattr(options, option), option, str(path))
        benchmark = load_benchmark(name, _benchmark_options(options))
        known = [result.toolbox for _, result in results if "/" not in result.toolbox]
        toolboxes = _load_toolboxes(_names(options.toolboxes), options, known)
        config = EvaluationConfig(reward=reward)
        runners = [
            ToolboxRunner(label, toolbox, (), config, judge, columns)
            for label, (_, toolbox) in toolboxes.items()
        ]
        with _progress() as progress:
            findings = reverify(results, benchmark, runners, options.tolerance, progress)
        for finding in findings:
            console.print(f"{path}, line {finding.line}: {finding.what}", soft_wrap=True)
        failed += len(findings)
        if not findings:
            console.print(f"{path}: {len(results)} results verified", soft_wrap=True)
    return EXIT_FAILED if failed else 0
